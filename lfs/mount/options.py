"""The options of ``mount.lfs -o``, and what mount(8) and fstab add to them.

An option either means something to lfs, or to the kernel, or is a note of
mount(8) to itself that is ignored, or is refused by name.  What the kernel may
know of a mount is chosen here too: permissions are checked by the kernel always
(``default_permissions``; the core checks none), and a mount by root behaves as
that of any disk filesystem does, open to all users and with set-id bits and
device nodes, unless options say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lfs.common.sizes import format_size, parse_size
from lfs.volume.options import Options

COMMIT_SECONDS_DEFAULT = 5.0
COMMIT_SECONDS_MIN = 0.01
MEMORY_BYTES_DEFAULT = Options().memory_bytes_max
MEMORY_BYTES_MIN = Options().memory_bytes_min
_MEMORY_BYTES_MAX = (1 << 63) - 1
ATIME_MODES = ("relatime", "noatime", "strictatime")
CLEANER_POLICIES = ("cost-benefit", "greedy")
ERROR_POLICIES = ("remount-ro", "continue", "panic")
CPU_LATENCIES = ("auto", "low", "any")

# Pairs that the kernel knows; the last one of a pair counts.
_SWITCHES = {
    "suid": "suid",
    "nosuid": "suid",
    "dev": "dev",
    "nodev": "dev",
    "exec": "exec",
    "noexec": "exec",
    "sync": "sync",
    "async": "sync",
    "dirsync": "dirsync",
    "symfollow": "symfollow",
    "nosymfollow": "symfollow",
}
_KERNEL_FLAGS = ("allow_other", "allow_root", "auto_unmount", "blkdev")
_KERNEL_VALUES = ("fsname", "subtype")
_FAULT_VALUES = {"fault": "plan", "fault_log": "log", "fault_control": "control"}
_NEGLIGIBLE = {
    *("defaults", "auto", "noauto", "nouser", "nofail", "_netdev", "default_permissions"),
    *("silent", "loud", "nomand", "noiversion", "nolazytime", "norelatime", "nostrictatime"),
    "seclabel",
}
# The last four are the kernel's, which mount(8) repeats when it remounts.
_NEGLIGIBLE_VALUES = ("comment", "uhelper", "helper", "user_id", "group_id", "rootmode", "blksize")
# What mount(8) says these imply.
_IMPLIED = {
    "user": ("nosuid", "nodev", "noexec"),
    "users": ("nosuid", "nodev", "noexec"),
    "owner": ("nosuid", "nodev"),
    "group": ("nosuid", "nodev"),
}


# What a remount can change; everything else is as it was when the mount began.
_DIRATIME = ("nodiratime", "diratime")
_CHANGEABLE = {"remount", "ro", "rw", "commit", "cleaner", "atime", *ATIME_MODES, *_DIRATIME}


class OptionError(Exception):
    """An option that is refused; the text names it."""


@dataclass
class FaultOptions:
    """The faulty disk that a mount was asked for; paths are absolute once a mount begins."""

    plan: str = ""
    """In the language of FAULTS.md, or ``@FILE``; empty for a good disk."""
    log: str = ""
    control: str = ""


class Change(NamedTuple):
    """What a remount asks of the daemon; None leaves a choice alone."""

    read_only: bool | None = None
    atime: str | None = None
    directory_atime: bool | None = None
    commit_seconds: float | None = None
    cleaner: str | None = None

    def text(self) -> str:
        """Return the options that ask for this."""
        parts = [
            *([] if self.read_only is None else ["ro" if self.read_only else "rw"]),
            *([] if self.atime is None else [self.atime]),
            *([] if self.directory_atime is None else [_DIRATIME[self.directory_atime]]),
            *([] if self.commit_seconds is None else [f"commit={self.commit_seconds:g}"]),
            *([] if self.cleaner is None else [f"cleaner={self.cleaner}"]),
        ]
        return ",".join(parts)


@dataclass
class MountOptions:
    """What a mount was asked for."""

    remount: bool = False
    read_only: bool = False
    atime: str = "relatime"
    directory_atime: bool = True
    commit_seconds: float = COMMIT_SECONDS_DEFAULT
    recovery: bool = True
    cleaner: str = "cost-benefit"
    errors: str = "remount-ro"
    debug: bool = False
    writeback_cache: bool = False
    memory_bytes: int = MEMORY_BYTES_DEFAULT
    cpu_latency: str = "auto"
    fault: FaultOptions = field(default_factory=FaultOptions)
    kernel: dict[str, str] = field(default_factory=dict)
    """Options for the kernel by what they are about, so that the last of a kind counts."""
    given: list[str] = field(default_factory=list, compare=False)
    """Every option that is known, as it was written."""

    def change(self) -> Change:
        """Return what the options ask a running daemon for, of what was really given."""
        names = self._given_names()
        return Change(
            read_only=self.read_only if names & {"ro", "rw"} else None,
            atime=self.atime if names & {"atime", *ATIME_MODES} else None,
            directory_atime=self.directory_atime if names & {*_DIRATIME} else None,
            commit_seconds=self.commit_seconds if "commit" in names else None,
            cleaner=self.cleaner if "cleaner" in names else None,
        )

    def fixed(self) -> list[str]:
        """Return the given options that no remount can change."""
        changeable = {*_CHANGEABLE, *_SWITCHES, *_IMPLIED, *_NEGLIGIBLE, *_NEGLIGIBLE_VALUES}
        return [
            option
            for option in self.given
            if not (_is_comment(option) or option.partition("=")[0] in changeable)
        ]

    def _given_names(self) -> set[str]:
        return {option.partition("=")[0] for option in self.given}

    def kernel_options(self, target: str, privileged: bool) -> set[str]:
        """Return what goes to libfuse; ``privileged`` mounts get what only root may have."""
        chosen = {
            "fsname": f"fsname={escaped(target)}",
            "subtype": "subtype=lfs",
            "permissions": "default_permissions",
        }
        if privileged:
            chosen |= {"suid": "suid", "dev": "dev"}
            if "allow_root" not in self.kernel:
                chosen["allow_other"] = "allow_other"
        chosen |= self.kernel
        chosen["mode"] = "ro" if self.read_only else "rw"
        if self.atime == "noatime":
            chosen["atime"] = "noatime"
        if self.debug:
            chosen["debug"] = "debug"
        return set(chosen.values())


def parse_options(texts: list[str], sloppy: bool = False) -> MountOptions:
    """Read the values of every ``-o``; ``sloppy`` ignores unknown options as mount -s does.

    Raises OptionError naming the first option that is refused.
    """
    options = MountOptions()
    for text in texts:
        for option in _split(text):
            if _apply(options, option):
                options.given.append(option)
            elif not sloppy:
                raise OptionError(f"unknown option {option}")
    return options


def _split(text: str) -> list[str]:
    """Split at commas that no backslash precedes, and drop what is empty."""
    parts = text.replace("\\,", "\0").split(",")
    return [part.replace("\0", ",") for part in parts if part]


def _apply(options: MountOptions, option: str) -> bool:
    """Let ``option`` take effect; tell whether it is known."""
    name, has_value, value = option.partition("=")
    if has_value:
        return _apply_value(options, option, name, value)
    own = _OWN_FLAGS.get(name)
    if own is not None:
        own(options)
    elif name in ATIME_MODES:
        options.atime = name
    elif name == "atime":
        options.atime = "relatime"
    elif name in _SWITCHES:
        options.kernel[_SWITCHES[name]] = name
    elif name in _KERNEL_FLAGS:
        options.kernel[name] = name
    elif name in _IMPLIED:
        options.kernel |= {_SWITCHES[implied]: implied for implied in _IMPLIED[name]}
    else:
        return name in _NEGLIGIBLE or _is_comment(name)
    return True


def _apply_value(options: MountOptions, option: str, name: str, value: str) -> bool:
    if name == "commit":
        options.commit_seconds = _seconds(option, value)
        if options.commit_seconds < COMMIT_SECONDS_MIN:
            raise OptionError(f"{option}: at least {COMMIT_SECONDS_MIN} seconds")
    elif name == "cleaner":
        if value not in CLEANER_POLICIES:
            raise OptionError(f"{option}: a cleaner is one of {', '.join(CLEANER_POLICIES)}")
        options.cleaner = value
    elif name == "errors":
        if value not in ERROR_POLICIES:
            raise OptionError(f"{option}: errors is one of {', '.join(ERROR_POLICIES)}")
        options.errors = value
    elif name == "memory":
        options.memory_bytes = _memory_bytes(option, value)
    elif name == "cpu_latency":
        if value not in CPU_LATENCIES:
            raise OptionError(f"{option}: cpu_latency is one of {', '.join(CPU_LATENCIES)}")
        options.cpu_latency = value
    elif name in _FAULT_VALUES:
        if not value:
            raise OptionError(f"{option}: a value is missing")
        setattr(options.fault, _FAULT_VALUES[name], value)
    elif name in _KERNEL_VALUES:
        options.kernel[name] = f"{name}={escaped(value)}"
    else:
        return name in _NEGLIGIBLE_VALUES or name in _IMPLIED or _is_comment(name)
    return True


def _set_flag(field_name: str, value: bool) -> Callable[[MountOptions], None]:
    return lambda options: setattr(options, field_name, value)


_OWN_FLAGS: dict[str, Callable[[MountOptions], None]] = {
    "remount": _set_flag("remount", True),
    "ro": _set_flag("read_only", True),
    "rw": _set_flag("read_only", False),
    "norecovery": _set_flag("recovery", False),
    "diratime": _set_flag("directory_atime", True),
    "nodiratime": _set_flag("directory_atime", False),
    "debug": _set_flag("debug", True),
    "writeback_cache": _set_flag("writeback_cache", True),
}


def _seconds(option: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise OptionError(f"{option}: a number of seconds above 0, at most 86400")
    return seconds


def _memory_bytes(option: str, value: str) -> int:
    try:
        memory_bytes = parse_size(value)
    except ValueError as error:
        raise OptionError(f"{option}: {error}") from error
    if not MEMORY_BYTES_MIN <= memory_bytes <= _MEMORY_BYTES_MAX:
        raise OptionError(f"{option}: at least {format_size(MEMORY_BYTES_MIN)}, less than 8 EiB")
    return memory_bytes


def _is_comment(name: str) -> bool:
    """Tell whether an option is one that every mount helper must ignore."""
    return name.lower().startswith("x-")


def escaped(value: str) -> str:
    """Return ``value`` as libfuse takes it: commas and backslashes escaped."""
    return value.replace("\\", "\\\\").replace(",", "\\,")
