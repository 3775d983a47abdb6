"""Filesystems that leave a flush or a checkpoint out, or do not make good an error."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from fsck.reading.report import Report
from lfs.commit import checkpoint as checkpoint_module
from lfs.commit.checkpoint import Checkpointer
from lfs.commit.recovery import Recovery
from lfs.common.turns import Flush, Turn
from lfs.filesystem import Filesystem
from lfs.mounting import Mount
from lfs.segments.cleaning import defragment as defragment_module
from lfs.segments.cleaning import rounds as rounds_module
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.defragment import Defragmenter
from lfs.segments.writer import LogWriter
from lfs.volume.volume import Volume
from tests.crash.canaries.canary import Canaries, Patch

BARRIERS = Canaries()

# ----------------------------------------------------------------------------- barriers


def _skip_flushes(
    patch: Patch, owner: type, method: str, skipped: Callable[[int], bool], outside: str = ""
) -> None:
    """Let some of the flushes that ``method`` asks for not reach the device.

    ``skipped`` takes the number of the flush within one call, from 1.  Flushes in
    calls of the checkpointer's method ``outside`` count for none.
    """
    numbers: list[int] = []
    whole_method = getattr(owner, method)
    whole_flush = Volume.flush

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        numbers.append(0)
        try:
            return whole_method(self, *arguments, **options)
        finally:
            numbers.pop()

    def flush(self: Volume, sequence: int) -> None:
        if numbers:
            numbers[-1] += 1
            if skipped(numbers[-1]):
                self.flushed(sequence)
                return
        whole_flush(self, sequence)

    patch(owner, method, counted)
    patch(Volume, "flush", flush)
    if outside:
        whole_outside = getattr(Checkpointer, outside)

        def uncounted(self: Any, *arguments: Any, **options: Any) -> Any:
            kept, numbers[:] = numbers[:], []
            try:
                return whole_outside(self, *arguments, **options)
            finally:
                numbers[:] = kept

        patch(Checkpointer, outside, uncounted)


class _OwnFlush(Flush):
    """A flush that one part of the core asks for, and no checkpoint."""


def _skip_flushes_of_turns(patch: Patch, module: Any, owner: type) -> None:
    """Let the flushes that turns of ``owner`` end with not reach the device."""
    whole_step: Any = owner.step  # type: ignore[attr-defined]

    def step(self: Any, now_ns: int) -> Turn:
        turn: Turn = whole_step(self, now_ns)
        if not isinstance(turn.flush, _OwnFlush):
            return turn
        self._volume.flushed(turn.flush.sequence)
        turn.flush.done = True
        return Turn(turn.more)

    patch(module, "Flush", _OwnFlush)
    patch(owner, "step", step)


def _skip_awaited_flushes(patch: Patch, module: Any, owner: type, *methods: str) -> None:
    """Let the flushes of ``module`` that ``methods`` of ``owner`` wait for not reach the device."""
    depth: list[None] = []
    whole_await = Volume.await_flush

    def await_flush(self: Volume, flush: Flush) -> None:
        if depth and isinstance(flush, _OwnFlush) and not flush.done:
            self.flushed(flush.sequence)
            flush.done = True
        whole_await(self, flush)

    def waiting(whole_method: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *arguments: Any) -> Any:
            depth.append(None)
            try:
                return whole_method(self, *arguments)
            finally:
                depth.pop()

        return method

    patch(module, "Flush", _OwnFlush)
    patch(Volume, "await_flush", await_flush)
    for name in methods:
        patch(owner, name, waiting(getattr(owner, name)))


@BARRIERS.without("flush in sync")
def _sync(patch: Patch) -> None:
    _skip_flushes(patch, Filesystem, "sync", lambda number: True)


@BARRIERS.without("flush before the checkpoint region")
def _before_region(patch: Patch) -> None:
    _skip_flushes(patch, Checkpointer, "checkpoint", lambda number: number == 1)


@BARRIERS.without("flush after the checkpoint region")
def _after_region(patch: Patch) -> None:
    _skip_flushes(patch, Checkpointer, "checkpoint", lambda number: number == 2)


@BARRIERS.without("flush at mount")
def _at_mount(patch: Patch) -> None:
    _skip_flushes(patch, Mount, "begin", lambda number: number == 1, "checkpoint")


@BARRIERS.without("flush when the cleaner makes room")
def _in_cleaner(patch: Patch) -> None:
    _skip_flushes(patch, Cleaner, "_release", lambda number: True, "checkpoint")
    _skip_awaited_flushes(patch, rounds_module, Cleaner, "_finish")


@BARRIERS.without("flush when requests help the cleaner")
def _in_help(patch: Patch) -> None:
    _skip_awaited_flushes(patch, rounds_module, Cleaner, "help")


@BARRIERS.without("flush when the cleaner works in the background")
def _in_step(patch: Patch) -> None:
    _skip_flushes_of_turns(patch, rounds_module, Cleaner)


@BARRIERS.without("second checkpoint at mount")
def _second_checkpoint(patch: Patch) -> None:
    whole_begin, whole_checkpoint = Mount.begin, Checkpointer.checkpoint
    counts: list[int] = []

    def begin(self: Mount, recovery: Recovery, now_ns: int) -> None:
        counts.append(0)
        try:
            whole_begin(self, recovery, now_ns)
        finally:
            counts.pop()

    def checkpoint(self: Checkpointer, now_ns: int, clean: bool = False) -> None:
        if counts:
            counts[-1] += 1
            if counts[-1] == 2:
                return
        whole_checkpoint(self, now_ns, clean)

    patch(Mount, "begin", begin)
    patch(Checkpointer, "checkpoint", checkpoint)


@BARRIERS.without("checkpoint regions in turn")
def _in_turn(patch: Patch) -> None:
    whole = Report.add

    def add(self: Report, code: str, *arguments: Any, **options: Any) -> None:
        # That a region is out of turn is no loss yet.
        if code != "checkpoint-region":
            whole(self, code, *arguments, **options)

    patch(checkpoint_module, "CHECKPOINT_REGION_COUNT", 1)
    patch(Report, "add", add)


@BARRIERS.without("flush when files are put together")
def _in_defragmenter(patch: Patch) -> None:
    _skip_flushes_of_turns(patch, defragment_module, Defragmenter)


# ------------------------------------------------------------------------------- errors


@BARRIERS.without("checkpoint where the log is broken")
def _mended(patch: Patch) -> None:
    patch(LogWriter, "is_broken", False)


@BARRIERS.without("second checkpoint where the log is broken")
def _mended_twice(patch: Patch) -> None:
    whole = Checkpointer._mends

    def once(self: Checkpointer, now_ns: int, clean: bool) -> Generator[Flush, None, bool]:
        yield from whole(self, now_ns, clean)
        return False

    patch(Checkpointer, "_mends", once)


@BARRIERS.without("another place after an error")
def _elsewhere(patch: Patch) -> None:
    whole = Volume.emit

    def emit(self: Volume, *arguments: Any) -> bool:
        whole(self, *arguments)
        return True

    patch(Volume, "emit", emit)
