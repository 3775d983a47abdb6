"""Images made by somebody who means harm: one field of one structure says something else.

Every checksum is right, up to the checkpoint, so nothing but the value tells.  ``cases``
lists them; ``exercise`` does with an image what people do with one that they were given.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from fsck.check import check_device
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.checksum import checksum
from lfs.common.errors import FilesystemError, FormatError
from lfs.device.memory import MemoryDevice
from lfs.files.directory import DirectoryEntry
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import (
    BRANCH_SLOT_BYTES,
    CHECKPOINT_REGION_BYTES,
    KEY_BYTES,
    KIND_CUT,
    KIND_ENTRY,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    LEAF_SLOT_BYTES,
    NODE_HEADER_BYTES,
    ROOT_INO,
    SUMMARY_HEADER_BYTES,
    Branch,
    backup_superblock_offset_bytes,
    items,
    node,
    read_node,
    summary,
    superblock,
    unpack_key,
    usage,
)
from lfs.ondisk import block as block_module
from lfs.ondisk import checkpoint as checkpoint_module
from lfs.segments.reader import LogReader
from tests.support.volumes import format_small

BLOCK_BYTES = 1024
SEGMENT_BLOCKS = 64
DEVICE_BYTES = 3 << 20
REGULAR = stat.S_IFREG | 0o644
ENTRIES_MAX = 300
_POINTER_CHECKSUM = struct.Struct("<I")
T = TypeVar("T")


class Field(NamedTuple):
    """A field of a structure at a byte of the device; ``code`` as ``struct`` has it."""

    name: str
    offset_bytes: int
    code: str

    @property
    def size(self) -> int:
        return struct.calcsize(self.code)


class Case(NamedTuple):
    """One field of one structure of a sample with another value."""

    sample: str
    structure: str
    field: Field
    value: bytes

    @property
    def identity(self) -> str:
        """Return what replays this case."""
        return f"{self.sample}/{self.structure}/{self.field.name}/{self.value.hex()}"


def fields_of(layout: struct.Struct, offset_bytes: int) -> Iterator[Field]:
    """Yield the fields of a structure at a byte of the device."""
    order = layout.format[0]
    offset = 0
    for match in re.finditer(r"(\d*)([a-zA-Z])", layout.format):
        count, letter = match.groups()
        repeat = int(count or 1) if letter not in "sx" else 1
        for _ in range(repeat):
            code = (count if letter in "sx" else "") + letter
            # What is zero may be anything else, too.
            yield Field(str(offset), offset_bytes + offset, order + code.replace("x", "s"))
            offset += struct.calcsize("<" + code)


def values(code: str, before: bytes) -> list[bytes]:
    """Return what a field is set to: extremes, and one more and less than it was."""
    size = len(before)
    if code.endswith("s"):
        found = [bytes(size), b"\xff" * size, before[:-1] + bytes([before[-1] ^ 1])]
    else:
        order = "big" if code[0] == ">" else "little"
        most = (1 << 8 * size) - 1
        number = int.from_bytes(before, order)  # type: ignore[arg-type]
        numbers = {0, 1, most, most - 1, most >> 1, (most >> 1) + 1, number + 1, number - 1}
        if size > 2:
            numbers |= {1 << 4 * size, number * 2, number + BLOCK_BYTES}
        found = [each.to_bytes(size, order) for each in sorted(numbers) if 0 <= each <= most]  # type: ignore[arg-type]
    return [each for each in found if each != before]


@dataclass
class Sample:
    """An image, its structures by name, and how their checksums are made right again."""

    name: str
    device: MemoryDevice
    structures: dict[str, list[Field]] = field(default_factory=dict)
    reseal: dict[str, Callable[[MemoryDevice], None]] = field(default_factory=dict)

    def add(
        self, name: str, fields: Iterator[Field], reseal: Callable[[MemoryDevice], None]
    ) -> None:
        """Add a structure."""
        self.structures[name] = [*fields]
        self.reseal[name] = reseal

    def cases(self) -> Iterator[Case]:
        """Yield every case of this sample."""
        for name, fields in self.structures.items():
            for each in fields:
                before = peek(self.device, each.offset_bytes, each.size)
                for value in values(each.code, before):
                    yield Case(self.name, name, each, value)

    def image(self, case: Case) -> MemoryDevice:
        """Return the image of a case."""
        device = self.device.copy()
        poke(device, case.field.offset_bytes, case.value)
        self.reseal[case.structure](device)
        return device


def peek(device: MemoryDevice, offset_bytes: int, length: int) -> bytes:
    """Return some bytes of a device."""
    start = offset_bytes - offset_bytes % 512
    end = -(-(offset_bytes + length) // 512) * 512
    return device.read(start, end - start)[offset_bytes - start :][:length]


def poke(device: MemoryDevice, offset_bytes: int, raw: bytes) -> None:
    """Change some bytes of a device."""
    start = offset_bytes - offset_bytes % 512
    end = -(-(offset_bytes + len(raw)) // 512) * 512
    around = bytearray(device.read(start, end - start))
    around[offset_bytes - start : offset_bytes - start + len(raw)] = raw
    device.write(start, [bytes(around)])


# ------------------------------------------------------------------------ samples


def _filled(keep: bool) -> tuple[MemoryDevice, Filesystem]:
    """Return a filesystem with everything in it, as of a checkpoint."""
    device = MemoryDevice(DEVICE_BYTES)
    format_small(device, BLOCK_BYTES, SEGMENT_BLOCKS)
    options = Options(removal_items_max=1)
    filesystem = Filesystem.mount(device, 1, options, report=lambda line: None)
    _fill(filesystem, ROOT_INO, 2)
    directory = filesystem.mkdir(ROOT_INO, b"directory", 0o755, 0, 0, 2).ino
    below = filesystem.mkdir(directory, b"below", 0o755, 0, 0, 2).ino
    for number in range(12):
        filesystem.create(below, b"many %d" % number, REGULAR, 0, 0, 2)
    filesystem.create(ROOT_INO, b"pipe", stat.S_IFIFO | 0o600, 0, 0, 2)
    filesystem.create(ROOT_INO, b"disk", stat.S_IFBLK | 0o600, 0, 0, 2, rdev=0x801)
    if keep:
        gone = filesystem.create(ROOT_INO, b"gone", REGULAR, 0, 0, 2).ino
        filesystem.write(gone, 0, b"gone" * 1000, 2)
        filesystem.open(gone)
        filesystem.unlink(ROOT_INO, b"gone", 2)
        cut = filesystem.create(ROOT_INO, b"cut", REGULAR, 0, 0, 2).ino
        for block in range(0, 400, 40):
            filesystem.write(cut, block * BLOCK_BYTES, b"cut" * 400, 2)
        filesystem.sync(2)
        filesystem.setattr(cut, 2, size=1)
    filesystem.checkpoint(3)
    filesystem.checkpoint(3)
    return device, filesystem


def _fill(filesystem: Filesystem, parent: int, now_ns: int) -> None:
    """Make files of all kinds."""
    inline = filesystem.create(parent, b"inline", REGULAR, 0, 0, now_ns).ino
    filesystem.write(inline, 0, b"inline" * 20, now_ns)
    scattered = filesystem.create(parent, b"scattered", REGULAR, 0, 0, now_ns).ino
    for block in (0, 3, 7, 40, 100):
        filesystem.write(scattered, block * BLOCK_BYTES, bytes([block + 1]) * 1500, now_ns)
        filesystem.sync(now_ns)
    filesystem.setxattr(scattered, b"user.large", b"large" * 600, now_ns)
    filesystem.setxattr(scattered, b"user.small", b"small", now_ns)
    filesystem.symlink(parent, b"short", b"inline", 0, 0, now_ns)
    filesystem.symlink(parent, b"long", b"x/" * 1000, 0, 0, now_ns)


def _clean() -> Sample:
    device, filesystem = _filled(keep=False)
    filesystem.unmount(4)
    sample = Sample("clean", device)
    _add_superblocks(sample)
    _add_checkpoint(sample)
    _add_tree(sample)
    return sample


def _crashed() -> Sample:
    device, filesystem = _filled(keep=True)
    directory = filesystem.mkdir(ROOT_INO, b"logged", 0o755, 0, 0, 5).ino
    _fill(filesystem, directory, 5)
    filesystem.setattr(filesystem.lookup(ROOT_INO, b"scattered").ino, 5, size=2000)
    filesystem.sync(6)
    sample = Sample("crashed", device)
    _add_checkpoint(sample)
    _add_tree(sample)
    _add_log(sample)
    return sample


def samples() -> dict[str, Sample]:
    """Return the images that cases change."""
    return {"clean": _clean(), "crashed": _crashed()}


# ---------------------------------------------------------------- fixed places, tree, log


def _seal(device: MemoryDevice, start: int, length: int, checksum_at: int) -> None:
    """Store the checksum of ``length`` bytes from ``start`` on inside them."""
    raw = peek(device, start, length)
    zeroed = raw[:checksum_at] + bytes(4) + raw[checksum_at + 4 :]
    poke(device, start + checksum_at, _POINTER_CHECKSUM.pack(checksum(zeroed)))


def _add_superblocks(sample: Sample) -> None:
    """Both copies say the same, each at its own place."""
    offsets = (4096, backup_superblock_offset_bytes(DEVICE_BYTES))

    def reseal(device: MemoryDevice) -> None:
        # Whatever was changed in the first one, but for its place, is in the copy too.
        raw = peek(device, offsets[0], 512)
        poke(device, offsets[1], raw[:16] + peek(device, offsets[1] + 16, 8) + raw[24:])
        for offset in offsets:
            _seal(device, offset, 512, 8)

    sample.add("superblock", fields_of(superblock.SUPERBLOCK.struct, 4096), reseal)


def _add_checkpoint(sample: Sample) -> None:
    """The newer region is all there is: nothing better is left to fall back to."""
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    at = layout.checkpoint_offset_bytes[newest.number % 2]
    other = layout.checkpoint_offset_bytes[1 - newest.number % 2]
    device.write(other, [bytes(CHECKPOINT_REGION_BYTES)])
    length = int.from_bytes(peek(device, at + 12, 4), "little")

    def reseal(device: MemoryDevice) -> None:
        _seal(device, at, length, 8)

    header = checkpoint_module.CHECKPOINT.struct
    sample.add("checkpoint", fields_of(header, at), reseal)
    pointer = checkpoint_module.USAGE_POINTER.struct
    sample.add("usage-pointer", fields_of(pointer, at + header.size), reseal)
    address = newest.usage_pages[0].address
    start = address * BLOCK_BYTES

    def reseal_page(device: MemoryDevice) -> None:
        _seal(device, start, BLOCK_BYTES, block_module.BLOCK_CHECKSUM_OFFSET)
        _point(device, at + header.size + 8, start)
        reseal(device)

    head = block_module.BLOCK_HEADER.struct
    sample.add("usage-block", fields_of(head, start), reseal_page)
    inner = usage.USAGE_HEADER.struct
    sample.add("usage-header", fields_of(inner, start + head.size), reseal_page)
    used = [n for n, entry in enumerate(_states(device, start + head.size + inner.size)) if entry]
    for number in (used[0], used[-1], used[-1] + 1):
        place = start + head.size + inner.size + number * usage.USAGE.struct.size
        sample.add(f"usage-{number}", fields_of(usage.USAGE.struct, place), reseal_page)


def _states(device: MemoryDevice, start: int) -> list[int]:
    size = usage.USAGE.struct.size
    layout = read_superblock(device)
    return [peek(device, start + n * size + 5, 1)[0] for n in range(layout.segment_count)]


def _point(device: MemoryDevice, checksum_at: int, start: int) -> None:
    """Store the checksum of the block at byte ``start`` in the pointer to it."""
    raw = device.read(start, BLOCK_BYTES)
    poke(device, checksum_at, _POINTER_CHECKSUM.pack(checksum(raw)))


def _add_tree(sample: Sample) -> None:
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    at = layout.checkpoint_offset_bytes[newest.number % 2]
    reseal_region = sample.reseal["checkpoint"]
    seen: dict[tuple[int, int], int] = {}

    def add(address: int, checksum_at: int, above: Callable[[MemoryDevice], None]) -> None:
        start = address * BLOCK_BYTES
        raw = device.read(start, BLOCK_BYTES)
        found = read_node(raw, layout.filesystem_id, address)

        def reseal(device: MemoryDevice) -> None:
            _seal(device, start, BLOCK_BYTES, block_module.BLOCK_CHECKSUM_OFFSET)
            _point(device, checksum_at, start)
            above(device)

        name = "root" if above is reseal_region else "leaf"
        header = block_module.BLOCK_HEADER.struct
        inner = start + header.size
        first_of_kind = not any(each.startswith(f"{name}-block") for each in sample.structures)
        if first_of_kind:
            sample.add(f"{name}-block", fields_of(header, start), reseal)
            sample.add(f"{name}-header", fields_of(node.NODE_HEADER.struct, inner), reseal)
        if isinstance(found, Branch):
            for number, child in enumerate(found.children):
                slot = start + NODE_HEADER_BYTES + number * BRANCH_SLOT_BYTES
                if number < 2:
                    sample.add(f"slot-{number}", _slot_fields(slot, "<QI"), reseal)
                add(child.address, slot + KEY_BYTES + 8, reseal)
            return
        if first_of_kind:
            slot = start + NODE_HEADER_BYTES
            sample.add("leaf-slot", _slot_fields(slot, "<H"), reseal)
        value_at = start + NODE_HEADER_BYTES + found.count * LEAF_SLOT_BYTES
        for key, value in zip(found.keys, found.values, strict=True):
            _add_item(sample, seen, key, value, value_at, reseal)
            value_at += len(value)

    add(newest.imap_root.address, at + 72, reseal_region)


def _slot_fields(start: int, rest: str) -> Iterator[Field]:
    yield from fields_of(struct.Struct(">QBQ"), start)
    yield from fields_of(struct.Struct(rest), start + KEY_BYTES)


def _add_item(
    sample: Sample,
    seen: dict[tuple[int, int], int],
    key: bytes,
    value: bytes,
    at: int,
    reseal: Callable[[MemoryDevice], None],
) -> None:
    """Add the first items of each kind, of inodes of each type."""
    ino, kind, offset = unpack_key(key)
    layouts = {
        KIND_INODE: items.INODE.struct,
        KIND_WINDOW: struct.Struct("<HHHQI"),
        KIND_ENTRY: struct.Struct("<QB2s"),
        KIND_XATTR: struct.Struct("<BI5s"),
        KIND_ORPHAN: struct.Struct("<"),
        KIND_CUT: struct.Struct("<QQQ"),
    }
    subtype = int.from_bytes(value[:4], "little") >> 12 if kind == KIND_INODE else 0
    number = seen.get((kind, subtype), 0)
    is_first_chunk = kind != KIND_XATTR or offset % 256 == 0
    if number >= 2 or not is_first_chunk or len(value) < layouts[kind].size:
        return
    seen[kind, subtype] = number + 1
    sample.add(f"item-{kind}-{ino}-{offset:x}", fields_of(layouts[kind], at), reseal)


def _add_log(sample: Sample) -> None:
    """The log writes after the checkpoint, which are chained by their checksums."""
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    reader = LogReader(device, layout)
    chain = list(reader.follow(newest.next_address, newest.next_sequence, newest.previous_checksum))
    for number in {0, len(chain) // 2, len(chain) - 1}:
        start = chain[number].address * BLOCK_BYTES
        following = [one.address * BLOCK_BYTES for one in chain[number:]]
        lengths = [_summary_bytes(device, each) for each in following]

        def reseal(
            device: MemoryDevice,
            following: list[int] = following,
            lengths: list[int] = lengths,
        ) -> None:
            before = None
            for at, length in zip(following, lengths, strict=True):
                if before is not None:
                    poke(device, at + 84, before)
                before = _seal_summary(device, at, length)

        sample.add(f"summary-{number}", fields_of(summary.SUMMARY.struct, start), reseal)
        if chain[number].entries:
            entry = start + SUMMARY_HEADER_BYTES
            sample.add(f"entry-{number}", fields_of(summary.ENTRY.struct, entry), reseal)
        if chain[number].records:
            record = (
                start
                + SUMMARY_HEADER_BYTES
                + sum(32 + 4 * len(one.checksums) for one in chain[number].entries)
            )
            sample.add(f"record-{number}", _slot_fields(record, "<HQQQQ"), reseal)


def _summary_bytes(device: MemoryDevice, start: int) -> int:
    return int.from_bytes(peek(device, start + 80, 4), "little")


def _seal_summary(device: MemoryDevice, start: int, length: int) -> bytes:
    """Seal a summary of several blocks; return its checksum."""
    blocks = summary.summary_blocks(length, BLOCK_BYTES)
    raw = device.read(start, blocks * BLOCK_BYTES)
    whole = summary.summary_from_blocks(raw, length, BLOCK_BYTES, 0)
    value = checksum(whole[:4] + bytes(4) + whole[8:])
    poke(device, start + 4, _POINTER_CHECKSUM.pack(value))
    return _POINTER_CHECKSUM.pack(value)


# ----------------------------------------------------------------------- exercising


def exercise(device: MemoryDevice) -> str:
    """Mount, list and read everything, change everything, check; return what came of it.

    Only refusals that a user may see are caught.
    """
    try:
        check_device(device.copy())
    except (FormatError, FilesystemError) as error:
        outcome = f"fsck refused: {type(error).__name__}"
    else:
        outcome = "checked"
    try:
        filesystem = Filesystem.mount(device, 10, report=lambda line: None)
    except (FormatError, FilesystemError) as error:
        return f"{outcome}, mount refused: {type(error).__name__}"
    found = _walk(filesystem)
    _change(filesystem, found)
    return f"{outcome}, {len(found)} inodes, {'failed' if filesystem.read_only else 'writable'}"


def _try(call: Callable[..., T], *arguments: object, **named: object) -> T | None:
    """Make a request; a refusal with an errno is fine, and gives None."""
    try:
        return call(*arguments, **named)
    except FilesystemError as error:
        if not error.errno:
            raise
        return None


def _walk(fs: Filesystem) -> dict[int, tuple[int, bytes]]:
    """Look at everything; return the directory and name of each inode."""
    found: dict[int, tuple[int, bytes]] = {}
    directories = [ROOT_INO]
    while directories:
        directory = directories.pop()
        for entry in _try(_listed, fs, directory) or []:
            _try(fs.lookup, directory, entry.name)
            if entry.ino in found or len(found) > ENTRIES_MAX:
                continue
            found[entry.ino] = directory, entry.name
            inode = _try(fs.getattr, entry.ino)
            if inode is not None and inode.is_directory:
                directories.append(entry.ino)
    for ino in found:
        _look(fs, ino)
    fs.statfs()
    return found


def _listed(fs: Filesystem, directory: int) -> list[DirectoryEntry]:
    found = [*islice(fs.readdir(directory), ENTRIES_MAX + 1)]
    assert len(found) <= ENTRIES_MAX, "a listing without an end"
    return found


def _look(fs: Filesystem, ino: int) -> None:
    for offset in (0, 3000, 40 * BLOCK_BYTES, (1 << 62) + 1):
        _try(fs.read, ino, offset, 8192, 10)
    _try(fs.readlink, ino)
    for name in _try(fs.listxattr, ino) or []:
        _try(fs.getxattr, ino, name)
    _try(fs.extents, ino)


def _change(fs: Filesystem, found: dict[int, tuple[int, bytes]]) -> None:
    """Change whatever was found, and let the background have its turns."""
    inos = list(found)
    for ino in inos:
        _try(fs.write, ino, 100, b"changed" * 400, 11)
        _try(fs.setxattr, ino, b"user.large", b"new" * 500, 11)
        _try(fs.setattr, ino, 11, size=1)
        _try(fs.mkdir, ino, b"new", 0o755, 0, 0, 11)
        _try(fs.create, ino, b"file", REGULAR, 0, 0, 11)
        _try(fs.sync, 12)
    for ino, other in zip(inos, [*inos[1:], ROOT_INO], strict=False):
        parent, name = found[ino]
        _try(fs.rename, parent, name, other, b"moved", 13)
        _try(fs.rename, parent, name, ROOT_INO, b"%d" % ino, 13)
        _try(fs.link, ino, ROOT_INO, b"link to %d" % ino, 13)
    _try(fs.sync, 14)
    for ino in inos:
        for where, what in (found[ino], (ROOT_INO, b"%d" % ino)):
            gone = _try(fs.unlink, where, what, 15) or _try(fs.rmdir, where, what, 15)
            if gone is not None and gone.nlink == 0:
                _try(fs.forget, ino)
    for turn in range(20):
        _try(fs.tick, 10**11 + turn * 10**10, idle=True)
    _try(fs.checkpoint, 10**12)
    _try(fs.unmount, 10**12)
