"""An ext4 on a loop device on the file that ``faultdisk serve`` makes of an image."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lfs.kernel.mountpoint import find_mount
from tests.faultdisk.daemons import ServedDisk
from tests.programs.support.mounting import run
from tests.support.mounting import WAIT_SECONDS, wait_until

BLOCK_BYTES = 4096
IMAGE_BYTES = 128 << 20

# Appends records to a file, each durable before its number goes to standard output.
_APPENDER = """
import os, random, sys
sizes = random.Random(1)
with open(sys.argv[1], "ab", buffering=0) as file:
    for number in range(100000):
        body = str(number).encode() * sizes.randint(1, 600)
        file.write(b"%d:%d:%s\\n" % (number, len(body), body))
        os.fsync(file.fileno())
        print(number, flush=True)
"""


def make_ext4(image: Path) -> Path:
    """Make an image with an empty ext4."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    run(["mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), image])
    return image


class FaultyExt4:
    """An image served, attached and mounted at ``place``, as far as the test has got."""

    def __init__(self, work: Path, *arguments: str | Path) -> None:
        """Make an image in ``work``, keep a copy as ``pristine``, and mount it."""
        self.image = make_ext4(work / "disk.img")
        self.pristine = work / "pristine.img"
        run(["cp", "--sparse=always", self.image, self.pristine])
        self.place = work / "mounted"
        self.place.mkdir()
        self.loop = ""
        self.served = ServedDisk(work / "door", self.image, *arguments)
        try:
            self.attach(self.served.disk)
            self.mount()
        except BaseException:
            self.close()
            raise

    def attach(self, file: Path) -> None:
        """Make a block device of ``file``."""
        self.loop = run(["losetup", "--direct-io=on", "-f", "--show", file]).strip()

    def mount(self) -> None:
        """Mount the block device."""
        run(["mount", "-t", "ext4", self.loop, self.place])

    def unmount(self) -> None:
        """Unmount, and give the block device back."""
        run(["umount", self.place])
        self.detach()

    def detach(self) -> None:
        """Give the block device back."""
        run(["losetup", "-d", self.loop])
        loop, self.loop = self.loop, ""
        wait_until(lambda: not _attached(loop), "the loop device is free")

    def extents(self, path: Path) -> str:
        """Return the words of a plan that name the place of a file's content."""
        listed = run(["filefrag", "-v", f"-b{BLOCK_BYTES}", path])
        found = re.findall(r"^ *\d+: +\d+\.\. +\d+: +(\d+)\.\. +(\d+):", listed, re.MULTILINE)
        assert found, listed
        return " ".join(
            f"in {int(first) * BLOCK_BYTES}-{(int(last) + 1) * BLOCK_BYTES}"
            for first, last in found
        )

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if find_mount(str(self.place)) is not None:
            subprocess.run(["umount", "-l", self.place], check=False)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], check=False)
        self.served.close()


def _attached(loop: str) -> bool:
    """Tell whether a loop device still has its file: a busy one lets go later."""
    return Path("/sys/block", Path(loop).name, "loop", "backing_file").exists()


def check_ext4(target: Path | str, *, repair: bool) -> int:
    """Run ``e2fsck``, changing nothing unless ``repair``; return its exit code."""
    arguments = ["e2fsck", "-fy" if repair else "-fn", str(target)]
    return subprocess.run(arguments, capture_output=True, check=False).returncode


class Appender:
    """A process that appends records to a file and tells which are durable."""

    def __init__(self, path: Path) -> None:
        """Begin."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _APPENDER, path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.acknowledged = -1

    def wait_for(self, number: int) -> None:
        """Return when a record is durable."""
        assert self.process.stdout is not None
        while self.acknowledged < number:
            line = self.process.stdout.readline()
            assert line, "the appender ended early"
            self.acknowledged = int(line)

    def finish(self) -> str:
        """Return what it complained of at its end, which must come now."""
        output, errors = self.process.communicate(timeout=WAIT_SECONDS)
        numbers = output.split()
        if numbers:
            self.acknowledged = int(numbers[-1])
        return str(errors)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def whole_records(path: Path) -> int:
    """Return how many records a file begins with that are whole and as they were written."""
    content = path.read_bytes()
    at = count = 0
    while match := re.compile(rb"(\d+):(\d+):").match(content, at):
        number, length = int(match[1]), int(match[2])
        body = content[match.end() : match.end() + length]
        unit = str(count).encode()
        if number != count or body != unit * (length // len(unit)):
            break
        at = match.end() + length + 1
        if content[at - 1 : at] != b"\n":
            break
        count += 1
    return count
