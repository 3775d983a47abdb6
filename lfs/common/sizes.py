"""Sizes in bytes, as people write and read them: one way for all commands and fault plans.

As for the tools of coreutils and util-linux, ``K`` and ``KiB`` are 1024 bytes and
``KB`` is 1000, and so on up to ``E``; capital letters or not makes no difference.
"""

from __future__ import annotations

import re

EXPECTED = "a size such as 4096, 512K, 1.5G, 1GiB or 10GB (K and KiB are 1024, KB is 1000)"
"""What a text that is no size is answered with."""
HELP = "in bytes, or with a unit: 512K, 1.5G, 1GiB (1024s), 10GB (1000s)"
"""What help texts say of sizes."""

_SIZE = re.compile(r"([0-9]*)(?:\.([0-9]*))?([a-z]*)", re.ASCII | re.IGNORECASE)
_PREFIXES = "KMGTPE"
_UNITS: dict[str, int] = {"": 1, "B": 1}
for _power, _prefix in enumerate(_PREFIXES, 1):
    _UNITS |= {_prefix: 1 << 10 * _power, f"{_prefix}IB": 1 << 10 * _power}
    _UNITS[f"{_prefix}B"] = int(10 ** (3 * _power))


def parse_size(text: str) -> int:
    """Return the bytes of "1048576", "1024K", "1.5G", "1GiB", ...; raises ValueError."""
    match = _SIZE.fullmatch(text)
    unit_bytes = _UNITS.get(match[3].upper()) if match else None
    if match is None or unit_bytes is None or not (match[1] or match[2]):
        raise ValueError(f"{text!r} is not {EXPECTED}")
    fraction = match[2] or ""
    digits = int(f"{match[1]}{fraction}")
    size_bytes, rest = divmod(digits * unit_bytes, int(10 ** len(fraction)))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """Return a size for people, exact when it is a whole number of a unit: "8 MiB"."""
    for power in range(len(_PREFIXES), 0, -1):
        unit_bytes = 1 << 10 * power
        if size_bytes >= unit_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes} {_PREFIXES[power - 1]}iB"
    return f"{size_bytes} bytes"
