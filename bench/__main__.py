"""The command ``python -m bench``: measure, compare, hold against the budgets."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import core, counters, library, page, profile
from bench.conditions import findings
from bench.documents import (
    DocumentError,
    comparison_content,
    figures_content,
    read_documents,
    write_document,
)
from bench.library import MEASUREMENTS, Figure, LibraryScale, Measurement
from bench.report import aligned, counter_table, legend, table, verdicts, waits_table
from bench.runner import Results, run_rounds, show_on_terminal
from bench.size import measure
from bench.size.series import AGAINST, figures_of, size_table
from bench.systems.base import System
from bench.systems.host import SetupError
from bench.systems.ours import Lfs
from bench.systems.systems import SYSTEMS
from bench.workloads.workload import FULL, QUICK, Workload
from bench.workloads.workloads import WORKLOADS
from lfs.command.start import Unwinding, run

COMMANDS = ("compare", "counters", "size", "profile", "core", "report")
IMAGE_BYTES = 4 << 30
IMAGE_BYTES_QUICK = 512 << 20
ROUNDS = 5
ROUNDS_QUICK = 1
SIZE_SECONDS_MAX = 900.0
RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).with_name("RESULTS.md")


def _parser() -> argparse.ArgumentParser:
    groups = sorted({workload.group for workload in WORKLOADS})
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure lfs beside its peers, on the same storage, in one run.",
        epilog="Without a command: compare.  Workloads are selected by name or by group "
        f"({', '.join(groups)}).  See bench/README.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, run: Command, images: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if images:
            command.add_argument("-q", "--quick", action="store_true", help="small and once")
            command.add_argument(
                "-d", "--directory", type=Path, help="where the images go (a new one)"
            )
            command.add_argument(
                "-j", "--json", type=Path, metavar="FILE", help="write all that was found"
            )
        return command

    def add_names(command: argparse.ArgumentParser) -> None:
        command.add_argument("names", nargs="*", metavar="WORKLOAD", help="what to run (all)")
        command.add_argument("-o", "--options", default="", help="more mount options of lfs")

    compare = add("compare", "times of all systems, in rounds, and the budgets", _compare)
    add_names(compare)
    compare.add_argument("-l", "--list", action="store_true", help="list workloads and systems")
    compare.add_argument("-r", "--rounds", type=int, help=f"how often (default {ROUNDS})")
    count = add("counters", "bytes, requests, flushes and seeks of each operation", _count)
    add_names(count)
    for command in (compare, count):
        command.add_argument("-s", "--systems", help="systems, separated by commas (all)")
    add("size", "cost of lfs against the number of files and the size of the disk", _size)
    add_names(add("profile", "where the time goes in lfs, beside the ceiling", _profile))
    alone = add("core", "processor time of each operation without FUSE", _core)
    alone.add_argument(
        "-b", "--beside", type=Path, metavar="CHECKOUT", help="another version, in the same turns"
    )
    report = add("report", "make the page of results and its plots", _report, images=False)
    report.add_argument(
        "files", nargs="*", type=Path, metavar="FILE.json", help="(those in bench/results)"
    )
    report.add_argument("-p", "--page", type=Path, default=PAGE, help="(bench/RESULTS.md)")
    return parser


Command = Callable[[argparse.ArgumentParser, argparse.Namespace], int]


# ---------------------------------------------------------------------------- what is chosen


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
        parser.error(f"no such workload: {', '.join(sorted(unknown))} (see compare --list)")
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
        parser.error(f"no such system: {', '.join(sorted(unknown))} (see compare --list)")
    return [system for system in SYSTEMS if system.name in names]


def _command_text(arguments: argparse.Namespace) -> str:
    """Return the command that measures this again, without the paths of this machine."""
    words = ["python", "-m", "bench", arguments.command]
    words += ["-q"] if arguments.quick else []
    words += ["-r", str(arguments.rounds)] if getattr(arguments, "rounds", None) else []
    words += ["-s", arguments.systems] if getattr(arguments, "systems", None) else []
    words += ["-o", arguments.options] if getattr(arguments, "options", "") else []
    return shlex.join([*words, *getattr(arguments, "names", [])])


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


def _keep(
    arguments: argparse.Namespace, kind: str, work: Path, content: Mapping[str, object]
) -> None:
    if arguments.json:
        write_document(arguments.json, kind, _command_text(arguments), work, content)


def _print_problems(problems: Sequence[str]) -> None:
    if problems:
        print("\nnot measured:", *(f"  {problem}" for problem in problems), sep="\n")


# ------------------------------------------------------------------------------ the commands


def _compare(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.list:
        _print_list()
        return 0
    chosen, measurements = _chosen(parser, arguments.names)
    systems = _chosen_systems(parser, arguments.systems)
    quick = arguments.quick
    rounds = arguments.rounds or (ROUNDS_QUICK if quick else ROUNDS)
    with _work_folder(arguments.directory) as work:
        results = run_rounds(
            systems if chosen else [],
            chosen,
            QUICK if quick else FULL,
            rounds,
            work,
            IMAGE_BYTES_QUICK if quick else IMAGE_BYTES,
        )
        scale = library.QUICK if quick else library.FULL
        figures = _measure_alone(measurements, work, scale, results)
        _keep(arguments, "comparison", work, comparison_content(results, figures, rounds))
    if results.samples:
        print(f"medians of {rounds} rounds; ratios above 1 mean that lfs is better\n")
        print(aligned(table(results, chosen)), "\n\n" + legend(chosen), sep="")
    if results.waits:
        print("\nwaits: median / 99th percentile / longest, in ms\n")
        print(aligned(waits_table(results, chosen), texts=1))
    conditions = [one for one in findings(results) if one.figure is not None]
    if conditions:
        print("\nconditions:\n" + aligned([one.cells for one in conditions], texts=3))
    found = verdicts(results, figures)
    if found:
        print("\nbudgets:", *found, sep="\n")
    _print_problems(results.problems)
    return int(results.lfs_failed)


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


def _count(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    chosen = [w for w in _chosen(parser, arguments.names)[0] if w.group in counters.GROUPS]
    systems = _chosen_systems(parser, arguments.systems)
    results = Results()
    with _work_folder(arguments.directory) as work:
        found = counters.count_all(
            systems,
            chosen,
            QUICK if arguments.quick else FULL,
            work,
            IMAGE_BYTES_QUICK if arguments.quick else IMAGE_BYTES,
            results,
            show_on_terminal,
        )
        content = {"counters": found, "problems": results.problems}
        _keep(arguments, "counters", work, content)
    print("for each operation: KiB written / write requests / flushes / seeks\n")
    print(aligned(counter_table(found), texts=1))
    _print_problems(results.problems)
    return int(results.lfs_failed)


def _size(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    scale = measure.QUICK if arguments.quick else measure.FULL
    with _work_folder(arguments.directory) as work:
        results, problems = measure.measure_sizes(work, scale, SIZE_SECONDS_MAX, show_on_terminal)
        figures = figures_of(results)
        content = {
            "series": results.as_json(),
            "figures": figures_content(figures),
            "problems": problems,
        }
        _keep(arguments, "size", work, content)
    for against in AGAINST:
        print(aligned(size_table(results.series, against), texts=3), end="\n\n")
    print("budgets:", *verdicts(Results(), figures), sep="\n")
    _print_problems(problems)
    return 0


def _profile(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    missing = profile.missing()
    if missing:
        parser.error(missing)
    chosen, _ = _chosen(parser, arguments.names)
    chosen = [workload for workload in chosen if workload.group not in profile.LEFT_OUT]
    with _work_folder(arguments.directory) as work:
        found, problems = profile.profile_all(
            chosen,
            profile.SCALE_QUICK if arguments.quick else profile.SCALE,
            work,
            IMAGE_BYTES,
            show_on_terminal,
        )
        content = {
            "profiles": {name: one.as_json() for name, one in found.items()},
            "problems": problems,
        }
        _keep(arguments, "profiles", work, content)
    for name, one in found.items():
        print(f"{name}: {one.text()}\n")
    _print_problems(problems)
    return int(bool(problems))


def _core(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    quick = arguments.quick
    with _work_folder(arguments.directory) as work:
        try:
            found = core.measure_in_turns(
                core.versions(arguments.beside),
                work,
                core.FILES_QUICK if quick else core.FILES,
                core.TURNS_QUICK if quick else core.TURNS,
                show_on_terminal,
            )
        except SetupError as error:
            parser.error(str(error))
        _keep(arguments, "core", work, {"core": found})
    print(aligned(core.core_table(found)))
    return 0


def _report(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    files = arguments.files or sorted(RESULTS.glob("*.json"))
    try:
        documents = read_documents(files)
        if not documents:
            parser.error("no results: run compare, counters, size or profile with --json first")
        page.write_page(documents, arguments.page)
    except (DocumentError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 when something could not be measured on lfs."""
    parser = _parser()
    if not words or words[0] not in (*COMMANDS, "-h", "--help"):
        words = [COMMANDS[0], *words]
    arguments = parser.parse_args(words)
    Lfs.options_given = getattr(arguments, "options", "")
    try:
        with Unwinding():
            result: int = arguments.run(parser, arguments)
    except KeyboardInterrupt:
        print("\nstopped; everything is unmounted and removed", file=sys.stderr)
        return 130
    return result


if __name__ == "__main__":
    run("bench", lambda: lambda: main(sys.argv[1:]))
