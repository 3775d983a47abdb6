"""What programs and the log are told when space runs out or the disk below fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounted.test_attributes import as_root, as_user
from tests.support.mounting import MountedImage, make_image, run, wait_until
from tests.support.mounts import Mounter
from tests.support.patience import HANG_SECONDS

pytestmark = pytest.mark.fuse

CHUNK = os.urandom(1 << 16)


def fill(path: Path) -> int:
    """Write until it is refused; return the errno."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    try:
        while True:
            os.write(descriptor, CHUNK)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(descriptor)


def test_full_filesystem_refuses_writes_and_takes_removals(tmp_path: Path, mount: Mounter) -> None:
    mounted = mount(make_image(tmp_path / "small.img", "32M"))
    before = os.statvfs(mounted.path).f_bfree
    (mounted.path / "kept").write_bytes(CHUNK)
    assert fill(mounted.path / "f") == errno.ENOSPC
    size = (mounted.path / "f").stat().st_size
    assert size > 20 << 20
    descriptor = os.open(mounted.path / "f", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    assert (mounted.path / "f").read_bytes() == (CHUNK * (size // len(CHUNK) + 1))[:size]
    (mounted.path / "f").unlink()
    wait_until(lambda: os.statvfs(mounted.path).f_bfree >= before - 100, "space is back")
    assert fill(mounted.path / "g") == errno.ENOSPC
    mounted.stop()
    assert (mount(mounted.image).path / "kept").read_bytes() == CHUNK


@as_root
def test_reserved_space_is_left_to_root(tmp_path: Path, mount: Mounter) -> None:
    image = tmp_path / "reserved.img"
    assert run("mkfs.main", "-q", "-m", "20", image, "64M").returncode == 0
    mounted = mount(image)
    mounted.path.chmod(0o777)
    assert as_user(mounted.path, lambda: _raise(fill(Path("f")))) == errno.ENOSPC
    left = os.statvfs(mounted.path)
    assert left.f_bavail * left.f_bsize < 1 << 20
    assert left.f_bfree * left.f_bsize > 5 << 20
    # The last block of what everybody has, too, goes to files so small that they lie in inodes.
    assert as_user(mounted.path, _make_files) == errno.ENOSPC
    (mounted.path / "root").write_bytes(CHUNK * 32)
    (mounted.path / "directory").mkdir()
    (mounted.path / "directory" / "link").symlink_to("root")
    os.link(mounted.path / "root", mounted.path / "again")
    os.truncate(mounted.path / "root", 1 << 30)


def _make_files() -> None:
    for number in range(100_000):
        os.close(os.open(f"empty{number}", os.O_CREAT | os.O_WRONLY))


def _raise(code: int) -> None:
    raise OSError(code, os.strerror(code))


def _damage(image: Path, content: bytes) -> None:
    """Flip a bit in every place of the image that holds ``content``."""
    raw = image.read_bytes()
    place = raw.find(content)
    assert place >= 0
    with image.open("r+b") as file:
        while place >= 0:
            file.seek(place)
            file.write(bytes([raw[place] ^ 1]))
            place = raw.find(content, place + 1)


def test_damaged_block_is_an_error_for_its_file_alone(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    blocks = [os.urandom(4096) for _ in range(10)]
    (mounted.path / "bad").write_bytes(b"".join(blocks))
    (mounted.path / "good").write_bytes(CHUNK)
    mounted.stop()
    _damage(image, blocks[5])
    mounted = mount(image)
    with pytest.raises(OSError, match="Input/output") as caught:
        (mounted.path / "bad").read_bytes()
    assert caught.value.errno == errno.EIO
    mounted.await_log("checksum")
    ino = (mounted.path / "bad").stat().st_ino
    for line in mounted.log.splitlines():
        if "checksum" in line:
            assert line.startswith(f"mount.lfs: {image} on {mounted.path}: read inode {ino} bytes ")
            assert ": data block " in line
    assert (mounted.path / "good").read_bytes() == CHUNK
    assert sorted(os.listdir(mounted.path)) == ["bad", "good"]
    (mounted.path / "bad").unlink()


@pytest.fixture
def small_host(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk of 24 MiB."""
    path = tmp_path / "host"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def _fill_host(mounted: MountedImage) -> list[str]:
    """Write synced files until one is refused; return the names of those that were not."""
    synced: list[str] = []
    for number in range(1000):
        name = str(number)
        try:
            with (mounted.path / name).open("wb") as file:
                file.write(CHUNK * 8)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO, errno.EROFS):
                raise
            return synced
        synced.append(name)
    pytest.fail("the host disk never got full")


@as_root
@pytest.mark.skipif(not shutil.which("mount"), reason="mount is not installed")
def test_full_host_disk_is_an_error_and_keeps_what_was_synced(
    small_host: Path, tmp_path: Path, mount: Mounter
) -> None:
    image = make_image(small_host / "sparse.img", "256M")
    mounted = mount(image)
    synced = _fill_host(mounted)
    assert synced
    mounted.await_log("No space left")
    for name in synced:
        assert (mounted.path / name).read_bytes() == CHUNK * 8
    done = run("lfs.mount.unmount", mounted.path)
    assert done.returncode in (0, 2), done.stderr
    mounted.process.wait(HANG_SECONDS)
    subprocess.run(["mount", "-o", "remount,size=300m", small_host], check=True)
    mounted = mount(image)
    for name in synced:
        assert (mounted.path / name).read_bytes() == CHUNK * 8
    (mounted.path / "more").write_bytes(CHUNK * 100)
    mounted.stop()


@as_root
def test_unmount_tells_of_a_failure_that_made_the_mount_read_only(
    image: Path, mount: Mounter
) -> None:
    mounted = mount(image, "-o", "fault=error EIO on flush skip 3")
    (mounted.path / "f").write_bytes(CHUNK)
    while run("lfs.cli.main", "sync", mounted.path).returncode == 0:
        (mounted.path / "f").write_bytes(CHUNK)
    wait_until(lambda: os.statvfs(mounted.path).f_flag & os.ST_RDONLY != 0, "it is read-only")
    done = run("lfs.mount.unmount", mounted.path)
    assert done.returncode == 2
    assert "the next mount recovers" in done.stderr
    # A read-only mount by somebody's wish leaves an image as it is.
    again = mount(image, "-o", "ro")
    assert run("lfs.mount.unmount", again.path).returncode == 0
