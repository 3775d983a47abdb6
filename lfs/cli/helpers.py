"""``lfs install-helpers``: let mount(8), umount(8), fsck(8) and mkfs(8) find lfs.

They look for their helpers in ``/sbin`` alone, by the type of the filesystem, and
not in the ``PATH``.  mount(8) is given ``lfs``, but the mount table has ``fuse.lfs``,
by which umount(8) and a remount look.  The helpers are symbolic links to the
commands beside this one: they follow an update of the package.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lfs.common.errors import UsageError

DIRECTORY = Path("/sbin")
HELPERS = {
    "mount.lfs": "mount.lfs",
    "mount.fuse.lfs": "mount.lfs",
    "umount.lfs": "umount.lfs",
    "umount.fuse.lfs": "umount.lfs",
    "fsck.lfs": "fsck.lfs",
    "mkfs.lfs": "mkfs.lfs",
}
"""The names that are looked for, and the commands they stand for."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "install-helpers",
        help="let mount -t lfs, fsck -t lfs and /etc/fstab find the commands",
        description="Link the commands of lfs to where mount(8) and others look for them.",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        default=DIRECTORY,
        help=f"where the links go (default: {DIRECTORY})",
    )
    parser.add_argument("--remove", action="store_true", help="remove the links instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make or remove the links; raises UsageError before anything is changed, OSError."""
    directory = arguments.directory.absolute()
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    commands = commands_directory()
    links = {directory / name: commands / command for name, command in HELPERS.items()}
    for link, command in links.items():
        _check(link, command)
    for link, command in links.items():
        if link.is_symlink():
            link.unlink()
        if not (arguments.remove or link.exists()):
            link.symlink_to(command)
    return 0


def commands_directory() -> Path:
    """Return where the commands of this installation are; raises UsageError."""
    for place in (Path(sys.argv[0]).resolve().parent, Path(sys.executable).parent):
        if (place / "mount.lfs").exists():
            return place
    raise UsageError("mount.lfs is not beside this command: install lfsprogs by pip")


def _check(link: Path, command: Path) -> None:
    """Raise UsageError when something that is neither ``command`` nor a link to one is there."""
    ours = link.is_symlink() and link.readlink().name in HELPERS.values()
    itself = link.exists() and link.samefile(command)
    if os.path.lexists(link) and not (ours or itself):
        raise UsageError(f"{link} exists and is no link to a command of lfs")
