"""lfs, a log-structured filesystem with delayed allocation.

Live blocks are never overwritten.  Writes gather in memory until their extent
is known, then go to one run of the log together with the checksums and owners
of their blocks; what a crash leaves is the state after some prefix of the
requests.  ARCHITECTURE.md tells how the parts work together and which way
imports go, FORMAT.md specifies the disk.  ``lfs.filesystem`` is the whole of it
without FUSE.
"""

from lfs.common.version import __version__

__all__ = ["__version__"]
