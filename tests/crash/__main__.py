"""``./check --crash``: explore crash states for some minutes, or replay one."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from types import FrameType

from tests.crash.explorer import Task, Totals, explore_all, replay_state
from tests.crash.plans import long_plan
from tests.crash.power import check_schedule

PROGRESS_SECONDS = 60


def main() -> int:
    """Run the command and return its exit status: 1 when any promise was broken."""
    parser = argparse.ArgumentParser(prog="check --crash", description=__doc__)
    parser.add_argument(
        "minutes",
        type=float,
        nargs="?",
        default=10.0,
        metavar="MINUTES",
        help="when to begin nothing new (default 10); what runs then is finished",
    )
    parser.add_argument("--seed", type=int, help="where to begin; the time if not given")
    parser.add_argument(
        "--workload", default="*", metavar="PATTERN", help="such as 'seq2-*' or trace-git"
    )
    parser.add_argument(
        "--power",
        default="",
        metavar="SCHEDULE",
        help="cut the power of running workloads: none, linear, log, exhaustive-DEPTH or 3,5,2",
    )
    parser.add_argument("--replay", metavar="ID", help="check one state, and nothing else")
    arguments = parser.parse_args()
    try:
        if arguments.replay:
            violation = replay_state(arguments.replay)
            print(violation or "nothing is violated")
            return int(bool(violation))
        seed = int(time.time()) if arguments.seed is None else arguments.seed
        print(f"crash: seed {seed}, workloads {arguments.workload}", flush=True)
        check_schedule(arguments.power or "none")
        return _explore(
            long_plan(seed, arguments.workload, arguments.power), arguments.minutes * 60
        )
    except ValueError as error:
        parser.error(str(error))


def _explore(tasks: Iterator[Task], seconds: float) -> int:
    stopped = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    totals = Totals()
    start = time.monotonic()
    progress = start + PROGRESS_SECONDS
    with closing(explore_all(tasks)) as outcomes:
        for outcome in outcomes:
            totals.add(outcome)
            for violation in outcome.violations:
                print(violation, flush=True)
            now = time.monotonic()
            if now >= progress:
                progress += PROGRESS_SECONDS
                _report_progress(totals, now - start)
            if stopped or now - start >= seconds:
                break
    print(*totals.lines(), sep="\n")
    return int(bool(totals.violations))


def _report_progress(totals: Totals, seconds: float) -> None:
    count = len(totals.digests)
    by_activity = ", ".join(f"{activity} {n}" for activity, n in sorted(totals.counts.items()))
    print(
        f"{seconds / 60:.0f} min: {count} states, {count / seconds:.0f}/s, "
        f"{len(totals.violations)} violations; {by_activity}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
