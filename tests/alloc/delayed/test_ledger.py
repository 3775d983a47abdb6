"""The crude bound that spares most requests the real ones never says more than they."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lfs.alloc.admission.admission import Admission, Demand
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.pending import Moving
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.imap.map import Imap
from lfs.ondisk import ROOT_INO, Branch, Pointer
from tests.support.volumes import format_small, mount

_NUMBERS = range(100_000)
REGULAR = stat.S_IFREG | 0o644


def changes(filesystem: Filesystem, choose: random.Random) -> Iterator[None]:
    """Make, write, truncate and remove files; commit and checkpoint now and then."""
    inos: list[int] = []
    for number in range(500):
        now_ns = number + 1
        call = choose.randrange(100)
        if call < 40 or not inos:
            inos.append(filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, now_ns).ino)
        elif call < 60:
            filesystem.write(choose.choice(inos), 0, bytes(choose.randrange(300)), now_ns)
        elif call < 80:
            offset = choose.randrange(100_000)
            filesystem.write(choose.choice(inos), offset, bytes(5000), now_ns)
        elif call < 90:
            filesystem.setattr(choose.choice(inos), now_ns, size=choose.randrange(10_000))
        elif call < 96:
            filesystem.setxattr(choose.choice(inos), b"user.a", bytes(900), now_ns)
        elif call < 98:
            filesystem.sync(now_ns)
        elif call < 99:
            filesystem.checkpoint(now_ns)
        yield


def hold(space: Ledger, admission: Admission) -> None:
    """Hold the crude bound, and what it allows, against the real ones."""
    crude_blocks = space._crude_blocks()
    assert crude_blocks >= space.pending_blocks()
    assert crude_blocks >= space.metadata_blocks + space.dirty_blocks
    admission.cover(0)
    allowed_blocks = admission._allowance_blocks - 1
    if allowed_blocks > 0:
        assert space.shortage_blocks(allowed_blocks) <= 0
        assert space.available_blocks(privileged=False) >= allowed_blocks


@pytest.mark.parametrize("block_bytes", [1024, 4096])
def test_crude_bound_is_a_bound(block_bytes: int) -> None:
    device = MemoryDevice(16 << 20)
    format_small(device, block_bytes, 64)
    filesystem = mount(device, 0)
    space = filesystem.core.ledger
    refused = 0
    steps = changes(filesystem, random.Random(block_bytes))
    while True:
        try:
            next(steps)
        except StopIteration:
            break
        except FilesystemError:
            refused += 1
            steps = changes(filesystem, random.Random(refused))
            if refused > 3:
                break
        hold(space, filesystem.core.admission)


counts = st.one_of(st.integers(0, 50), st.integers(0, 100_000))
sizes = st.one_of(st.integers(0, 10_000), st.integers(0, 1 << 26))


@pytest.mark.pure_core
@given(
    block_bytes=st.sampled_from([1024, 4096]),
    changed=counts,
    dirty=counts,
    nodes=counts,
    dirty_blocks=counts,
    level=st.integers(0, 8),
    changed_bytes=sizes,
    unlogged_bytes=sizes,
    inline_bytes=sizes,
    data_blocks=counts,
    touched=counts,
    pinned=counts,
    files=counts,
    still=counts,
)
@example(1024, 0, 0, 0, 0, 0, 0, 0, 1 << 20, 0, 0, 0, 0, 0)
@example(1024, 0, 0, 0, 0, 0, 0, 0, 0, 3800, 0, 0, 0, 0)
def test_crude_bound_is_a_bound_whatever_is_pending(
    block_bytes: int,
    changed: int,
    dirty: int,
    nodes: int,
    dirty_blocks: int,
    level: int,
    changed_bytes: int,
    unlogged_bytes: int,
    inline_bytes: int,
    data_blocks: int,
    touched: int,
    pinned: int,
    files: int,
    still: int,
) -> None:
    filesystem = _filesystems(block_bytes)
    space = filesystem.core.ledger
    volume, inodes = space._volume, space._inodes
    # Only how many there are matters.
    volume.imap.changes = dict.fromkeys(_NUMBERS[:changed])  # type: ignore[arg-type]
    inodes.dirty = dict.fromkeys(_NUMBERS[:dirty])  # type: ignore[assignment]
    inodes.inline_bytes = inline_bytes
    inodes.pinned_count = pinned
    inodes.dirty_data.owners = dict.fromkeys(_NUMBERS[:files])  # type: ignore[assignment]
    inodes.dirty_data.block_count = dirty_blocks
    volume.imap.touched_keys = _NUMBERS[:touched]  # type: ignore[assignment]
    volume.imap._still = {*_NUMBERS[: min(still, changed)]}
    volume.imap.node_count, volume.imap.root_level = nodes, level
    volume.imap.changed_bytes, volume.imap.unlogged_bytes = changed_bytes, unlogged_bytes
    volume.usage.live_total = nodes + data_blocks
    space.limit_blocks, space.privileged_blocks = 4000, 100
    space._open_limit_blocks = 3900
    # Nothing of it is there: only the numbers are.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filesystem.core.cleaner, "help", lambda now_ns: False)
        hold(space, filesystem.core.admission)


def nodes_of(imap: Imap) -> set[int]:
    """Return where the nodes of the tree are."""
    found: set[int] = set()

    def add(pointer: Pointer, level: int) -> None:
        found.add(pointer.address)
        node = imap.load(pointer, level)
        if isinstance(node, Branch):
            for child in node.children:
                add(child, level - 1)

    add(imap.root, imap.root_level)
    return found


def no_room(blocks: int, is_urgent: bool = True) -> None:
    """Make none."""


@cache
def _filesystems(block_bytes: int) -> Filesystem:
    device = MemoryDevice(16 << 20)
    format_small(device, block_bytes, 64)
    filesystem = mount(device, 0)
    # What the numbers say is held here, not what making room would change.
    filesystem.core.admission.make_room = no_room  # type: ignore[method-assign]
    return filesystem


@pytest.mark.pure_core
def test_allowance_is_spent_by_what_is_asked_in_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    admission = mount(device, 0).core.admission
    looks: list[int] = []
    covered = Ledger.covers

    def counted(self: Ledger, blocks: int) -> bool:
        looks.append(blocks)
        return covered(self, blocks)

    monkeypatch.setattr(Ledger, "covers", counted)
    admission.cover(0)
    most = admission._allowance_blocks - 1
    assert most > 100
    admission.admit(most - 10)
    admission.admit(9)
    assert not looks
    admission.admit(50)
    assert looks == [50]
    # What was allowed before is not true any more after a closer look.
    admission.admit(1)
    assert looks == [50, 1]
    admission.cover(0)
    admission.admit(most)
    assert looks == [50, 1]


def test_windows_of_dirty_data_are_reckoned_with_before_they_are_mapped() -> None:
    device = MemoryDevice(64 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    window_bytes = filesystem.core.volume.window_blocks * 1024
    ino = filesystem.create(ROOT_INO, b"a", REGULAR, 0, 0, 1).ino
    filesystem.write(ino, 0, bytes(300 * window_bytes), 1)
    filesystem.checkpoint(1)
    before_count = filesystem.core.volume.imap.node_count
    assert before_count > 50
    for number in range(300):
        filesystem.write(ino, number * window_bytes, b"x" * 1024, 2)
    space, imap = filesystem.core.ledger, filesystem.core.volume.imap
    bound = space._node_blocks()
    pending_blocks = space.pending_blocks()
    assert space._inodes.pinned_count == 300
    addresses = nodes_of(imap)
    clean_blocks = filesystem.core.volume.usage.clean_blocks
    filesystem.checkpoint(3)
    written = len(nodes_of(imap) - addresses)
    assert before_count <= written <= bound
    # Whole segments leave what is clean.
    assert clean_blocks - filesystem.core.volume.usage.clean_blocks < pending_blocks + 64
    assert space._inodes.pinned_count == 0


@pytest.mark.parametrize("block_bytes", [1024, 4096, 16384])
def test_cleaner_has_room_for_several_runs_of_nodes(block_bytes: int) -> None:
    # One alone gains less than the branches and usage pages of two checkpoints take.
    segments = 250
    device = MemoryDevice(segments * 64 * block_bytes + (4 << 20))
    format_small(device, block_bytes, 64)
    filesystem = mount(device, 0)
    ledger, imap = filesystem.core.ledger, filesystem.core.volume.imap
    imap.node_count, imap.root_level = 10_700, 3 if block_bytes == 1024 else 2
    live_blocks, run_count = 44, 4
    moving = Moving(nodes=run_count * live_blocks, usage_pages=run_count)
    taken_blocks = ledger.pending_blocks(moving) + 64
    assert taken_blocks <= ledger.kept_blocks


@pytest.mark.pure_core
def test_what_is_needed_is_asked_again_once_room_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    admission = mount(device, 0).core.admission
    demands = iter([Demand(1, 0), Demand(100_000, 0), Demand(100_000, 0)])
    rooms: list[int] = []
    monkeypatch.setattr(admission, "make_room", rooms.append)
    monkeypatch.setattr(Ledger, "covers", lambda self, blocks: blocks < 1 or len(rooms) > 1)
    admission.admit(1, anew=lambda: next(demands))
    assert rooms == [1, 100_000]


def test_promises_lower_what_is_left() -> None:
    space = _filesystem_of(limit_blocks=1000, privileged_blocks=50).core.ledger
    assert space._left(100 + 10, privileged=False) == 840
    assert space._left(100 + 10, privileged=True) == 890
    promise(space, 800)
    assert space.dirty_blocks == 800
    assert space._left(100 + 10, privileged=False) == 40
    promise(space, 500)
    assert space._left(100 + 10, privileged=False) == 340


def test_nothing_left_is_zero_not_less() -> None:
    space = _filesystem_of(limit_blocks=100, privileged_blocks=50).core.ledger
    promise(space, 80)
    assert space._left(10 + 5, privileged=False) == 0
    assert space._left(10 + 5, privileged=True) == 5


def _filesystem_of(limit_blocks: int, privileged_blocks: int) -> Filesystem:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0)
    filesystem.core.ledger.limit_blocks = limit_blocks
    filesystem.core.ledger.privileged_blocks = privileged_blocks
    return filesystem


def promise(space: Ledger, blocks: int) -> None:
    """Let so many blocks be dirty."""
    space._inodes.dirty_data.block_count = blocks
