"""How many requests of each kind the kernel has sent since the mount.

The root's attribute has a line ``kind count`` for each.  Requests for attributes of this
package are not counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping

REQUESTS_ATTRIBUTE = b"system.lfs.requests"


def format_counts(counts: Mapping[str, int]) -> bytes:
    """Return the value of the attribute."""
    return "".join(f"{kind} {count}\n" for kind, count in sorted(counts.items())).encode()


def read_counts(directory: str) -> Counter[str]:
    """Return how many requests of each kind there have been.

    Raises OSError: EOPNOTSUPP when ``directory`` is not on an lfs.
    """
    text = os.getxattr(directory, REQUESTS_ATTRIBUTE).decode()
    return Counter({kind: int(count) for kind, count in map(str.split, text.splitlines())})
