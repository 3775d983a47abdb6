"""The clock of stamps, with clocks that the test sets."""

from __future__ import annotations

from lfs.fuse.clock import SET_BACK_NS, StampClock, coarse_ns, kernel_ns


class Clocks:
    """What the system says, and a clock of stamps that reads it."""

    def __init__(self, kernel_stamps: bool = False) -> None:
        self.coarse_ns = self.kernel_ns = 10**18
        self.stamp = StampClock(kernel_stamps, lambda: self.coarse_ns, lambda: self.kernel_ns)

    def advance(self, ahead_ns: int) -> None:
        self.coarse_ns += ahead_ns
        self.kernel_ns += ahead_ns


def test_stamps_are_the_coarse_clock() -> None:
    clocks = Clocks()
    for _ in range(3):
        assert clocks.stamp() == clocks.coarse_ns
        clocks.advance(4)


def test_time_of_the_kernel_that_is_ahead_is_not_undercut() -> None:
    clocks = Clocks()
    clocks.kernel_ns += 3
    clocks.stamp.note(clocks.kernel_ns)
    assert clocks.stamp() == clocks.kernel_ns
    clocks.advance(10)
    assert clocks.stamp() == clocks.coarse_ns


def test_time_of_a_user_moves_no_stamp() -> None:
    clocks = Clocks()
    clocks.kernel_ns += 3
    for set_ns in (1, clocks.coarse_ns - 1, clocks.kernel_ns + 1, 2 * clocks.coarse_ns):
        clocks.stamp.note(set_ns)
        assert clocks.stamp() == clocks.coarse_ns


def test_small_step_back_is_waited_for_and_a_large_one_followed() -> None:
    clocks = Clocks()
    start = clocks.stamp()
    clocks.advance(-SET_BACK_NS + 1)
    assert clocks.stamp() == start
    clocks.advance(SET_BACK_NS)
    assert clocks.stamp() == start + 1
    clocks.advance(-3600 * SET_BACK_NS)
    assert clocks.stamp() == clocks.coarse_ns
    clocks.advance(1)
    assert clocks.stamp() == clocks.coarse_ns


def test_where_the_kernel_stamps_its_own_clock_is_read() -> None:
    clocks = Clocks(kernel_stamps=True)
    clocks.kernel_ns += 3
    assert clocks.stamp() == clocks.kernel_ns


def test_kernels_time_is_not_before_the_coarse_clock() -> None:
    for _ in range(1000):
        before = coarse_ns()
        assert before <= kernel_ns()
