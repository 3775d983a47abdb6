"""The fixed places: superblocks, checkpoint regions, and the usage table they lead to.

FORMAT.md, "The device", "Superblock", "Checkpoint region", "Usage page".  What
makes a target no usable filesystem at all is a ``FormatError``: there is then
nothing to check.  A checkpoint region that does not hold is no problem while
the other one does, because a crash may tear the one being written.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsck.reading.image import Image, Run, RunTable
from fsck.reading.report import Report
from fsck.reading.space import Extents, Owner
from lfs.common.errors import DamageError, DeviceError, FormatError
from lfs.device.base import BlockDevice
from lfs.ondisk import (
    CHECKPOINT_MAGIC,
    CHECKPOINT_REGION_BYTES,
    CHECKPOINT_REGION_COUNT,
    COMPATIBLE_KNOWN,
    FORMAT_VERSION,
    HEAD_AREA_BYTES,
    INCOMPATIBLE_KNOWN,
    READ_ONLY_COMPATIBLE_KNOWN,
    SEGMENT_CLEAN,
    SEGMENT_CONTINUED,
    SEGMENT_RUN,
    SUPERBLOCK_ALIGN_BYTES,
    SUPERBLOCK_MAGIC,
    SUPERBLOCK_OFFSET_BYTES,
    Checkpoint,
    Superblock,
    Usage,
    UsagePage,
    backup_superblock_offset_bytes,
    block_seal_holds,
    block_sequence,
    superblock_seal_holds,
    unpack_usage_page,
    usage_per_page,
)

_CLEAN = Usage(0, 0, SEGMENT_CLEAN, 0, 0)
_NO_PAGE = UsagePage((), 0, 0, 0)


# -------------------------------------------------------------------- superblocks


def read_superblock(device: BlockDevice, report: Report) -> Superblock:
    """Return the superblock that counts and report what is wrong with the copies.

    Raises FormatError when ``device`` holds no lfs filesystem that can be
    checked: no superblock, an unknown version or feature, a truncated device.
    """
    end_offset_bytes = backup_superblock_offset_bytes(device.size_bytes)
    if end_offset_bytes <= SUPERBLOCK_OFFSET_BYTES:
        raise FormatError("not an lfs filesystem: too small for one")
    primary, failure = _superblock_at(device, SUPERBLOCK_OFFSET_BYTES)
    copy_offset_bytes = primary.copy_offset_bytes if primary else end_offset_bytes
    copy, copy_failure = _superblock_at(device, copy_offset_bytes)
    copies = [each for each in (primary, copy) if each is not None]
    if not copies:
        raise FormatError(_nothing_found(device, failure, copy_failure))
    chosen = max(copies, key=lambda copy: copy.generation)
    _require_usable(chosen, device)
    for place, why in ((SUPERBLOCK_OFFSET_BYTES, failure), (copy_offset_bytes, copy_failure)):
        if why:
            report.mend(f"a superblock is lost, at byte {place} ({why})", "writes it again")
    if primary is not None and copy is not None:
        _compare_copies(primary, copy, report)
    return chosen


def _superblock_at(device: BlockDevice, offset_bytes: int) -> tuple[Superblock | None, str]:
    """Return the superblock at a place, or None and why there is none."""
    if offset_bytes + SUPERBLOCK_ALIGN_BYTES > device.size_bytes:
        return None, f"byte {offset_bytes} is outside the device"
    try:
        return Superblock.unpack(
            device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES), offset_bytes
        ), ""
    except (DamageError, DeviceError) as error:
        return None, str(error.strerror)


def _nothing_found(device: BlockDevice, failure: str, copy_failure: str) -> str:
    """Return what a device without a superblock is called, and what may help."""
    if _has_not_grown(device):
        return f"both superblocks of an lfs filesystem are lost ({failure}; {copy_failure})"
    for number in range(CHECKPOINT_REGION_COUNT):
        offset_bytes = HEAD_AREA_BYTES + number * CHECKPOINT_REGION_BYTES
        try:
            raw = device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES)
        except DeviceError:
            continue
        if raw.startswith(CHECKPOINT_MAGIC):
            return (
                f"both superblocks of an lfs filesystem are lost ({failure}): if the image or "
                "disk has grown, make it as long as it was (truncate -s), for a copy is at its "
                "old end"
            )
    return f"not an lfs filesystem: {failure}"


def _has_not_grown(device: BlockDevice) -> bool:
    """Tell whether a superblock is where it was written, although it does not hold."""
    try:
        end_offset_bytes = backup_superblock_offset_bytes(device.size_bytes)
        if device.read(end_offset_bytes, SUPERBLOCK_ALIGN_BYTES).startswith(SUPERBLOCK_MAGIC):
            return True
        return superblock_seal_holds(device.read(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_ALIGN_BYTES))
    except DeviceError:
        return False


def _require_usable(superblock: Superblock, device: BlockDevice) -> None:
    """Raise FormatError unless this check understands ``superblock`` and it fits ``device``."""
    if superblock.format_version != FORMAT_VERSION:
        raise FormatError(
            f"format version {superblock.format_version} is not supported "
            f"(this fsck.lfs knows version {FORMAT_VERSION})"
        )
    unknown = superblock.incompatible & ~INCOMPATIBLE_KNOWN
    if unknown:
        raise FormatError(f"unknown incompatible features {unknown:#x}: use a newer fsck.lfs")
    if device.size_bytes < superblock.end_block * superblock.block_bytes:
        needed_bytes = superblock.device_blocks * superblock.block_bytes
        raise FormatError(
            f"truncated: the filesystem was made for {needed_bytes} bytes, "
            f"the device has {device.size_bytes}"
        )


def _compare_copies(primary: Superblock, copy: Superblock, report: Report) -> None:
    if primary.generation != copy.generation:
        report.mend(
            f"the superblocks have generations {primary.generation} (primary) and "
            f"{copy.generation} (copy), of which the higher one counts",
            "makes both the same",
        )
    elif primary.at(copy.offset_bytes) != copy:
        report.add(
            "superblock-differ",
            f"superblock primary and copy differ but have the same generation {copy.generation}",
        )
    for word, known in (
        ("compatible", COMPATIBLE_KNOWN),
        ("read_only_compatible", READ_ONLY_COMPATIBLE_KNOWN),
    ):
        unknown = getattr(primary, word) & ~known
        if unknown:
            report.note(f"unknown {word} features {unknown:#x}: what they add is not checked")


# -------------------------------------------------------------------- checkpoints


def read_checkpoint(image: Image, report: Report) -> Checkpoint | None:
    """Return the valid checkpoint with the higher number; None, and a problem, without one."""
    valid: list[Checkpoint] = []
    failures: list[str] = []
    for region, offset_bytes in enumerate(image.superblock.checkpoint_offset_bytes):
        try:
            raw = image.device.read(offset_bytes, CHECKPOINT_REGION_BYTES)
            if not raw.strip(b"\0"):
                failures.append(f"checkpoint region {region} was never written")
                continue
            checkpoint = Checkpoint.unpack(raw, image.filesystem_id, offset_bytes)
        except (DamageError, DeviceError) as error:
            failures.append(f"checkpoint region {region} does not hold: {error.strerror}")
            continue
        valid.append(checkpoint)
        if checkpoint.number % CHECKPOINT_REGION_COUNT != region:
            report.add(
                "checkpoint-region",
                f"checkpoint {checkpoint.number}: expected in region "
                f"{checkpoint.number % CHECKPOINT_REGION_COUNT}, found in region {region}",
            )
    if not valid:
        report.add("checkpoint-none", f"no valid checkpoint: {'; '.join(failures)}")
        return None
    for failure in failures:
        report.mend(
            f"{failure}: torn by a crash or damaged; checkpoint {valid[0].number} in the other "
            "region counts",
            "writes it again",
        )
    return max(valid, key=lambda checkpoint: checkpoint.number)


# -------------------------------------------------------------------- usage table


def read_usage(
    image: Image, checkpoint: Checkpoint, extents: Extents, report: Report
) -> RunTable | None:
    """Return the runs of ``checkpoint``'s usage table, whose pages join ``extents``.

    Reports pages that do not hold and impossible runs; None when a page is lost.
    """
    places = _Places(image)
    reader = _RunReader(image, checkpoint, places, report)
    per_page = usage_per_page(image.block_bytes)
    segment_count = image.superblock.segment_count
    page_count = -(-segment_count // per_page)
    if len(checkpoint.usage_pages) > page_count:
        report.add(
            "usage-page",
            f"usage table: expected at most {page_count} pages, "
            f"found {len(checkpoint.usage_pages)}",
        )
    complete = True
    pages: list[Sequence[Usage] | None] = []
    for index in range(min(page_count, len(checkpoint.usage_pages))):
        page = _read_usage_page(image, checkpoint, index, extents, report)
        if page is not None and page.run_blocks and not places.add(page):
            report.add(
                "usage-page",
                f"usage page {index}: lies in an impossible run of {page.run_blocks} blocks "
                f"at {page.run_address}",
                page.run_address,
            )
        complete = complete and page is not None
        pages.append(None if page is None else page.entries)
    for index, entries in enumerate(pages):
        entries_expected = min(per_page, segment_count - index * per_page)
        reader.take_page(index * per_page, entries_expected, entries)
    reader.end(min(segment_count, len(checkpoint.usage_pages) * per_page))
    return reader.runs if complete else None


def _read_usage_page(
    image: Image, checkpoint: Checkpoint, index: int, extents: Extents, report: Report
) -> UsagePage | None:
    """Return usage page ``index``, an empty one if all are clean, None if it is lost."""
    pointer = checkpoint.usage_pages[index]
    if pointer.address == 0:
        return _NO_PAGE
    try:
        raw = image.read_verified(pointer)
        page = unpack_usage_page(raw, index, image.filesystem_id, pointer.address)
    except (DamageError, DeviceError) as error:
        report.add("usage-page", f"usage page {index}: {error.strerror}", pointer.address)
        return None
    extents.add_block(Owner.USAGE, pointer, index)
    if not block_seal_holds(raw):
        report.add("usage-page", f"usage page {index}: own checksum is wrong", pointer.address)
    if block_sequence(raw) >= checkpoint.next_sequence:
        report.add(
            "usage-page",
            f"usage page {index}: expected a sequence number below "
            f"{checkpoint.next_sequence}, found {block_sequence(raw)}",
            pointer.address,
        )
    return page


class _Places:
    """Where the usage pages lie themselves, which no entry counts.

    A run may have been opened for some of them when its own page had been written
    already: then that page has it as clean.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._runs: dict[int, list[int]] = {}
        self._continued: set[int] = set()

    def add(self, page: UsagePage) -> bool:
        """Take the place of ``page``; tell whether its run is possible."""
        image = self._image
        segment_count, rest = divmod(page.run_blocks, image.segment_blocks)
        segment, skew = divmod(page.run_address - image.first_block, image.segment_blocks)
        is_power = segment_count > 0 and not segment_count & (segment_count - 1)
        if rest or skew or not is_power or segment % segment_count:
            return False
        if not image.is_in_segments(page.run_address, page.run_blocks):
            return False
        run = self._runs.setdefault(segment, [segment_count, 0, 0])
        run[1] += 1
        run[2] = max(run[2], page.sequence)
        self._continued.update(range(segment + 1, segment + segment_count))
        return True

    def are_in(self, first: int, count: int) -> bool:
        """Tell whether a page lies in one of ``count`` segments from ``first`` on."""
        used = (*self._runs, *self._continued)
        return any(first <= segment < first + count for segment in used)

    def completed(self, segment: int, entry: Usage) -> Usage:
        """Return ``entry`` with what the places of the pages add to it."""
        if segment in self._continued and entry.state == SEGMENT_CLEAN:
            return Usage(0, 0, SEGMENT_CONTINUED, 0, 0)
        if segment not in self._runs:
            return entry
        segment_count, pages, sequence = self._runs[segment]
        order = segment_count.bit_length() - 1
        if entry.state == SEGMENT_CLEAN:
            return Usage(pages, order, SEGMENT_RUN, 0, sequence)
        return entry._replace(
            live_blocks=entry.live_blocks + pages,
            last_sequence=max(entry.last_sequence, sequence),
        )


class _RunReader:
    """Turns the usage of one segment after the other into runs.

    Invariant: every segment below ``_position`` was taken; those up to
    ``_run_end`` belong to the last run and must be continued.
    """

    def __init__(
        self, image: Image, checkpoint: Checkpoint, places: _Places, report: Report
    ) -> None:
        self.runs = RunTable()
        self._segment_count = image.superblock.segment_count
        self._next_sequence = checkpoint.next_sequence
        self._places = places
        self._report = report
        self._run_end = 0

    def take_page(self, first: int, count: int, entries: Sequence[Usage] | None) -> None:
        """Take ``count`` segments from ``first`` on; ``entries`` is None when they are unknown."""
        if entries is None:
            self._run_end = 0
            return
        if not entries and self._run_end <= first and not self._places.are_in(first, count):
            return
        if len(entries) > count:
            self._bad(first, f"expected at most {count} entries in the page, found {len(entries)}")
        for offset in range(count):
            entry = entries[offset] if offset < len(entries) else _CLEAN
            self._take(first + offset, self._places.completed(first + offset, entry))

    def end(self, segment: int) -> None:
        """Take the end of the table: ``segment`` and those behind it are clean."""
        if self._run_end > segment:
            self._bad(segment, f"expected continued up to segment {self._run_end - 1}, found clean")

    def _take(self, segment: int, entry: Usage) -> None:
        if segment < self._run_end:
            if entry.state == SEGMENT_CONTINUED and entry.live_blocks == 0:
                return
            self._bad(segment, f"expected the run to continue without a count, found {entry}")
            if entry.state != SEGMENT_RUN:
                return
        if entry.state == SEGMENT_RUN:
            self._begin(segment, entry)
        elif entry.state != SEGMENT_CLEAN or entry.live_blocks != 0:
            self._bad(segment, f"expected a clean segment or the head of a run, found {entry}")

    def _begin(self, segment: int, entry: Usage) -> None:
        segment_count = 1 << min(entry.order, 63)
        if segment % segment_count or segment + segment_count > self._segment_count:
            self._bad(segment, f"a run of order {entry.order} cannot begin here")
            segment_count = 1
        if entry.last_sequence >= self._next_sequence:
            self._bad(
                segment,
                f"expected a last sequence number below {self._next_sequence}, "
                f"found {entry.last_sequence}",
            )
        self._run_end = segment + segment_count
        self.runs.append(Run(segment, segment_count, entry.live_blocks, entry.last_sequence))

    def _bad(self, segment: int, text: str) -> None:
        self._report.add("usage-state", f"usage of segment {segment}: {text}")
