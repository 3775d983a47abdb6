"""A thousand runs of loads on small disks of all shapes; each is told by its id.

``./check --space MINUTES`` makes runs of real size with the limits of a mount.
"""

from __future__ import annotations

import os

import pytest

from tests.space.kinds import go
from tests.space.load import Run

_BATCH = 100
_BATCHES = int(os.environ.get("LFS_SPACE_RUNS", "1000")) // _BATCH


# The bound of what a checkpoint writes is watched from inside a core that is not compiled.
_WATCHED = [pytest.param(batch, marks=pytest.mark.pure_core) for batch in range(0, _BATCHES, 3)]
_OTHERS = [batch for batch in range(_BATCHES) if batch % 3]


@pytest.mark.parametrize("batch", [*_WATCHED, *_OTHERS])
def test_space_promises_hold(batch: int) -> None:
    refused = 0
    for number in range(batch * _BATCH, (batch + 1) * _BATCH):
        run_id = f"small-{number}"
        try:
            run = Run(run_id)
            go(run)
            run.finish()
        except BaseException as error:
            error.add_note(f"replay with: ./check --space --replay {run_id}")
            raise
        refused += run.refused
    # A load that never fills its disk shows nothing.
    assert refused > _BATCH // 4
