"""A short run of many processes on one mount; ``python -m tests.programs.stress`` runs longer.

The seed is the same in every run, so that a failure is one of the filesystem
and not of the day; which process is served first still differs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.stress.run import WORKER_COUNT, run_stress

pytestmark = pytest.mark.fuse

SECONDS = 10.0
SEED = 1
# Far below what any machine does, and above what a run that does nothing would count.
_OPERATIONS_MIN = 100 * WORKER_COUNT


def test_many_processes_find_their_files_as_they_left_them(tmp_path: Path) -> None:
    report = run_stress(tmp_path, SECONDS, SEED, print)
    assert report.operations > _OPERATIONS_MIN
