"""lfs, a log-structured filesystem with delayed allocation.

Live blocks are never overwritten.  Writes gather in memory until their extent
is known, then go to one run of the log together with the checksums and owners
of their blocks; what a crash leaves is the state after some prefix of the
requests.  ARCHITECTURE.md tells how the parts work together and which way
imports go, FORMAT.md specifies the disk.  ``lfs.filesystem`` is the whole of it
without FUSE.

This is the face for Python programs, which take from it what they need to open an
image, in memory or on a faulty disk too:

``Filesystem``       an image that is mounted, without FUSE: all requests are its methods
``Options``          what a mount may choose
``Inode``            a file or directory, as ``lookup``, ``getattr`` and ``create`` return it
``DirectoryEntry``   what ``readdir`` lists
``Space``            what ``statfs`` counts
``ROOT_INO``         the inode number of the root directory
``make_filesystem``  makes an empty filesystem on a device
``BlockDevice``      what a filesystem lies on: the interface of every device
``FileDevice``       an image file or a disk, with its lock
``MemoryDevice``     bytes in memory
``FaultDevice``      any of them with the faults of a plan
``FaultPlan``        what a fault device is to do
``parse_plan``       reads a plan (FAULTS.md)
``RealClock``        the time of a fault device whose delays are to be real
``FilesystemError``  a request refused, an OSError: ``errno`` says why
``DamageError``      of these, what was read is damaged
``DeviceError``      of these, a device refused or failed
``FormatError``      what is no usable lfs filesystem
``UsageError``       what makes no sense: a plan, a size, a target
``InUseError``       of these, an image that is somebody else's now

A name is imported when it is first asked for, because every command imports this
module, too, and most need little of it.
"""

import importlib

from lfs.common.compiled import choose_core
from lfs.common.version import __version__

__all__ = [
    "ROOT_INO",
    "BlockDevice",
    "DamageError",
    "DeviceError",
    "DirectoryEntry",
    "FaultDevice",
    "FaultPlan",
    "FileDevice",
    "Filesystem",
    "FilesystemError",
    "FormatError",
    "InUseError",
    "Inode",
    "MemoryDevice",
    "Options",
    "RealClock",
    "Space",
    "UsageError",
    "__version__",
    "make_filesystem",
    "parse_plan",
]

choose_core(__path__[0])

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lfs.common.errors import (
        DamageError,
        DeviceError,
        FilesystemError,
        FormatError,
        UsageError,
    )
    from lfs.device.base import BlockDevice
    from lfs.device.exclusion.lock import InUseError
    from lfs.device.fault.clock import RealClock
    from lfs.device.fault.device import FaultDevice
    from lfs.device.fault.plan.grammar import parse_plan
    from lfs.device.fault.plan.plan import FaultPlan
    from lfs.device.file import FileDevice
    from lfs.device.memory import MemoryDevice
    from lfs.files.directory import DirectoryEntry
    from lfs.filesystem import Filesystem, Inode, Options, Space
    from lfs.make import make_filesystem
    from lfs.ondisk import ROOT_INO
else:
    _HOMES = {
        "lfs.common.errors": (
            "DamageError",
            "DeviceError",
            "FilesystemError",
            "FormatError",
            "UsageError",
        ),
        "lfs.device.base": ("BlockDevice",),
        "lfs.device.exclusion.lock": ("InUseError",),
        "lfs.device.fault.clock": ("RealClock",),
        "lfs.device.fault.device": ("FaultDevice",),
        "lfs.device.fault.plan.grammar": ("parse_plan",),
        "lfs.device.fault.plan.plan": ("FaultPlan",),
        "lfs.device.file": ("FileDevice",),
        "lfs.device.memory": ("MemoryDevice",),
        "lfs.files.directory": ("DirectoryEntry",),
        "lfs.filesystem": ("Filesystem", "Inode", "Options", "Space"),
        "lfs.make": ("make_filesystem",),
        "lfs.ondisk": ("ROOT_INO",),
    }

    def __getattr__(name: str) -> object:
        """Import a name of ``__all__``."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(home), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)

    def __dir__() -> list[str]:
        """Return the names with those that are not imported yet."""
        return sorted({*globals(), *__all__})
