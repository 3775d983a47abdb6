"""``ulimit -f``: of whoever mounts, and of who writes on the mount."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from lfs.device.file import FileDevice
from tests.command.commands import program
from tests.support.mounting import WAIT_SECONDS, environment, make_image, without_log_notice
from tests.support.mounts import Mounter

KIB = 1024
CAP_SYS_RESOURCE = 24


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> number & 1)


needs_root = pytest.mark.needs("root", "setpriv")
raises_limits = pytest.mark.skipif(
    not _has_capability(CAP_SYS_RESOURCE), reason="no CAP_SYS_RESOURCE: hard limits stay"
)


def limited(
    limit: str, name: str, *arguments: str | Path, user: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a program under ``ulimit``, as a ``user`` who can't raise a hard limit."""
    words = [*program(name), *map(str, arguments)]
    powerless = ["setpriv", "--bounding-set=-sys_resource"] if user else []
    script = f'ulimit {limit}; exec "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", *powerless, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def test_image_beyond_the_limit_is_refused_untouched(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.img", "16M")
    before = image.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15 << 20, hard))
    try:
        with pytest.raises(UsageError, match=r"a.img has 16 MiB, but .* 15 MiB only: .*ulimit -f"):
            FileDevice(image)
        FileDevice(image, read_only=True).close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    FileDevice(image).close()
    assert image.read_bytes() == before


def test_soft_limit_of_a_shell_is_no_limit_of_mkfs(tmp_path: Path) -> None:
    done = limited("-S -f 100", "mkfs.lfs", "-q", tmp_path / "a.img", "16M")
    assert (done.returncode, done.stderr) == (0, "")


@needs_root
def test_hard_limit_is_told_by_mkfs_before_anything_is_written(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    done = limited("-f 15360", "mkfs.lfs", image, "16M", user=True)
    text = f"mkfs.lfs: cannot make {image} 16 MiB long: File too large (see ulimit -f)\n"
    assert (done.returncode, done.stderr) == (1, text)
    assert not image.exists()
    make_image(image, "16M")
    before = image.read_bytes()
    done = limited("-f 15360", "mkfs.lfs", "-f", image, user=True)
    assert done.returncode == 1
    assert "raise the limit (ulimit -f)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert image.read_bytes() == before


@pytest.mark.fuse
@pytest.mark.parametrize("limit", ["-S -f 100", pytest.param("-f 100", marks=raises_limits)])
def test_daemon_writes_beyond_the_limit_of_the_shell_it_was_started_by(
    limit: str, tmp_path: Path
) -> None:
    image, directory = make_image(tmp_path / "a.img"), tmp_path / "mnt"
    directory.mkdir()
    done = limited(limit, "mount.lfs", image, directory)
    assert done.returncode == 0, done.stderr
    try:
        assert without_log_notice(done.stderr) == ""
        (directory / "large").write_bytes(b"x" * (20 << 20))
        assert subprocess.run(["sync", directory / "large"], check=False).returncode == 0
    finally:
        subprocess.run([*program("umount.lfs"), directory], env=environment(), check=True)
    subprocess.run([*program("fsck.lfs"), "-f", image], env=environment(), check=True)


@pytest.mark.fuse
@needs_root
def test_daemon_that_may_not_write_its_image_is_refused(tmp_path: Path) -> None:
    image, directory = make_image(tmp_path / "a.img", "16M"), tmp_path / "mnt"
    directory.mkdir()
    done = limited("-f 15360", "mount.lfs", image, directory, user=True)
    assert done.returncode == 32
    assert "raise the limit (ulimit -f)" in done.stderr
    assert not os.path.ismount(directory)


@pytest.mark.fuse
@pytest.mark.parametrize("options", [[], ["-o", "writeback_cache"]])
def test_writer_on_the_mount_is_held_by_its_own_limit(
    mount: Mounter, image: Path, options: list[str]
) -> None:
    path = mount(image, *options).path / "f"
    resources = f"ulimit -f 8; exec dd if=/dev/zero of={path} bs=1024 count=20"
    done = subprocess.run(["bash", "-c", resources], capture_output=True, check=False)
    assert done.returncode == -signal.SIGXFSZ
    assert path.stat().st_size == 8 * KIB
    cut = subprocess.run(["bash", "-c", f"ulimit -f 8; truncate -s 9K {path}"], check=False)
    assert cut.returncode in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)
    path.write_bytes(bytes(9 * KIB))
