"""One mounted filesystem, from taking the lock on its image to giving it back.

Order matters at both ends.  The lock is taken first and given back last, after
the last checkpoint, so that whoever gets it next finds a clean image.  The
image is opened before anything is mounted, so that a refused image leaves the
mount point as it was; and when mounting fails, nothing more is written.

A signal unmounts lazily while requests are still served: the kernel then writes
back what programs had changed through mapped memory.  Where something keeps
files open, serving ends after ``GRACE_SECONDS`` all the same.  Only what is ours is
unmounted: while something else is mounted over it, everything is made durable, and
serving goes on until it is uncovered.  More signals change nothing.

With ``errors=panic`` the end has no order: where the log can't go on, the process
ends in the middle of the request that found out.

Held by ``tests/mount/mounting`` and ``tests/mount/unmounting``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Iterator
from time import time_ns
from typing import NamedTuple

import pyfuse3
import trio

from lfs.command.notes import noting
from lfs.common.errors import FilesystemError, FormatError, UsageError
from lfs.device.base import BlockDevice
from lfs.device.file import FileDevice
from lfs.device.file_limit import lift_file_limit
from lfs.filesystem import Filesystem, Options
from lfs.fuse.background import Background, Wake, turn_seconds
from lfs.fuse.group_commit import GroupCommit
from lfs.fuse.operations import LfsOperations
from lfs.kernel import latency, loop
from lfs.kernel.connection import END_SIGNALS, connect, read_ahead, release_signals
from lfs.kernel.logs import finish_logging
from lfs.kernel.memory import keep_freed_memory, postpone_garbage_collection
from lfs.kernel.mountpoint import (
    ATIME_FLAGS,
    STRICTATIME,
    MountError,
    detach,
    find_mount,
    set_flags,
    show_read_only,
)
from lfs.kernel.negotiation import Negotiation
from lfs.mount.answers import MountAnswers
from lfs.mount.options import MountOptions

LOCK_WAIT_SECONDS = 10.0
GRACE_SECONDS = 2.0
COVERED_POLL_SECONDS = 0.5
SHOW_POLL_SECONDS = 0.5
SHOW_AGAIN_SECONDS = 10.0
PANIC_EXIT_CODE = 2
READ_AHEAD_KIB = 1024
_SECOND_NS = 1_000_000_000

log = logging.getLogger(__name__)


class MountRequest(NamedTuple):
    """What to mount, where and how; both paths are absolute."""

    target: str
    mount_point: str
    options: MountOptions


def serve(request: MountRequest, ready: Callable[[], None]) -> signal.Signals | None:
    """Mount, call ``ready`` once the filesystem answers, and return when it is unmounted.

    Returns the signal that asked for it, if one did.
    Raises MountError when it could not be mounted (nothing has changed then) or
    when the last checkpoint could not be written (what was committed is safe).
    """
    options = request.options
    keep_freed_memory()
    lift_file_limit()
    try:
        image = FileDevice(
            request.target,
            options.read_only,
            wait_seconds=LOCK_WAIT_SECONDS,
            on_wait=noting("mount.lfs"),
        )
        with contextlib.closing(image):
            if options.fault.plan:
                # A fifth of what a mount takes to start, and hardly any needs it.
                from lfs.mount.faults import faulty

                with faulty(image, options.fault) as disk:
                    return _serve_device(request, image, disk, ready)
            return _serve_device(request, image, image, ready)
    except UsageError as error:
        raise MountError(str(error)) from error
    except FormatError as error:
        raise MountError(f"{request.target}: {error}") from error


def _serve_device(
    request: MountRequest, image: FileDevice, device: BlockDevice, ready: Callable[[], None]
) -> signal.Signals | None:
    failed, wake = trio.Event(), Wake()
    try:
        filesystem = Filesystem.mount(
            device,
            time_ns(),
            _core_options(request.options, failed.set, wake.set),
            report=log.warning,
            nonce=int.from_bytes(os.urandom(4), "little"),
        )
    except FilesystemError as error:
        raise MountError(f"{request.target}: {error.strerror}") from error
    session = Session(request, image, filesystem, device, failed, wake)
    with _signals_held():
        session.attach()
        postpone_garbage_collection()
        try:
            trio.run(session.run, ready)
        finally:
            try:
                session.detach()
            finally:
                # Whatever went wrong before, what was accepted is committed.
                _finish(request, filesystem)
    return session.ended_by


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let no signal that ends keep the last checkpoint from being written.

    While requests are served ``Session`` takes them; one that comes later has come true.
    """
    before = [signal.signal(number, lambda *_: None) for number in END_SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(END_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _finish(request: MountRequest, filesystem: Filesystem) -> None:
    try:
        filesystem.unmount(time_ns())
    except FilesystemError as error:
        raise MountError(
            f"{request.target}: the last checkpoint failed, the next mount will recover: "
            f"{error.strerror}",
            2,
        ) from error
    lost = f"; what came last may be lost: {filesystem.failure}" if filesystem.failure else ""
    log.log(logging.WARNING if lost else logging.INFO, "unmounted%s", lost)


def _show_strictatime(mount_point: str) -> None:
    mount = find_mount(mount_point)
    with contextlib.suppress(OSError):
        if mount is not None:
            flags = mount.flags & ~sum(ATIME_FLAGS.values()) | STRICTATIME
            set_flags(mount.path, flags, of_mount_only=True)


def _core_options(
    options: MountOptions, on_failure: Callable[[], None], on_work: Callable[[], None]
) -> Options:
    return Options(
        read_only=options.read_only,
        atime=options.atime,
        directory_atime=options.directory_atime,
        commit_interval_ns=int(options.commit_seconds * _SECOND_NS),
        memory_bytes_max=options.memory_bytes,
        cleaner_policy=options.cleaner,
        roll_forward=options.recovery,
        errors=options.errors,
        on_failure=_end_at_once if options.errors == "panic" else on_failure,
        on_work=on_work,
    )


def _end_at_once() -> None:
    """End this process, as a panic ends a kernel: nothing more is written or answered.

    The mount point answers ENOTCONN until it is unmounted.
    """
    finish_logging()
    os._exit(PANIC_EXIT_CODE)


class Session:
    """The connection to the kernel and the tasks that serve it."""

    def __init__(
        self,
        request: MountRequest,
        image: FileDevice,
        filesystem: Filesystem,
        device: BlockDevice,
        failed: trio.Event,
        wake: Wake,
    ) -> None:
        """Serve ``filesystem``, which lies on ``device``, and by that on ``image``.

        ``failed`` is set once writing has failed and changes are refused, and ``wake`` when
        background work is to be done at once.
        """
        self._failed = failed
        self._request = request
        self._filesystem = filesystem
        self._connected = trio.Event()
        self._over = trio.Event()
        self._device_number = ""
        self._detached = False
        self._leaving = False
        self.ended_by: signal.Signals | None = None
        self._waiter: loop.RequestWaiter | None = None
        self._latency = latency.ProcessorLatency(None)
        self._group_commit = GroupCommit(filesystem, device, self)
        self._operations = LfsOperations(
            filesystem,
            self._group_commit,
            request.target,
            self._connected.set,
            request.options.writeback_cache,
            MountAnswers(filesystem, image, request.options, self._set_interval).answerers,
        )
        self._background = Background(
            filesystem,
            self.count,
            self._group_commit.flush,
            turn_seconds(request.options.commit_seconds),
            wake,
        )

    def count(self) -> int:
        """Return how many requests there have been."""
        return self._operations.request_count

    def is_waiting(self) -> bool:
        """Tell whether a request waits to be received."""
        return self._waiter is not None and self._waiter.is_waiting()

    def attach(self) -> None:
        """Mount; raises MountError."""
        options = self._request.options.kernel_options(self._request.target, os.geteuid() == 0)
        before = loop.fuse_descriptors()
        connect(self._operations, self._request.mount_point, options)
        mount = find_mount(self._request.mount_point)
        self._device_number = "" if mount is None else mount.device_number
        opened = loop.fuse_descriptors() - before
        self._latency = latency.opened(self._request.options.cpu_latency)
        if len(opened) == 1:
            descriptor = opened.pop()
            self._waiter = loop.RequestWaiter(
                descriptor, lambda: self._group_commit.flushing, on_turn=self._latency.turn
            )
            write_bytes_max = self._filesystem.write_bytes_max
            loop.install(self._waiter, lambda: Negotiation.begun(descriptor, write_bytes_max))

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until unmounted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, ready)
            nursery.start_soon(self._background.run)
            nursery.start_soon(self._latency.run)
            nursery.start_soon(self._show_failure)
            await nursery.start(self._await_signal)
            await pyfuse3.main(max_tasks=loop.TASK_COUNT_MAX)
            self._over.set()
            nursery.cancel_scope.cancel()

    async def _show_failure(self) -> None:
        """Once writing has failed, let the mount table say so, as soon as the kernel lets it.

        It waits for the last file that is open for writing.
        """
        await self._failed.wait()
        if self._request.options.errors != "remount-ro":
            return
        await self._connected.wait()
        told = False
        while not await self._shown_read_only():
            if not told:
                told = True
                log.warning(
                    "the mount table says rw until no file is open for writing;"
                    " lfs state shows how it is"
                )
            released = self._operations.requests["release"]
            with trio.move_on_after(SHOW_AGAIN_SECONDS):
                while self._operations.requests["release"] == released:
                    await trio.sleep(SHOW_POLL_SECONDS)

    async def _shown_read_only(self) -> bool:
        """Make the mount read-only; tell whether that is done or can't be."""
        try:
            await trio.to_thread.run_sync(
                show_read_only, self._device_number, abandon_on_cancel=True
            )
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            log.warning(
                "the mount table goes on saying rw (%s); lfs state shows how it is",
                error.strerror,
            )
        return True

    def _set_interval(self, commit_seconds: float) -> None:
        self._background.interval_seconds = turn_seconds(commit_seconds)

    def detach(self) -> None:
        """Close the connection, and unmount unless that has been done."""
        self._latency.close()
        # The library would unmount by the path, whatever is mounted there by now.
        pyfuse3.close(unmount=False)
        if not self._detached:
            with contextlib.suppress(MountError):
                detach(self._device_number)

    async def _announce(self, ready: Callable[[], None]) -> None:
        await self._connected.wait()
        # Abandoned when serving fails: nobody answers it then before the connection is closed.
        status = await trio.to_thread.run_sync(
            os.stat, self._request.mount_point, abandon_on_cancel=True
        )
        read_ahead(status.st_dev, READ_AHEAD_KIB)
        if self._request.options.atime == "strictatime" and os.geteuid() == 0:
            # libfuse has no word for it, and a remount goes by what the mount table shows.
            await trio.to_thread.run_sync(
                _show_strictatime, self._request.mount_point, abandon_on_cancel=True
            )
        log.info("mounted")
        ready()

    async def _await_signal(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(*END_SIGNALS) as received:
            release_signals()
            task_status.started()
            async with trio.open_nursery() as nursery:
                async for number in received:
                    self.ended_by = signal.Signals(number)
                    log.info("unmounting by %s", self.ended_by.name)
                    if not self._leaving:
                        self._leaving = True
                        nursery.start_soon(self._leave)

    async def _leave(self) -> None:
        """Unmount while serving; stop serving when that takes too long.

        While something else is mounted over this filesystem, serving goes on: what is
        not ours is not detached, and who uses what lies below it is not cut off.
        """
        told = False
        with contextlib.suppress(MountError):
            while not (await self._detach()):
                if not told:
                    told = True
                    log.warning(
                        "something else is mounted over it: committed, and unmounting once it"
                        " is uncovered"
                    )
                    await self._make_clean()
                await trio.sleep(COVERED_POLL_SECONDS)
            self._detached = True
            with trio.move_on_after(GRACE_SECONDS):
                await self._over.wait()
        if self._waiter is not None:
            self._waiter.close()
        pyfuse3.terminate()

    async def _detach(self) -> bool:
        """Take our mounts from the tree; tell whether none is left."""
        with trio.move_on_after(GRACE_SECONDS):
            return await trio.to_thread.run_sync(
                detach, self._device_number, abandon_on_cancel=True
            )
        raise MountError("detaching takes too long")

    async def _make_clean(self) -> None:
        """Make everything durable, and the next mount short, as far as that can be had."""
        try:
            await self._group_commit.follow(self._filesystem.checkpoint_steps(time_ns()))
        except FilesystemError as error:
            log.warning("checkpoint: %s", error.strerror)
