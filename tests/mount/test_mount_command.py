"""mount(8), umount(8), fsck(8) and mkfs(8) with the helpers of lfs in ``/sbin``.

Each test is a script in a mount namespace of its own, whose ``/sbin`` is a copy in
links: nothing is installed on the machine, and nothing stays mounted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lfs.device.exclusion.mount_table import read_table
from tests.device.loops import loop_device
from tests.support.mounting import environment, make_image, without_log_notice
from tests.support.patience import HANG_SECONDS

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.needs("mount", "findmnt"),
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "mount.lfs").exists(),
        reason="the commands are not installed beside the interpreter",
    ),
]

# A daemon keeps the namespace alive that it serves, so the script unmounts at its end; and
# what is unmounted outside meanwhile is unmounted in here too.
_NAMESPACE = ["unshare", "-m", "--propagation", "slave"]
_PREPARE = """
set -e
trap 'umount -i -l -a -t fuse.lfs >/dev/null 2>&1 || true' EXIT
real=$(readlink -f /sbin)
mkdir sbin mnt other
mount --bind "$real" sbin
mount -t tmpfs none "$real"
find "$PWD/sbin" -mindepth 1 ! -name '*lfs' -exec ln -s -t "$real" {{}} +
{python} -m lfs.cli.main install-helpers
show() {{ findmnt --noheadings --raw --mountpoint "$PWD/mnt" --output "$1"; }}
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a directory with an image ``disk.img``."""
    make_image(tmp_path / "disk.img")
    return tmp_path


OPEN = "a file there is open for writing, or one without a name is in use"


def run(work: Path, script: str) -> list[str]:
    """Run a script that must succeed; return the lines that it and its commands print."""
    done = subprocess.run(
        [*_NAMESPACE, "sh", "-c", _PREPARE.format(python=sys.executable) + script],
        cwd=work,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return without_log_notice(done.stdout).splitlines()


def write_fstab(work: Path, options: str) -> None:
    """Write a table with the image in it."""
    (work / "fstab").write_text(f"{work}/disk.img {work}/mnt lfs {options} 0 0\n")


def test_mount_by_type_shows_as_every_filesystem_does(work: Path) -> None:
    assert run(
        work,
        """
        mount -t lfs disk.img mnt
        echo content > mnt/f
        show FSTYPE
        show SOURCE
        df -T mnt | awk 'NR == 2 { print $2 }'
        umount mnt
        show FSTYPE || echo gone
        fsck -t lfs -a "$PWD/disk.img"
        mount -t lfs disk.img mnt
        cat mnt/f
        umount mnt
        """,
    ) == [
        "fuse.lfs",
        f"{work}/disk.img",
        "fuse.lfs",
        "gone",
        "fsck from util-linux " + _util_linux_version(),
        f"{work}/disk.img: clean, 2 inodes, 2/16064 blocks",
        "content",
    ]


def _util_linux_version() -> str:
    output = subprocess.run(["mount", "--version"], capture_output=True, text=True, check=True)
    return output.stdout.split()[3]


def test_mkfs_by_type(work: Path) -> None:
    lines = run(work, "mkfs -t lfs -L new new.img 16M | grep label; mount -t lfs new.img mnt")
    assert lines == ["  label        new"]


def test_mount_as_a_unit_of_systemd_calls_it(work: Path) -> None:
    # The options of a unit that was made of a line of fstab, and umount's -c.
    options = "nofail,_netdev,x-systemd.automount,x-systemd.device-timeout=5,noatime,commit=9"
    assert run(
        work,
        f"""
        mount "$PWD/disk.img" "$PWD/mnt" -n -s -t lfs -o {options}
        show FSTYPE
        umount -c "$PWD/mnt"
        show FSTYPE || echo gone
        mount "$PWD/disk.img" "$PWD/mnt" -t lfs -o {options}
        umount -c -l -f "$PWD/mnt"
        show FSTYPE || echo gone
        """,
    ) == ["fuse.lfs", "gone", "gone"]


def test_mount_by_fstab(work: Path) -> None:
    write_fstab(work, "noauto,user,nofail,x-systemd.automount,noatime,commit=9")
    assert run(
        work,
        """
        mount -T fstab --all
        show FSTYPE || echo not automatically
        mount -T fstab "$PWD/mnt"
        show OPTIONS
        umount mnt
        sed -i s/noauto,user/ro/ fstab
        mount -T fstab --all
        show OPTIONS
        """,
    ) == [
        "not automatically",
        "rw,nosuid,nodev,noexec,noatime,user_id=0,group_id=0,default_permissions,allow_other",
        "ro,noatime,user_id=0,group_id=0,default_permissions,allow_other",
    ]


def test_remount_by_directory(work: Path) -> None:
    assert run(
        work,
        """
        mount -t lfs -o nosuid,noexec,strictatime disk.img mnt
        exec 3> mnt/f
        mount -o remount,ro mnt || echo exit $?
        exec 3>&-
        mount -o remount,ro mnt
        touch mnt/g 2> /dev/null || echo refused
        fsck.lfs -f disk.img
        show OPTIONS
        mount -o remount,rw,exec mnt
        touch mnt/g
        show OPTIONS
        """,
    ) == [
        f"mount.lfs: {work}/mnt is busy: {OPEN}",
        "exit 32",
        "refused",
        "disk.img: clean, 2 inodes, 2/16064 blocks",
        "ro,nosuid,noexec,user_id=0,group_id=0,default_permissions,allow_other",
        "rw,nosuid,user_id=0,group_id=0,default_permissions,allow_other",
    ]


def test_remount_by_fstab_takes_the_options_from_there(work: Path) -> None:
    write_fstab(work, "noauto,nodev,writeback_cache,commit=9,x-systemd.automount")
    assert run(
        work,
        """
        mount -T fstab "$PWD/mnt"
        mount -T fstab -o remount,ro "$PWD/mnt"
        show OPTIONS
        sed -i s/nodev/nosuid/ fstab
        mount -T fstab -o remount "$PWD/mnt"
        show OPTIONS
        mount -o remount,ro -t lfs disk.img mnt
        show OPTIONS
        """,
    ) == [
        "ro,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other",
        "rw,nosuid,relatime,user_id=0,group_id=0,default_permissions,allow_other",
        "ro,relatime,user_id=0,group_id=0,default_permissions,allow_other",
    ]


def test_bind_mounts_are_independent(work: Path) -> None:
    assert run(
        work,
        """
        mount -t lfs disk.img mnt
        mount --bind mnt other
        mount -o remount,bind,ro other
        touch other/f 2> /dev/null || echo refused
        touch mnt/f
        timeout 10 umount other
        ls mnt
        """,
    ) == ["refused", "f"]


def test_read_only_media_are_mounted_read_only_with_a_notice(work: Path) -> None:
    with loop_device(work / "disk.img", "--read-only") as loop:
        lines = run(
            work,
            f"""
            mount -t lfs {loop} mnt
            show OPTIONS
            mount -o remount,rw mnt || echo exit $?
            umount mnt
            mount.lfs -w {loop} mnt || echo exit $?
            mount.lfs -r {loop} mnt
            umount mnt
            mount --bind . other
            mount -o remount,bind,ro other
            mount -t lfs other/disk.img mnt
            show OPTIONS
            """,
        )
    shown = "ro,relatime,user_id=0,group_id=0,default_permissions,allow_other"
    assert lines == [
        f"mount.lfs: {loop} is write-protected: mounted read-only",
        shown,
        f"mount.lfs: {work}/mnt: {loop} is write-protected",
        "exit 32",
        f"mount.lfs: {loop} is write-protected: mount it with -o ro",
        "exit 32",
        f"mount.lfs: {work}/other/disk.img is write-protected: mounted read-only",
        shown,
    ]


def test_read_only_media_are_recovered_in_memory(work: Path) -> None:
    assert run(
        work,
        f"""
        mount.lfs disk.img mnt -f 2> /dev/null &
        daemon=$!
        until show FSTYPE; do sleep 0.05; done
        echo content > mnt/f
        {sys.executable} -m lfs.cli.main sync mnt
        kill -9 $daemon
        wait $daemon || umount -i -l mnt
        sha256sum disk.img > sum
        mount --bind . other
        mount -o remount,bind,ro other
        mount -t lfs other/disk.img mnt
        cat mnt/f
        umount mnt
        sha256sum --quiet --check sum
        """,
    )[-2:] == [f"mount.lfs: {work}/other/disk.img is write-protected: mounted read-only", "content"]


def test_helpers_can_be_removed(work: Path) -> None:
    assert run(
        work,
        f"""
        {sys.executable} -m lfs.cli.main install-helpers --remove
        ls /sbin | grep lfs || echo none
        {sys.executable} -m lfs.cli.main install-helpers --remove
        """,
    ) == ["none"]


def test_mount_over_an_automount_point(work: Path) -> None:
    lines = run(
        work,
        f"""
        mount -t lfs disk.img mnt
        touch mnt/f
        umount mnt
        grep -q autofs /proc/filesystems || exit 0
        {sys.executable} {Path(__file__).with_name("automount.py")} "$PWD/mnt" \\
            mount -t lfs disk.img "$PWD/mnt"
        show FSTYPE | tail -1
        umount mnt
        """,
    )
    assert lines in (["f", "fuse.lfs"], [])


NAMES = [
    "ä.img",
    "image with spaces",
    "a\ttab",
    "back\\slash",
    "with,comma",
    "two\nlines",
    "\udcff",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_image_is_known_again_by_its_name(work: Path, name: str) -> None:
    image = work / name
    make_image(image)
    escapes = {character: f"\\{ord(character):03o}" for character in " \t\n\\"}
    source = "".join(escapes.get(character, character) for character in str(image))
    (work / "fstab").write_bytes(os.fsencode(f"{source} {work}/mnt lfs noatime 0 0\n"))
    (work / "name").write_bytes(os.fsencode(str(image)))
    script = """
        mount -T fstab --all
        mount -T fstab --all
        mount -T fstab --all --verbose | tail -n 1
        grep -c " $PWD/mnt " /proc/self/mountinfo
        cp /proc/self/mountinfo mounts
        umount "$(cat name)"
        show FSTYPE || echo gone
    """
    lines = run(work, script)
    assert lines[-2:] == ["1", "gone"]
    assert "already mounted" in lines[0]
    assert [
        entry.source for entry in read_table(work / "mounts") if entry.path == f"{work}/mnt"
    ] == [str(image)]


def test_image_is_known_again_in_an_ascii_locale(work: Path) -> None:
    make_image(work / "ä.img")
    write_fstab(work, "noatime")
    script = """
        export LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0
        sed -i s/disk/ä/ fstab
        mount -T fstab --all
        mount -T fstab --all --verbose | tail -n 1
        umount ä.img
    """
    assert "already mounted" in run(work, script)[0]
