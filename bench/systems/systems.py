"""All systems that are compared."""

from __future__ import annotations

from bench.systems.base import System
from bench.systems.ours import Ceiling, LeanCeiling, Lfs, LfsAwake, LfsWriteback
from bench.systems.peers import Bindfs, Btrfs, Ext4, Fuse2fs, Ntfs3g, Xfs

SYSTEMS: list[type[System]] = [
    Lfs,
    LfsAwake,
    LfsWriteback,
    Ceiling,
    LeanCeiling,
    Fuse2fs,
    Ntfs3g,
    Bindfs,
    Ext4,
    Xfs,
    Btrfs,
]
