"""The complete check of a device, from the superblocks to the last data block.

``check_device`` is the library's entry point; the package's docstring tells the
order of things.  It changes nothing, and it keeps no more than compact columns
for inodes, names and extents (some 100 bytes a file).
"""

from __future__ import annotations

from collections.abc import Callable

from fsck.items.data import DataVerifier
from fsck.items.inodes import InodeChecker
from fsck.items.names import Names
from fsck.items.paths import find_paths
from fsck.log import Log, probe_log, read_log, runs_with_log
from fsck.reading.image import Image
from fsck.reading.overlay import merged
from fsck.reading.report import Report
from fsck.reading.space import Extents, check_overlaps, check_places, check_usage
from fsck.reading.tree import TreeWalk
from fsck.structure import read_checkpoint, read_superblock, read_usage
from fsck.summaries import check_summaries
from lfs.device.base import BlockDevice
from lfs.ondisk import Checkpoint


def check_device(
    device: BlockDevice,
    progress: Callable[[str], None] | None = None,
    data: bool = True,
) -> Report:
    """Check the whole filesystem on ``device`` and return what was found.

    ``progress`` gets a line now and then; ``data`` tells whether to read and
    verify every block of file data too.  Damage becomes problems in the report.
    Raises FormatError when there is nothing to check: no lfs filesystem, one of
    an unknown version or with unknown incompatible features, a truncated one.
    """
    report = Report() if progress is None else Report(progress)
    report.progress("superblocks, checkpoints and usage table")
    image = Image(device, read_superblock(device, report))
    checkpoint = read_checkpoint(image, report)
    if checkpoint is not None:
        _Check(image, checkpoint, report).run(data)
    return report


def check_marks(device: BlockDevice) -> Report:
    """Check superblocks, checkpoint and usage pages only; whether the rest holds is unknown.

    ``is_clean_unmount`` of the report tells that the filesystem was unmounted
    cleanly.  Raises FormatError as ``check_device`` does.
    """
    report = Report()
    image = Image(device, read_superblock(device, report))
    checkpoint = read_checkpoint(image, report)
    if checkpoint is None:
        return report
    read_usage(image, checkpoint, Extents(image, report), report)
    report.is_clean_unmount = checkpoint.clean and not probe_log(image, checkpoint)
    report.count("inodes", checkpoint.inode_count)
    _count_blocks(image, checkpoint, report)
    return report


def _count_blocks(image: Image, checkpoint: Checkpoint, report: Report) -> None:
    report.count("live_blocks", checkpoint.live_block_count)
    report.count("segment_blocks", image.end_block - image.first_block)


class _Check:
    """One check from a valid checkpoint on."""

    def __init__(self, image: Image, checkpoint: Checkpoint, report: Report) -> None:
        self.image = image
        self.checkpoint = checkpoint
        self.report = report
        self.extents = Extents(image, report)

    def run(self, data: bool) -> None:
        report, checkpoint = self.report, self.checkpoint
        runs = read_usage(self.image, checkpoint, self.extents, report)
        _count_blocks(self.image, checkpoint, report)
        report.progress("log")
        log = read_log(self.image, checkpoint, runs, self.extents, report)
        report.log_commits = log.commit_count
        report.is_clean_unmount = checkpoint.clean and not log.writes
        if not report.is_clean_unmount:
            report.mend(
                f"not unmounted cleanly: {log.commit_count} commits wait in the log after "
                f"checkpoint {checkpoint.number}",
                "replays them" if log.commit_count else "goes on from there",
            )
        report.progress("inodes, names and data")
        is_whole = self._check_items(log, data)
        report.progress("blocks and summaries")
        extents = self.extents.sorted()
        check_overlaps(extents, report)
        if runs is None:
            report.note("usage and summaries are not checked: part of the usage table is lost")
        else:
            grown = runs_with_log(self.image, runs, log)
            check_places(self.image, extents, runs, grown, report)
            if is_whole:
                check_usage(self.image, extents, runs, checkpoint.live_block_count, report)
            check_summaries(self.image, extents, grown, report)
        self._add_paths(log)

    def _check_items(self, log: Log, data: bool) -> bool:
        """Check the imap and everything in it; return whether all of it could be read."""
        report, checkpoint = self.report, self.checkpoint
        walk = TreeWalk(self.image, checkpoint, self.extents, report)
        names = Names(report)
        verifier = DataVerifier(self.image, report, checkpoint.live_block_count) if data else None
        checker = InodeChecker(
            self.image, walk, checkpoint.next_ino, self.extents, names, verifier, report
        )
        for key, before, after in merged(walk.items(), log.overlay):
            checker.take(key, before, after)
        checker.finish()
        if verifier is not None:
            verifier.finish()
        report.count("nodes", walk.node_count)
        if walk.lost:
            report.note("names, links, usage and counts are not checked: part of the imap is lost")
            return False
        self._check_count("node-count", "imap nodes", walk.node_count, checkpoint.node_count)
        self._check_count("inode-count", "inodes", checker.inode_count, checkpoint.inode_count)
        names.check()
        checker.finish_all()
        return True

    def _check_count(self, code: str, what: str, expected: int, found: int) -> None:
        if expected != found:
            self.report.add(code, f"checkpoint: expected {expected} {what}, found {found}")

    def _add_paths(self, log: Log) -> None:
        """Name the files that problems are about."""
        problems = self.report.problems
        inos = {problem.ino for problem in problems if problem.ino is not None}
        if not inos:
            return
        paths = find_paths(self.image, self.checkpoint, log.overlay, inos)
        for index, problem in enumerate(problems):
            if problem.ino in paths:
                message = f"{problem.message} ({paths[problem.ino]})"
                problems[index] = problem._replace(message=message)
