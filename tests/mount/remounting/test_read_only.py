"""A mount becomes read-only and writable again: image, lock, and who is in the way."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

import fsck.main
from lfs.device.exclusion.lock import locked_file
from lfs.kernel.mountpoint import READ_ONLY, find_lfs, find_mount
from lfs.mount import remount as remount_module
from tests.mount.remounting.remount import Capture, fuse, needs_root, refusal, remount
from tests.support.mounts import Mounter


@fuse
@needs_root
def test_remount_read_only_leaves_a_clean_image(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")
    assert remount(mounted, "ro") == 0
    assert find_lfs(str(mounted.path)).read_only
    assert (mounted.path / "f").read_text() == "content"
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "g").touch()
    # Checked while it is mounted: the lock is shared by now.
    assert fsck.main.main(["-f", str(image)]) == 0
    before = image.read_bytes()
    mounted.stop()
    assert image.read_bytes() == before


@fuse
@needs_root
def test_remount_writable_goes_on(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    assert remount(mounted, "ro") == 0
    assert remount(mounted, "rw") == 0
    (mounted.path / "f").write_text("content")
    with pytest.raises(Exception, match="is in use by"), locked_file(image):
        pass
    mounted.stop()
    mounted = mount(image, "-r")
    assert (mounted.path / "f").read_text() == "content"


@fuse
@needs_root
def test_remount_writable_of_a_mount_that_began_read_only(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    with (mounted.path / "f").open("w") as file:
        file.write("content")
        file.flush()
        os.fsync(file.fileno())
    mounted.kill()
    mounted = mount(image, "-r")
    assert remount(mounted, "rw") == 0
    (mounted.path / "g").write_text("more")
    mounted.stop()
    assert fsck.main.main(["-f", str(image)]) == 0
    mounted = mount(image)
    assert sorted(path.name for path in mounted.path.iterdir()) == ["f", "g"]


@fuse
@needs_root
def test_remount_writable_with_a_fault_plan(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "ro,fault=delay 1ms on flush")
    assert remount(mounted, "rw,fault=delay 1ms on flush") == 0
    (mounted.path / "f").write_text("content")
    mounted.stop()
    assert fsck.main.main(["-f", str(image)]) == 0


@fuse
@needs_root
def test_remount_read_only_writes_back_mapped_memory(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "writeback_cache")
    path = mounted.path / "f"
    path.write_bytes(bytes(1 << 20))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 1 << 20)
    mapped[:] = b"x" * (1 << 20)
    assert remount(mounted, "ro") == 32
    mapped.close()
    assert remount(mounted, "ro") == 0
    mounted.kill()
    mounted = mount(image, "-r")
    assert (mounted.path / "f").read_bytes() == b"x" * (1 << 20)


@fuse
@needs_root
def test_remount_read_only_is_refused_while_a_file_is_written(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    mounted = mount(image)
    text = "a file there is open for writing, or one without a name is in use"
    busy = (32, f"{mounted.path} is busy: {text}")
    with (mounted.path / "f").open("w") as file:
        assert refusal(capsys, mounted, "ro") == busy
        file.write("content")
    with (mounted.path / "f").open() as file:
        (mounted.path / "f").unlink()
        assert refusal(capsys, mounted, "ro") == busy
        assert file.read() == "content"
    assert remount(mounted, "ro") == 0
    assert list(mounted.path.iterdir()) == []


def test_flags_wait_for_a_file_that_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def set_flags(path: str, flags: int) -> None:
        calls.append(flags)
        if len(calls) < 3:
            raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(remount_module, "set_flags", set_flags)
    mount = find_mount("/")
    assert mount is not None
    remount_module._set_flags(mount, mount.flags ^ READ_ONLY, "/")
    assert len(calls) == 3


@fuse
@needs_root
def test_remount_writable_is_refused_while_another_mount_shares_the_image(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    first = mount(image)
    assert remount(first, "ro") == 0
    second = mount(image, "-r", name="second")
    code, text = refusal(capsys, first, "rw")
    assert code == 32
    assert text.startswith(f"{first.path}: {image} is in use by process {second.process.pid} ")
    assert find_lfs(str(first.path)).read_only
    # It still has its share of the lock.
    second.stop()
    with pytest.raises(Exception, match="is in use by"), locked_file(image):
        pass
    assert remount(first, "rw") == 0


@fuse
@needs_root
def test_remount_after_writing_failed(image: Path, mount: Mounter, capsys: Capture) -> None:
    trigger = image.with_name("trigger")
    mounted = mount(image, "-o", f"fault=error EIO on flush while {trigger},commit=3600")
    descriptor = os.open(mounted.path, os.O_RDONLY)
    (mounted.path / "f").write_text("content")
    trigger.touch()
    with pytest.raises(OSError, match="Input/output error"):
        os.fsync(descriptor)
    os.close(descriptor)
    assert remount(mounted, "ro") == 0
    assert refusal(capsys, mounted, "rw") == (
        32,
        f"{mounted.path}: writing has failed: unmount and mount again",
    )


@fuse
@needs_root
def test_remount_read_only_whose_checkpoint_fails_says_so(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    trigger = image.with_name("trigger")
    mounted = mount(image, "-o", f"fault=error EIO on flush while {trigger},commit=3600")
    (mounted.path / "f").write_text("content")
    trigger.touch()
    code, text = refusal(capsys, mounted, "ro")
    assert code == 32
    reason = text.removeprefix(f"{mounted.path} is read-only now, but its image is not clean: ")
    assert reason == "flush failed by plan at byte 0"
    assert find_lfs(str(mounted.path)).read_only


@fuse
@needs_root
def test_remount_without_recovery_stays_read_only(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    mounted = mount(image, "-o", "ro,norecovery")
    assert refusal(capsys, mounted, "rw") == (
        32,
        f"{mounted.path}: what the log holds would be lost (norecovery)",
    )
