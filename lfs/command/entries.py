"""The functions that the installed programs call: one for each command.

They name the module that is the command instead of importing it, because what is
imported before ``run`` has taken charge can't be interrupted in peace.

Held by ``tests/command/test_start.py``.
"""

from __future__ import annotations

import importlib

from lfs.command.start import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from lfs.command.start import Main

FSCK_FAILED = 8
FSCK_CANCELLED = 32
MOUNT_FAILED = 2


def mkfs() -> NoReturn:
    """Be mkfs.lfs."""
    run("mkfs.lfs", _main_of("mkfs.main"))


def fsck() -> NoReturn:
    """Be fsck.lfs: its exit codes are those of other checkers."""
    run("fsck.lfs", _main_of("fsck.main"), failed=FSCK_FAILED, interrupted=FSCK_CANCELLED)


def mount() -> NoReturn:
    """Be mount.lfs: its exit codes are those of other mount helpers."""
    run("mount.lfs", _main_of("lfs.mount.main"), failed=MOUNT_FAILED)


def umount() -> NoReturn:
    """Be umount.lfs."""
    run("umount.lfs", _main_of("lfs.mount.unmount"), failed=MOUNT_FAILED)


def lfs() -> NoReturn:
    """Be lfs."""
    run("lfs", _main_of("lfs.cli.main"))


def faultdisk() -> NoReturn:
    """Be faultdisk."""
    run("faultdisk", _main_of("faultdisk.main"))


def _main_of(module: str) -> Callable[[], Main]:
    def load() -> Main:
        main: Main = importlib.import_module(module).main
        return main

    return load
