"""``python -m tests.programs.stress MINUTES --seed N``: many processes on one mount."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from lfs.command.start import Unwinding, run
from tests.programs.stress.run import run_stress
from tests.programs.stress.worker import StressError


def main() -> int:
    """Run the command and return its exit status: 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.stress", description=__doc__)
    parser.add_argument(
        "minutes", type=float, nargs="?", default=10.0, metavar="MINUTES", help="default 10"
    )
    parser.add_argument("--seed", type=int, help="which operations; the time if not given")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"stress: seed {seed}", flush=True)
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s: {line}", flush=True)

    with Unwinding(), tempfile.TemporaryDirectory(prefix="lfs-stress-") as work:
        try:
            report = run_stress(Path(work), arguments.minutes * 60, seed, say)
        except StressError as error:
            print(f"stress: FAILED: {error}")
            return 1
    print(
        f"stress: all well: {report.operations} operations,"
        f" at most {report.memory_peak_bytes >> 20} MiB resident"
    )
    return 0


if __name__ == "__main__":
    run("stress", lambda: main)
