from __future__ import annotations

import pytest

from lfs.alloc.reservation import Reservations


def test_reservations_promises_lower_what_is_available() -> None:
    reservations = Reservations(1000, 50)
    assert reservations.available(100, 10, privileged=False) == 840
    assert reservations.available(100, 10, privileged=True) == 890
    reservations.reserve(800)
    assert reservations.dirty_blocks == 800
    assert reservations.available(100, 10, privileged=False) == 40
    reservations.release(300)
    assert reservations.available(100, 10, privileged=False) == 340


def test_reservations_nothing_available_is_zero_not_less() -> None:
    reservations = Reservations(100, 50)
    reservations.reserve(80)
    assert reservations.available(10, 5, privileged=False) == 0
    assert reservations.available(10, 5, privileged=True) == 5


def test_reservations_releasing_more_than_promised_is_a_bug() -> None:
    reservations = Reservations(100, 0)
    reservations.reserve(1)
    with pytest.raises(AssertionError):
        reservations.release(2)
