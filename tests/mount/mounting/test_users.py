"""Who may mount: users without root, and machines that close ``/dev/fuse`` to them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounting import ROOT, environment
from tests.support.patience import HANG_SECONDS

pytestmark = pytest.mark.fuse

# Run in a mount namespace of its own, where /dev/fuse is replaced or opened to all.
_NAMESPACE = """
set -e
mount --make-rprivate /
{prepare}
exec {become} {python} -m lfs.mount.main "$@"
"""

needs_namespace = pytest.mark.needs("mount", "setpriv")


def run_in_namespace(
    prepare: str, uid: int, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    become = f"setpriv --reuid {uid} --regid {uid} --clear-groups" if uid else ""
    script = _NAMESPACE.format(prepare=prepare, become=become, python=sys.executable)
    return subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


@needs_namespace
def test_fuse_device_that_is_missing_is_told(image: Path, mount_point: Path) -> None:
    hide = "mount -t tmpfs none /dev"
    done = run_in_namespace(hide, 0, image, mount_point)
    assert done.returncode == 2
    assert done.stderr.startswith("mount.lfs: /dev/fuse is missing: load the module")
    assert done.stderr.count("\n") == 1


@needs_namespace
def test_fuse_device_without_permission_is_told(image: Path, mount_point: Path) -> None:
    close = "mount -t tmpfs none /dev; mknod -m 600 /dev/fuse c 10 229"
    done = run_in_namespace(close, 65534, image, mount_point)
    assert done.returncode == 1
    assert done.stderr == "mount.lfs: cannot open /dev/fuse: Permission denied\n"


@pytest.fixture
def user_directory() -> Iterator[Path]:
    """Return a directory that belongs to nobody in particular and can be reached."""
    path = Path(tempfile.mkdtemp(prefix="lfs-user-"))
    os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


_USER_WORK = """
import os, pathlib, sys, time
image, directory = sys.argv[1:]
from mkfs.main import main as mkfs
from lfs.device.file import FileDevice
from lfs.common.errors import UsageError
from lfs.mount.main import main as mount
from lfs.kernel.mountpoint import find_mount
from lfs.mount.unmount import main as unmount
assert mkfs(["-q", image, "64M"]) == 0
os.mkdir(directory)
assert mount([image, directory]) == 0
assert find_mount(directory).source == image
path = pathlib.Path(directory)
(path / "f").write_text("content")
assert (path / "f").stat().st_uid == os.getuid() == 65534
assert unmount([directory]) == 0
assert not (path / "f").exists()
assert mount([image, directory]) == 0
assert (path / "f").read_text() == "content"
try:
    FileDevice(image).close()
except UsageError as error:
    os.kill(int(str(error).split("in use by process ")[1].split()[0]), 9)
while True:
    try:
        (path / "f").exists()
    except OSError as error:
        assert error.errno in (103, 107), error
        break
    time.sleep(0.01)
assert mount([image, directory]) == 0
assert (path / "f").read_text() == "content"
assert unmount([directory]) == 0
print("done")
"""


@needs_namespace
def test_ordinary_user_mounts_and_unmounts(user_directory: Path) -> None:
    node = user_directory / "fuse"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    node.chmod(0o666)
    script = f"""
set -e
mount --make-rprivate /
mount --bind {node} /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""
    image, directory = user_directory / "us\\er, ä.img", user_directory / "mnt"
    work = [sys.executable, "-c", _USER_WORK, str(image), str(directory)]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh", *work],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=user_directory,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
