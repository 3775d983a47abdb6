"""Keeping processors awake: when it is wished for, and that the wish ends."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from lfs.kernel.latency import AUTO_PROCESSORS_MAX, BUSY_SECONDS, ProcessorLatency, opened
from lfs.kernel.loop import REQUESTS_PER_TURN
from tests.support.mounting import MountedImage, wait_until
from tests.support.mounts import Mounter

LOW = bytes(4)
ANY = b"\xff\xff\xff\xff"
DEVICE = Path("/dev/cpu_dma_latency")


class Wishes:
    """A pipe in place of the kernel's device, and the time that its user sees."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.now_ns = 0
        self.latency = ProcessorLatency(writer, lambda: self.now_ns)

    def turns(self, count: int, seconds_between: float) -> None:
        for _ in range(count):
            self.now_ns += int(seconds_between * 1e9)
            self.latency.turn()

    def made(self) -> bytes:
        try:
            return os.read(self.reader, 100)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.latency.close()
        os.close(self.reader)


@pytest.fixture
def wishes() -> Iterator[Wishes]:
    made = Wishes()
    yield made
    made.close()


def test_latency_few_requests_wish_for_nothing(wishes: Wishes) -> None:
    wishes.turns(1, 0)
    wishes.turns(10, BUSY_SECONDS)
    assert wishes.made() == b""


def test_latency_many_requests_wish_once(wishes: Wishes) -> None:
    wishes.turns(10, BUSY_SECONDS / 2)
    assert wishes.made() == LOW


def test_latency_wish_ends_with_the_requests_and_comes_back(wishes: Wishes) -> None:
    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wishes.latency.run)
            for _ in range(2):
                for _ in range(10):
                    wishes.turns(1, BUSY_SECONDS / 2)
                    await trio.sleep(BUSY_SECONDS / 2)
                assert wishes.made() == LOW
                await trio.sleep(1.9 * BUSY_SECONDS)
                assert wishes.made() == ANY
                await trio.sleep(100)
                wishes.now_ns += 100 * 10**9
                assert wishes.made() == b""
            nursery.cancel_scope.cancel()

    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


def test_latency_close_gives_the_device_back_once(wishes: Wishes) -> None:
    wishes.latency.close()
    wishes.turns(10, 0)
    assert os.read(wishes.reader, 1) == b""
    wishes.latency.close()


@pytest.mark.parametrize(
    ("choice", "driver", "processors", "expected"),
    [
        ("auto", "haltpoll\n", 2, True),
        ("auto", "haltpoll\n", AUTO_PROCESSORS_MAX, True),
        ("auto", "haltpoll\n", AUTO_PROCESSORS_MAX + 1, False),
        ("auto", "haltpoll\n", 1, False),
        ("auto", "intel_idle\n", 2, False),
        ("auto", None, 2, False),
        ("low", "intel_idle\n", 64, True),
        ("low", None, 2, True),
        ("any", "haltpoll\n", 2, False),
    ],
)
def test_latency_is_chosen_by_option_and_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    driver: str | None,
    processors: int,
    expected: bool,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    device = tmp_path / "device"
    device.touch()
    if driver is not None:
        (tmp_path / "driver").write_text(driver)
    latency = opened(choice, device, tmp_path / "driver")
    # A busy machine may stall between two of them, but hardly between all.
    for _ in range(20):
        latency.turn()
    latency.close()
    assert device.read_bytes() == (LOW if expected else b"")


def test_latency_that_can_not_be_had_is_told_only_to_who_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = tmp_path / "driver"
    driver.write_text("haltpoll")
    caplog.set_level(logging.INFO)
    opened("auto", tmp_path / "missing", driver).close()
    assert not caplog.messages
    opened("low", tmp_path / "missing", driver).close()
    assert caplog.messages == [
        f"cpu_latency=low has no effect: {tmp_path / 'missing'}: {os.strerror(errno.ENOENT)}"
    ]


@pytest.mark.parametrize("driver", [None, "none\n"])
def test_latency_that_the_kernel_does_not_heed_is_told_only_to_who_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, driver: str | None
) -> None:
    device = tmp_path / "device"
    device.touch()
    if driver is not None:
        (tmp_path / "driver").write_text(driver)
    caplog.set_level(logging.INFO)
    opened("auto", device, tmp_path / "driver").close()
    opened("any", device, tmp_path / "driver").close()
    assert not caplog.messages
    opened("low", device, tmp_path / "driver").close()
    assert caplog.messages == ["cpu_latency=low has no effect: this kernel idles without a driver"]


def wished_for() -> bool:
    """Tell whether somebody on this machine wishes for processors that stay awake."""
    descriptor = os.open(DEVICE, os.O_RDONLY)
    try:
        return os.read(descriptor, 4) == LOW
    finally:
        os.close(descriptor)


names = itertools.count()


def make_requests(mounted: MountedImage) -> None:
    """Ask for many names, new ones each time: the kernel remembers which are missing."""
    for number in itertools.islice(names, 20 * REQUESTS_PER_TURN):
        assert not (mounted.path / str(number)).exists()


@pytest.fixture
def undisturbed() -> None:
    """Go on only where nobody else wishes, as another mount on this machine may."""
    if not os.access(DEVICE, os.W_OK):
        pytest.skip(f"no access to {DEVICE}")
    for _ in range(50):
        if not wished_for():
            return
        time.sleep(0.1)
    pytest.skip("another program keeps the processors awake")


@pytest.mark.fuse
@pytest.mark.usefixtures("undisturbed")
def test_latency_of_a_mount_is_low_while_requests_come(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "cpu_latency=low")

    def wished_for_by_requests() -> bool:
        make_requests(mounted)
        return wished_for()

    wait_until(lambda: not wished_for(), "a mount without requests has no wish")
    wait_until(wished_for_by_requests, "requests lead to a wish")
    wait_until(lambda: not wished_for(), "the wish is taken back")


@pytest.mark.fuse
@pytest.mark.usefixtures("undisturbed")
def test_latency_of_a_mount_may_be_any(image: Path, mount: Mounter) -> None:
    make_requests(mount(image, "-o", "cpu_latency=any"))
    assert not wished_for()


@pytest.mark.fuse
@pytest.mark.usefixtures("undisturbed")
def test_latency_wish_ends_with_a_daemon_that_is_killed(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "cpu_latency=low")

    def stopped_while_it_wishes() -> bool:
        make_requests(mounted)
        mounted.process.send_signal(signal.SIGSTOP)
        if wished_for():
            return True
        mounted.process.send_signal(signal.SIGCONT)
        return False

    wait_until(stopped_while_it_wishes, "a stopped daemon wishes")
    mounted.kill()
    assert not wished_for()
