"""Hostile images: whatever one field of one structure says, nobody hangs, dies or loses more.

What a mount and a check may do is refuse, say that it is damaged, or work.  They may not
loop, take memory by a number from the disk, or end in any other exception.  A failure
prints the identity of its case; ``LFS_HOSTILE=IDENTITY`` replays it, and
``LFS_HOSTILE=all`` tries every case, of which the others are a choice.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.checksum import checksum
from lfs.common.errors import DamageError
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import (
    KIND_CUT,
    KIND_ORPHAN,
    ROOT_INO,
    SYSTEM_INO,
    Branch,
    Pointer,
    pack_key,
    pack_node,
    unpack_node,
)
from tests.system.hostile.cases import Case, Sample
from tests.system.hostile.exercise import exercise
from tests.system.hostile.images import samples

CASE_COUNT = 500
CASE_SECONDS = 5
"""Of the processor's time: a machine that is busy otherwise makes no case long."""
MEMORY_BYTES = 512 << 20
_WANTED = os.environ.get("LFS_HOSTILE", "")


class _TooLong(BaseException):
    """A case took so long that it may never end."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _TooLong


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound time and memory."""
    with open("/proc/self/statm") as statm:
        now_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + MEMORY_BYTES, before[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, CASE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGVTALRM, handler)


@pytest.fixture(scope="module")
def hostile() -> dict[str, Sample]:
    return samples()


def _chosen(hostile: dict[str, Sample]) -> list[Case]:
    cases = [case for sample in hostile.values() for case in sample.cases()]
    if _WANTED == "all":
        return cases
    if _WANTED:
        return [case for case in cases if case.identity == _WANTED]
    return random.Random("hostile").sample(cases, CASE_COUNT)


def test_hostile_images_are_refused_or_served(hostile: dict[str, Sample]) -> None:
    failures: list[str] = []
    outcomes: set[str] = set()
    cases = _chosen(hostile)
    assert cases
    for case in cases:
        device = hostile[case.sample].image(case)
        try:
            with _bounded():
                outcomes.add(exercise(device))
        except (Exception, _TooLong) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{case.identity}: {error!r} at {where.filename}:{where.lineno}")
    assert not failures, "\n".join([f"{len(failures)} of {len(cases)}", *failures])
    if not _WANTED:
        assert any("mount refused" in outcome for outcome in outcomes)
        assert any("writable" in outcome for outcome in outcomes)
        assert any("failed" in outcome for outcome in outcomes)


def test_samples_have_every_structure(hostile: dict[str, Sample]) -> None:
    names = {name.split("-")[0] for one in hostile.values() for name in one.structures}
    assert names >= {"superblock", "checkpoint", "usage", "root", "leaf", "slot", "item"}
    assert names >= {"summary", "entry", "record"}
    kinds = {name.split("-")[1] for name in hostile["clean"].structures if "item" in name}
    assert kinds == {"0", "1", "2", "3"}
    assert any(name.startswith(f"item-{KIND_CUT}-") for name in hostile["crashed"].structures)
    for sample in hostile.values():
        device = sample.device.copy()
        for reseal in sample.reseal.values():
            reseal(device)
        assert "writable" in exercise(device), "sealing again changes nothing"


def _forged_to(raw: bytes, wanted: int) -> bytes:
    """Return ``raw`` with its last 4 bytes such that it has a checksum, which is affine in them."""
    base = checksum(raw[:-4] + bytes(4))
    basis: dict[int, tuple[int, int]] = {}
    for bit in range(32):
        value, bits = checksum(raw[:-4] + (1 << bit).to_bytes(4, "little")) ^ base, 1 << bit
        while value and value.bit_length() in basis:
            other = basis[value.bit_length()]
            value, bits = value ^ other[0], bits ^ other[1]
        if value:
            basis[value.bit_length()] = value, bits
    rest, chosen = wanted ^ base, 0
    while rest:
        value, bits = basis[rest.bit_length()]
        rest, chosen = rest ^ value, chosen ^ bits
    return raw[:-4] + chosen.to_bytes(4, "little")


def test_branch_that_is_its_own_child_ends(hostile: dict[str, Sample]) -> None:
    device = hostile["clean"].device.copy()
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    address, size = newest.imap_root.address, layout.block_bytes
    itself = Pointer(address, 0x12345678)
    branch = Branch(1, [bytes(17)], [itself])
    raw = pack_node(branch, layout.filesystem_id, address, 1, size)
    device.write(address * size, [_forged_to(raw, itself.checksum)])
    for level in (1, 2, 255):
        changed = newest.replaced(imap_root=itself, imap_root_level=level)
        at = layout.checkpoint_offset_bytes[newest.number % 2]
        packed = changed.pack(layout.filesystem_id, at)
        device.write(at, [packed.ljust(-(-len(packed) // 512) * 512, b"\0")])
        with _bounded():
            exercise(device.copy())


def test_tree_whose_branches_lead_twice_to_the_next_is_listed_soon(
    hostile: dict[str, Sample],
) -> None:
    # 2**32 ways lead down; a listing goes on from key to key, of which there are few.
    device = hostile["clean"].device.copy()
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    size = layout.block_bytes
    root = unpack_node(
        device.read(newest.imap_root.address * size, size),
        layout.filesystem_id,
        newest.imap_root.address,
    )
    assert isinstance(root, Branch)
    below = root.children[0]
    segment_start = layout.first_segment_block + (
        (newest.imap_root.address - layout.first_segment_block)
        // layout.segment_blocks
        * layout.segment_blocks
    )
    taken = {newest.imap_root.address}
    taken.update(each.address for each in (*root.children, *newest.usage_pages))
    free = [block for block in range(segment_start, segment_start + 64) if block not in taken]
    keys = [bytes(17), pack_key(ROOT_INO, 0, 1)]
    for level in range(1, 33):
        raw = pack_node(
            Branch(level, keys, [below, below]), layout.filesystem_id, free[level], 1, size
        )
        device.write(free[level] * size, [raw])
        below = Pointer(free[level], checksum(raw))
    changed = newest.replaced(imap_root=below, imap_root_level=32)
    at = layout.checkpoint_offset_bytes[newest.number % 2]
    packed = changed.pack(layout.filesystem_id, at)
    device.write(at, [packed.ljust(-(-len(packed) // 512) * 512, b"\0")])
    with _bounded():
        filesystem = Filesystem.mount(device.copy(), 10, Options(read_only=True))
        found = [key for key, _ in filesystem.core.volume.imap.scan(bytes(17), b"\xff" * 17)]
        assert len(found) == len(set(found))
        assert "inodes" in exercise(device.copy())


def test_directories_that_are_each_other_s_parent_end(hostile: dict[str, Sample]) -> None:
    filesystem = Filesystem.mount(hostile["clean"].device.copy(), 10)
    directory = filesystem.lookup(ROOT_INO, b"directory")
    below = filesystem.lookup(directory.ino, b"below")
    directory.parent_ino = below.ino
    moved = filesystem.mkdir(ROOT_INO, b"moved", 0o755, 0, 0, 11)
    # Nobody is below a directory without any: then nothing above is looked at.
    filesystem.mkdir(moved.ino, b"in it", 0o755, 0, 0, 11)
    with _bounded(), pytest.raises(DamageError, match="cycle"):
        filesystem.rename(ROOT_INO, b"moved", below.ino, b"moved", 12)
    assert filesystem.lookup(ROOT_INO, b"moved").is_directory


@pytest.mark.parametrize("name", [b"", b"directory", b"inline"])
def test_orphan_item_of_what_has_a_name_takes_nothing_away(
    hostile: dict[str, Sample], name: bytes
) -> None:
    device = hostile["clean"].device.copy()
    filesystem = Filesystem.mount(device, 10)
    ino = filesystem.lookup(ROOT_INO, name).ino if name else ROOT_INO
    filesystem.core.volume.imap.put(pack_key(SYSTEM_INO, KIND_ORPHAN, ino), b"")
    filesystem.sync(11)
    lines: list[str] = []
    filesystem = Filesystem.mount(device.copy(), 12, report=lines.append)
    assert any(f"orphan {ino} can't be removed: has" in line for line in lines)
    names = {entry.name for entry in filesystem.readdir(ROOT_INO)}
    assert names > {b"directory", b"inline"}
    assert filesystem.getattr(ino).nlink
    filesystem.create(ROOT_INO, b"more", 0o100644, 0, 0, 13)
    filesystem.unmount(14)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"../a", b"a\0b"])
def test_name_that_leads_elsewhere_is_never_listed_and_hides_no_other(
    hostile: dict[str, Sample], name: bytes
) -> None:
    filesystem = Filesystem.mount(hostile["clean"].device.copy(), 10)
    place, found = filesystem.core.directories.find(ROOT_INO, name)
    assert found is None
    names = [entry.name for entry in filesystem.readdir(ROOT_INO)]
    filesystem.core.directories.put(place, ROOT_INO, 4)
    listing, listed = filesystem.readdir(ROOT_INO), []
    with pytest.raises(DamageError, match="has an entry called"):  # noqa: PT012  after all others
        for entry in listing:
            listed.append(entry.name)
    assert listed == names
    noted: list[DamageError] = []
    assert [entry.name for entry in filesystem.readdir(ROOT_INO, 0, noted.append)] == names
    assert len(noted) == 1


def test_name_that_leads_to_nothing_is_damage(hostile: dict[str, Sample]) -> None:
    filesystem = Filesystem.mount(hostile["clean"].device.copy(), 10)
    place, _ = filesystem.core.directories.find(ROOT_INO, b"lost")
    filesystem.core.directories.put(place, 99_999, 8)
    assert b"lost" in {entry.name for entry in filesystem.readdir(ROOT_INO)}
    with pytest.raises(DamageError, match="b'lost' in directory 1 leads to inode 99999"):
        filesystem.lookup(ROOT_INO, b"lost")
    with pytest.raises(DamageError, match="b'lost' in directory 1 leads to inode 99999"):
        filesystem.unlink(ROOT_INO, b"lost", 11)
