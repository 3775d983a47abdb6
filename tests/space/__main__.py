"""``./check --space``: fill disks in all ways for some minutes, or replay one run."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from itertools import count

from tests.space.kinds import go
from tests.space.load import Run
from tests.space.scales import SCALES

PROGRESS_SECONDS = 60


def main() -> int:
    """Run the command and return its exit status: 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="check --space", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0, metavar="MINUTES")
    parser.add_argument("--seed", type=int, help="where to begin; the time if not given")
    parser.add_argument(
        "--scale", choices=sorted(SCALES), default="real", help="how large disks and limits are"
    )
    parser.add_argument("--stop", action="store_true", help="end with the first failure")
    parser.add_argument("--replay", metavar="ID", help="make one run, and nothing else")
    arguments = parser.parse_args()
    if arguments.replay:
        return int(not _succeeds(arguments.replay))
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"space: scale {arguments.scale}, seed {seed}", flush=True)
    return _explore(arguments.scale, seed, arguments.minutes * 60, arguments.stop)


def _explore(scale: str, seed: int, seconds: float, stops: bool) -> int:
    start = progress = time.monotonic()
    failures = requests = refused = runs = 0
    for number in count(seed):
        if time.monotonic() - start >= seconds:
            break
        run_id = f"{scale}-{number}"
        run = _succeeds(run_id)
        runs += 1
        if run is None:
            failures += 1
            if stops:
                break
        else:
            requests += run.requests
            refused += run.refused
        if time.monotonic() - progress >= PROGRESS_SECONDS:
            progress = time.monotonic()
            print(
                f"{progress - start:.0f} s: {runs} runs, {requests} requests, {refused} refused, "
                f"{failures} failures",
                flush=True,
            )
    print(f"{runs} runs, {requests} requests, {refused} refused, {failures} failures")
    return int(bool(failures))


def _succeeds(run_id: str) -> Run | None:
    """Make a run; returns None, and prints why, when it broke a promise."""
    run = None
    try:
        run = Run(run_id)
        go(run)
        run.finish()
    except KeyboardInterrupt:
        raise
    except BaseException:
        print(f"FAILED {run_id}")
        if run is not None:
            layout = run.layout
            print(
                f"  {layout.segment_count} segments of {layout.segment_blocks} blocks of "
                f"{layout.block_bytes} bytes, {run.requests} requests, {run.refused} refused"
            )
        print("  " + traceback.format_exc().replace("\n", "\n  "), flush=True)
        return None
    return run


if __name__ == "__main__":
    sys.exit(main())
