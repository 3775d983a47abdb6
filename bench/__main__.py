"""The command ``python -m bench``: measure, compare, hold against the budgets."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import library, workloads
from bench.library import MEASUREMENTS, Figure, LibraryScale, Measurement
from bench.report import legend, table, verdicts, write_json
from bench.runner import Results, run_rounds, show_on_terminal
from bench.systems import SYSTEMS, Lfs, SetupError, System
from bench.workloads import WORKLOADS, Workload

IMAGE_BYTES = 4 << 30
IMAGE_BYTES_QUICK = 1 << 30
ROUNDS = 5
ROUNDS_QUICK = 1


def _parser() -> argparse.ArgumentParser:
    groups = sorted({workload.group for workload in WORKLOADS})
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure lfs beside its peers, on the same storage, in one run.",
        epilog=f"workloads are selected by name or by group ({', '.join(groups)})",
    )
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help="what to run (all)")
    parser.add_argument("-l", "--list", action="store_true", help="list workloads and systems")
    parser.add_argument("-q", "--quick", action="store_true", help="small and once")
    parser.add_argument("-r", "--rounds", type=int, help=f"how often (default {ROUNDS})")
    parser.add_argument("-s", "--systems", help="systems, separated by commas (all)")
    parser.add_argument("-o", "--options", default="", help="mount options of lfs")
    parser.add_argument("-d", "--directory", type=Path, help="where the images go (a new one)")
    parser.add_argument("-f", "--files", type=int, help="how many files 'many files' has")
    parser.add_argument("-j", "--json", type=Path, metavar="FILE", help="write every sample")
    return parser


def _print_list() -> None:
    print("workloads:")
    print(legend(WORKLOADS))
    print("  (each of metadata also by four processes: NAME x4)\nof lfs alone:")
    for measurement in MEASUREMENTS:
        print(f"  {measurement.name:<15}  {measurement.meaning}")
    print("systems:")
    for system in SYSTEMS:
        print(f"  {system.name:<15}  {system.missing() or 'ready'}")


def _chosen(
    parser: argparse.ArgumentParser, names: Sequence[str]
) -> tuple[list[Workload], list[Measurement]]:
    known = {w.name for w in WORKLOADS} | {w.group for w in WORKLOADS}
    unknown = set(names) - known - {measurement.name for measurement in MEASUREMENTS}
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))} (see --list)")
    if not names:
        return list(WORKLOADS), list(MEASUREMENTS)
    return (
        [workload for workload in WORKLOADS if workload.name in names or workload.group in names],
        [measurement for measurement in MEASUREMENTS if measurement.name in names],
    )


def _chosen_systems(parser: argparse.ArgumentParser, text: str | None) -> list[type[System]]:
    if text is None:
        return SYSTEMS
    names = text.split(",")
    unknown = set(names) - {system.name for system in SYSTEMS}
    if unknown:
        parser.error(f"no such system: {', '.join(sorted(unknown))} (see --list)")
    return [system for system in SYSTEMS if system.name in names]


@contextmanager
def _work_folder(directory: Path | None) -> Iterator[Path]:
    """Yield a new folder and remove it; a signal ends the run as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    work = Path(tempfile.mkdtemp(prefix="lfs-bench-", dir=directory))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure_alone(
    measurements: Sequence[Measurement], work: Path, scale: LibraryScale, results: Results
) -> list[Figure]:
    figures: list[Figure] = []
    for measurement in measurements:
        show_on_terminal(measurement.name)
        try:
            figures.extend(measurement.run(work, scale))
        except (OSError, SetupError) as error:
            results.note(f"{measurement.name} fails: {error}", Lfs.name)
    show_on_terminal("")
    return figures


def main() -> int:
    """Run the command and return its exit code: 1 when something could not be measured on lfs."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.list:
        _print_list()
        return 0
    chosen, measurements = _chosen(parser, arguments.names)
    systems = _chosen_systems(parser, arguments.systems)
    Lfs.mount_options = arguments.options
    quick = arguments.quick
    rounds = arguments.rounds or (ROUNDS_QUICK if quick else ROUNDS)
    library_scale = library.QUICK if quick else library.FULL
    if arguments.files is not None:
        library_scale = replace(library_scale, files=arguments.files)
    try:
        with _work_folder(arguments.directory) as work:
            results = run_rounds(
                systems if chosen else [],
                chosen,
                workloads.QUICK if quick else workloads.FULL,
                rounds,
                work,
                IMAGE_BYTES_QUICK if quick else IMAGE_BYTES,
            )
            figures = _measure_alone(measurements, work, library_scale, results)
    except KeyboardInterrupt:
        print("\nstopped; everything is unmounted and removed", file=sys.stderr)
        return 130
    _print_results(results, figures, chosen, rounds)
    if arguments.json:
        write_json(arguments.json, results, figures, rounds)
    return int(results.lfs_failed)


def _print_results(
    results: Results, figures: Sequence[Figure], chosen: Sequence[Workload], rounds: int
) -> None:
    if results.samples:
        print(f"medians of {rounds} rounds; ratios above 1 mean that lfs is better\n")
        print(table(results, chosen), "\n\n" + legend(chosen), sep="")
    found = verdicts(results, figures)
    if found:
        print("\nbudgets:", *found, sep="\n")
    if results.problems:
        print("\nnot measured:", *(f"  {problem}" for problem in results.problems), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
