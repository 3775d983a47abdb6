"""The command fsck.lfs.

Exit codes are those of fsck(8): 0 clean, or nothing but what the next writable mount
makes good by itself (a line each), 4 problems found and left as they are, 8 no check was
possible, 16 wrong usage, 32 cancelled, 128 a library is missing.
Nothing on the target is ever changed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfs.command import entries
from lfs.command.notes import noting
from lfs.command.parser import Parser
from lfs.command.parts import import_failure

if TYPE_CHECKING:
    from fsck.reading.report import Report

EXIT_CLEAN = 0
EXIT_PROBLEMS = 4
EXIT_FAILED = 8
EXIT_USAGE = 16
EXIT_LIBRARY = 128

LOCK_WAIT_SECONDS = 10.0


class _Parser(Parser):
    """Reports a wrong call with the exit code of fsck(8)."""

    usage_code = EXIT_USAGE


class _Refused(argparse.Action):
    """An option for repair, which this version does not have."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Say so and exit."""
        option = "/".join(self.option_strings)
        text = f"{option}: this version checks but does not repair; use -n or no option"
        parser.exit(EXIT_USAGE, f"{parser.prog}: {text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fsck.lfs",
        description="Check an lfs filesystem; nothing is changed.",
        epilog="Exit codes: 0 clean, or nothing but what the next writable mount makes good by "
        "itself (which is printed), 4 problems found, 8 no check was possible, 16 wrong usage, "
        "32 cancelled, 128 a library is missing.",
    )
    option = parser.add_argument
    option("-n", dest="no_change", action="store_true", help="change nothing (always so)")
    option(
        "-f",
        dest="force",
        action="store_true",
        help="check everything even when the filesystem was unmounted cleanly",
    )
    option("-v", dest="verbose", action="store_true", help="print phases, notes and statistics")
    option(
        "-a",
        "-p",
        dest="unattended",
        action="store_true",
        help="as at boot: one line, whatever is found (repair is not available yet)",
    )
    option("-y", action=_Refused, nargs=0, help="repair: not available yet")
    # fsck(8) passes these two; what they ask for does not apply here.
    option("-C", dest="progress_descriptor", metavar="FD", help=argparse.SUPPRESS)
    option("-T", dest="no_title", action="store_true", help=argparse.SUPPRESS)
    option("target", metavar="TARGET", type=Path, nargs="?", help="image file or block device")
    return parser


def _check(options: argparse.Namespace) -> int:
    """Check the target, print what was found, return the exit code.

    Raises UsageError, FormatError or FilesystemError when no check is possible.
    """
    from fsck.check import check_device, check_marks
    from lfs.device.file import FileDevice

    opened = FileDevice(
        options.target, True, wait_seconds=LOCK_WAIT_SECONDS, on_wait=noting("fsck.lfs")
    )
    with contextlib.closing(opened) as device:
        if not options.force:
            marks = check_marks(device)
            if marks.is_clean and marks.is_clean_unmount:
                _print_report(marks, options)
                return EXIT_CLEAN
        talkative = options.verbose and not options.unattended
        report = check_device(device, _print_progress if talkative else None)
    _print_report(report, options)
    return EXIT_CLEAN if report.is_clean else EXIT_PROBLEMS


def _print_report(report: Report, options: argparse.Namespace) -> None:
    """Print what was found, unattended in one line."""
    lines = [f"{options.target}: {_verdict(report.problem_count)}, {_contents(report)}"]
    if options.unattended:
        lines += report.mendable
    else:
        _print_findings(report, options.verbose)
    print("; ".join(lines))


def _print_findings(report: Report, verbose: bool) -> None:
    for problem in report.problems:
        print(problem)
    hidden_count = report.problem_count - len(report.problems)
    if hidden_count:
        print(f"and {hidden_count} more problems")
    for line in report.mendable:
        print(line)
    if verbose:
        for note in report.notes:
            print(f"note: {note}")
        for name, value in report.statistics.items():
            print(f"{name.replace('_', ' ')}: {value}")


def _print_progress(line: str) -> None:
    print(line, flush=True)


def _verdict(problem_count: int) -> str:
    if problem_count == 0:
        return "clean"
    return f"{problem_count} problem{'s' if problem_count > 1 else ''} found, nothing changed"


def _contents(report: Report) -> str:
    numbers = report.statistics
    inodes, live = numbers.get("inodes", 0), numbers.get("live_blocks", 0)
    return f"{inodes} inodes, {live}/{numbers.get('segment_blocks', 0)} blocks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        from lfs.common.errors import FilesystemError, FormatError, UsageError

        if options.target is None:
            parser.error("which image or device?")
        return _check(options)
    except ImportError as error:
        print(f"fsck.lfs: {import_failure(error)}", file=sys.stderr)
        return EXIT_LIBRARY
    except UsageError as error:
        print(f"fsck.lfs: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (FormatError, FilesystemError) as error:
        text = error.strerror if isinstance(error, FilesystemError) else error
        print(f"fsck.lfs: {options.target}: {text}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    entries.fsck()
