"""Processors that stay awake while requests come.

Theory.  A request through FUSE is two changes between processes.  Where each of
them has a processor, every change wakes one that idles, which in a virtual machine
is an exit to the host and takes longer than the request.  Linux lets a process say
how long it can wait for a processor (``/dev/cpu_dma_latency``, kernel document
``power/pm_qos_interface``): as long as somebody says zero, processors that have
nothing to do look for work instead of going to sleep.

Zero is asked for when ``REQUESTS_PER_TURN`` requests (``lfs.kernel.loop``) have come
within ``BUSY_SECONDS``, and taken back when that has not happened again for so long:
by a task, and so not before the serving thread has done what it is doing, such as
waiting for the disk.  A daemon that ends, however it does, takes its wish with it: the
kernel drops it with the descriptor.

The wish holds for every processor of the machine.  So unless the user decides, it
is made where it gains most and costs least: in a virtual machine whose host says that
the processors are the guest's own (the kernel then idles by the driver ``haltpoll``), if
it has at most ``AUTO_PROCESSORS_MAX`` of them.  Kernels that idle without a driver, as
many guests do, do not heed it, and where the host or the guest's kernel looks for work
for a while before it sleeps, there is less to gain.  Only root may make the wish.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns

import trio

BUSY_SECONDS = 0.05
AUTO_PROCESSORS_MAX = 4
_SECOND_NS = 1_000_000_000
_DEVICE = Path("/dev/cpu_dma_latency")
_IDLE_DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")
# 32-bit numbers of microseconds; the second is the kernel's word for no wish.
_LOW = (0).to_bytes(4, "little")
_ANY = (-1).to_bytes(4, "little", signed=True)

log = logging.getLogger(__name__)


class ProcessorLatency:
    """The wish for processors that stay awake, made and taken back by what requests do."""

    def __init__(
        self, descriptor: int | None, clock_ns: Callable[[], int] = perf_counter_ns
    ) -> None:
        """Write wishes to ``descriptor``, which is closed by ``close``; None: make none."""
        self._descriptor = descriptor
        self._clock_ns = clock_ns
        self._turn_ns = clock_ns() - _SECOND_NS
        self._asked = trio.Event()

    def turn(self) -> None:
        """Note that another ``REQUESTS_PER_TURN`` requests have come."""
        now_ns = self._clock_ns()
        if now_ns - self._turn_ns < BUSY_SECONDS * _SECOND_NS and not self._asked.is_set():
            self._wish(_LOW)
            self._asked.set()
        self._turn_ns = now_ns

    async def run(self) -> None:
        """Take each wish back when no more requests come."""
        while True:
            await self._asked.wait()
            seen_ns = None
            while seen_ns != self._turn_ns:
                seen_ns = self._turn_ns
                await trio.sleep(BUSY_SECONDS)
            self._wish(_ANY)
            self._asked = trio.Event()

    def close(self) -> None:
        """Close the descriptor, and by that take back what is wished for."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wish(self, microseconds: bytes) -> None:
        if self._descriptor is not None:
            # Nothing depends on it but time.
            with suppress(OSError):
                os.write(self._descriptor, microseconds)


def opened(choice: str, device: Path = _DEVICE, driver: Path = _IDLE_DRIVER) -> ProcessorLatency:
    """Return what makes the wishes of a mount with ``cpu_latency=`` set to ``choice``.

    ``low`` makes them wherever the system lets it, and logs where that has no effect.
    """
    idle_driver = _idle_driver(driver)
    if choice == "any" or (choice == "auto" and not _gains_much(idle_driver)):
        return ProcessorLatency(None)
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if choice == "low":
            log.warning("cpu_latency=low has no effect: %s: %s", device, error.strerror)
        return ProcessorLatency(None)
    if idle_driver is None:
        log.warning("cpu_latency=low has no effect: this kernel idles without a driver")
    return ProcessorLatency(descriptor)


def _idle_driver(path: Path) -> str | None:
    try:
        name = path.read_text().strip()
    except OSError:  # a kernel without cpuidle
        return None
    return None if name == "none" else name


def _gains_much(idle_driver: str | None) -> bool:
    return idle_driver == "haltpoll" and 1 < (os.cpu_count() or 1) <= AUTO_PROCESSORS_MAX
