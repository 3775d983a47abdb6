"""A whole run: the workers, the daemon, and what must hold at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.programs.stress import daemon
from tests.programs.stress.actor import SHARED_DIRECTORY, SHARED_FILE
from tests.programs.stress.worker import StressError, Worker
from tests.programs.support.mounting import run_module
from tests.support.mounting import MountedImage, make_image

# Small, so that the log comes round and the cleaner has work.
IMAGE_SIZE = "256M"
WORKER_COUNT = 8
# The caches of the daemon are bounded, and so is what the workers keep on the disk.
MEMORY_BYTES_MAX = 192 << 20
MEMORY_GROWTH_BYTES_MAX = 24 << 20
# Changes count as space until a checkpoint has merged them into the map, even those
# that remove.  After an unmount there are none, and the map of an empty filesystem is small.
BLOCKS_PENDING_MAX = 512
BLOCKS_LOST_MAX = 8
_WARM_UP_SHARE = 0.2
_LAST_SHARE = 0.1
_POLL_SECONDS = 0.2
_HANG_SECONDS = 180.0
_LOG_LINES = 20
_EXPECTED_LINE = re.compile(
    r"mount\.lfs: \S+ on \S+: (mounted|unmounted|recovered \d+ commits? from the log)"
)

Say = Callable[[str], None]


@dataclass
class Report:
    """What a run found."""

    operations: int = 0
    memory_peak_bytes: int = 0
    start: daemon.Usage | None = None
    end: daemon.Usage | None = None


class Stress:
    """A run in ``work`` that takes about ``seconds``, and its report."""

    def __init__(self, work: Path, seconds: float, seed: int, say: Say) -> None:
        """Make an image and mount it."""
        self._seconds = seconds
        self._seed = seed
        self._say = say
        self._image = make_image(work / "stress.img", IMAGE_SIZE)
        self._place = work / "mounted"
        self._workers: list[Worker] = []
        self.report = Report()
        self._mount()

    def _mount(self) -> None:
        self._mounted = MountedImage(self._image, self._place)
        daemon.limit_descriptors(self._mounted)

    @property
    def log(self) -> str:
        """Return what the daemon logged."""
        return self._mounted.log

    def close(self) -> None:
        """Leave no process and no mount."""
        for worker in self._workers:
            worker.close()
        self._mounted.close()

    def run(self) -> None:
        """Run all parts; raises StressError."""
        self._fresh = daemon.usage(self._mounted)
        self._workers = [
            Worker(self._place, index, WORKER_COUNT, self._seed) for index in range(WORKER_COUNT)
        ]
        self._part("warm-up", self._seconds * _WARM_UP_SHARE)
        self._remove()
        start = self.report.start = daemon.settled_usage(self._mounted)
        self._say(f"empty: {start}")
        self._part("main part", self._seconds * (1 - _WARM_UP_SHARE - _LAST_SHARE))
        self._remove()
        self.report.end = daemon.settled_usage(self._mounted)
        self._say(f"empty: {self.report.end}")
        if found := leaks(start, self.report.end):
            raise StressError(f"left behind: {'; '.join(found)}")
        self._part("last part", self._seconds * _LAST_SHARE)
        self._survive_a_kill()
        self._survive_an_unmount()
        self._remove()
        self._stop()
        self._check_space()

    # --------------------------------------------------------------------- parts

    def _part(self, name: str, seconds: float) -> None:
        (self._place / SHARED_DIRECTORY).mkdir()
        self._all("begin")
        self._all("work", seconds)
        self._all("verify")
        self._say(
            f"{name}: {self.report.operations} operations so far,"
            f" {daemon.memory_bytes(self._mounted) >> 20} MiB resident,"
            f" {self._mounted.descriptor_count} descriptors"
        )

    def _remove(self) -> None:
        self._all("remove")
        (self._place / SHARED_FILE).unlink(missing_ok=True)
        (self._place / SHARED_DIRECTORY).rmdir()

    def _survive_a_kill(self) -> None:
        run_module("lfs.cli.main", "sync", self._place)
        self._mounted.kill()
        self._check_log()
        self._mount()
        self._all("verify")
        self._say("the same after a sync and a kill")

    def _survive_an_unmount(self) -> None:
        self._stop()
        self._mount()
        self._all("verify")
        self._say("the same after an unmount and a check")

    def _stop(self) -> None:
        self._mounted.stop()
        self._check_log()
        run_module("fsck.main", "-f", self._image)

    def _check_space(self) -> None:
        """Mount what was emptied and compare its space with that of a new filesystem."""
        self._mount()
        now = daemon.usage(self._mounted)
        self._say(f"empty, mounted again: {now}; new: {self._fresh}")
        if self._fresh.free_blocks - now.free_blocks > BLOCKS_LOST_MAX:
            raise StressError(f"space: {now.free_blocks} blocks free, were {self._fresh}")
        self._stop()

    def _check_log(self) -> None:
        """Fail when the daemon logged more than beginnings and ends."""
        for line in self._mounted.log.splitlines():
            if not _EXPECTED_LINE.fullmatch(line):
                raise StressError(f"the daemon's log says: {line}")

    # ------------------------------------------------------------------- workers

    def _all(self, name: str, seconds: float = 0.0) -> None:
        """Let all workers obey a command, while the daemon's memory is watched."""
        for worker in self._workers:
            worker.ask(name, seconds)
        deadline = time.monotonic() + seconds + _HANG_SECONDS
        waiting = list(self._workers)
        operations = 0
        while waiting:
            self._watch_memory()
            for worker in [one for one in waiting if one.answered()]:
                operations += worker.answer()
                waiting.remove(worker)
            if time.monotonic() > deadline:
                numbers = [worker.index for worker in waiting]
                raise StressError(f"no answer to {name} from workers {numbers}")
            time.sleep(_POLL_SECONDS if seconds else 0.01)
        self.report.operations = operations

    def _watch_memory(self) -> None:
        used = daemon.memory_bytes(self._mounted)
        self.report.memory_peak_bytes = max(self.report.memory_peak_bytes, used)
        if used > MEMORY_BYTES_MAX:
            raise StressError(f"the daemon uses {used} bytes, more than {MEMORY_BYTES_MAX}")


def leaks(start: daemon.Usage, end: daemon.Usage) -> list[str]:
    """Return in words what an empty filesystem holds more of than before."""
    found = []
    if end.memory_bytes - start.memory_bytes > MEMORY_GROWTH_BYTES_MAX:
        found.append(f"memory: {end.memory_bytes - start.memory_bytes} bytes more")
    if end.descriptor_count > start.descriptor_count:
        found.append(f"descriptors: {end.descriptor_count}, were {start.descriptor_count}")
    if start.free_blocks - end.free_blocks > BLOCKS_PENDING_MAX:
        found.append(f"space: {start.free_blocks - end.free_blocks} blocks less free")
    if end.inode_count > start.inode_count:
        found.append(f"inodes: {end.inode_count}, were {start.inode_count}")
    return found


def run_stress(work: Path, seconds: float, seed: int, say: Say) -> Report:
    """Run in ``work``, an empty directory; raises StressError, which says what replays it."""
    stress = Stress(work, seconds, seed, say)
    try:
        stress.run()
    except KeyboardInterrupt:
        with suppress(Exception):
            stress.close()
        raise
    except Exception as error:
        # Whatever else goes wrong at the end, the first error is the one to tell.
        with suppress(Exception):
            stress.close()
        log = "\n  ".join(stress.log.splitlines()[-_LOG_LINES:])
        command = f"python -m tests.programs.stress {seconds / 60:g} --seed {seed}"
        raise StressError(f"{error}\nthe daemon's log:\n  {log}\nto replay: {command}") from error
    stress.close()
    return stress.report
