"""A device in memory, served by NBD in the test's own process."""

from __future__ import annotations

import threading
from pathlib import Path

from faultdisk.daemon.sockets import UnixListener
from faultdisk.nbd.server import NbdServer
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event
from tests.faultdisk.nbd_client import NbdClient
from tests.support.patience import HANG_SECONDS

SIZE_BYTES = 64 << 20
TEXT = "a test disk"


class HeldClock:
    """A clock that stands still: who has to wait waits until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def now_ns(self) -> int:
        return 0

    def sleep_until_ns(self, time_ns: int) -> None:
        if time_ns > 0:
            assert self.go.wait(HANG_SECONDS)


class Served:
    """A device in memory, served on a socket."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "nbd")
        self.events: list[Event] = []
        self.clock = HeldClock()
        self.device = FaultDevice(
            MemoryDevice(SIZE_BYTES), clock=self.clock, log=self.events.append
        )
        self.server: NbdServer | None = None

    def start(self) -> None:
        self.server = NbdServer(UnixListener(self.path), self.device, TEXT)
        self.server.start()

    def client(self) -> NbdClient:
        if self.server is None:
            self.start()
        return NbdClient(self.path)

    def plan(self, text: str) -> None:
        self.device.set_plan(parse_plan(text))
