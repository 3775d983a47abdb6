"""Kinds of load: each is a burst of requests of one sort, made of a ``Run``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lfs.ondisk import ROOT_INO
from tests.space.load import NAMES, SECOND_NS, File, Run
from tests.space.scales import MIB

Kind = Callable[[Run], None]


def _some_file(run: Run) -> int | None:
    return run.choose.choice(list(run.files)) if run.files else None


def _some_files(run: Run, count: int) -> list[int]:
    inos = list(run.files)
    return run.choose.sample(inos, min(count, len(inos)))


def _burst(run: Run) -> int:
    return run.choose.choice((1, 5, 20, run.scale.requests // 4))


def small_files(run: Run) -> None:
    """Create files of up to three blocks."""
    most = 3 * run.layout.block_bytes
    for _ in range(_burst(run)):
        ino = run.create()
        if ino is None or not run.write(ino, 0, run.data(run.choose.randrange(1, most))):
            return


def one_block_files(run: Run) -> None:
    """Create files that are just too large to lie in their inode."""
    size = min(run.layout.block_bytes // 4, 1024) + 1
    for _ in range(run.choose.choice((run.scale.requests // 4, 2 * run.scale.requests))):
        ino = run.create()
        if ino is None or not run.write(ino, 0, run.data(size)):
            return


def inline_files(run: Run) -> None:
    """Create files that lie in their inode."""
    size = min(run.layout.block_bytes // 4, 1024)
    for _ in range(run.scale.requests // 2):
        ino = run.create()
        if ino is None or not run.write(ino, 0, run.data(size)):
            return


def appends(run: Run) -> None:
    """Append a few bytes to many files, with a sync after each or none."""
    synced = run.choose.random() < 0.3
    for ino in _some_files(run, _burst(run) if synced else 4 * run.scale.requests):
        size = run.choose.choice((14, 300, run.layout.block_bytes))
        if not run.write(ino, len(run.files[ino].content), run.data(size)):
            return
        if synced:
            run.sync()


def stream(run: Run) -> None:
    """Write one large file in large pieces."""
    ino = run.create()
    if ino is None:
        return
    piece = run.choose.choice((run.scale.write_bytes_max // 4, run.scale.write_bytes_max))
    for number in range(run.choose.choice((4, 16, 64))):
        if not run.write(ino, number * piece, run.data(piece)):
            return


def overwrites(run: Run) -> None:
    """Overwrite blocks here and there."""
    block_bytes = run.layout.block_bytes
    for _ in range(_burst(run)):
        ino = _some_file(run)
        if ino is None:
            return
        blocks = len(run.files[ino].content) // block_bytes
        if blocks:
            count = min(blocks, run.choose.choice((1, 1, 4)))
            first = run.choose.randrange(blocks - count + 1)
            run.write(ino, first * block_bytes, run.data(count * block_bytes))


def every_other_block(run: Run) -> None:
    """Overwrite every other block of the largest file: as many extents as can be."""
    if not run.files:
        return
    ino = max(run.files, key=lambda ino: len(run.files[ino].content))
    block_bytes = run.layout.block_bytes
    blocks = len(run.files[ino].content) // block_bytes
    for block in range(0, min(blocks, 2 * run.scale.requests), 2):
        run.write(ino, block * block_bytes, run.data(block_bytes))


def sparse(run: Run) -> None:
    """Write single blocks far apart: as much metadata for each byte as can be."""
    ino = run.create()
    stride = run.layout.block_bytes * (run.layout.block_bytes // 32 + 1)
    for number in range(_burst(run) if ino else 0):
        assert ino is not None
        size = run.choose.randrange(1, 600)
        if number * stride + size > min(run.scale.device_bytes_max, 32 * MIB):
            return
        if not run.write(ino, number * stride, run.data(size)):
            return


def attributes(run: Run) -> None:
    """Set attributes, replace them by others, remove them."""
    for ino in _some_files(run, _burst(run)):
        file = run.files[ino]
        name = run.choose.choice(NAMES)
        value = run.data(run.choose.choice((10, 900, 9000)))
        before = file.attributes.get(name)
        if before is not None and run.choose.random() < 0.3:
            run.keep(lambda: run.filesystem.removexattr(ino, name, run.now()))  # noqa: B023
            del file.attributes[name]
            continue
        if before is not None and run.choose.random() < 0.5:
            value = value[: len(before)]

        def request() -> None:
            run.filesystem.setxattr(ino, name, value, run.now())  # noqa: B023

        if before is not None and len(value) <= len(before):
            run.keep(request)
        elif not run.grow(request, 2 * len(value)):
            return
        file.attributes[name] = value


def names(run: Run) -> None:
    """Link and rename files, and make directories."""
    for ino in _some_files(run, _burst(run)):
        file = run.files[ino]
        parent, name = run.choose.choice(run.directories), run.new_name()
        if run.choose.random() < 0.5:
            old = file.names.pop(run.choose.randrange(len(file.names)))
            # Names of the same length: longer ones do take something.
            name = name[: len(old[1])]
            taken = name in run.directory_names
            if taken or any((parent, name) in other.names for other in run.files.values()):
                file.names.append(old)
                continue
            run.keep(lambda: run.filesystem.rename(*old, parent, name, run.now()))  # noqa: B023
        elif not run.grow(lambda: run.filesystem.link(ino, parent, name, run.now()), 0):  # noqa: B023
            return
        file.names.append((parent, name))


def directories(run: Run) -> None:
    """Make directories."""
    made: list[int] = []
    for _ in range(run.choose.choice((1, 5))):
        name = run.new_name()

        def request() -> None:
            made.append(run.filesystem.mkdir(ROOT_INO, name, 0o755, 0, 0, run.now()).ino)  # noqa: B023

        if not run.grow(request, 2 * run.layout.block_bytes):
            break
        run.directory_names.add(name)
    run.directories += made


def touches(run: Run) -> None:
    """Change attributes of inodes, which takes nothing."""
    for ino in _some_files(run, run.scale.requests):
        run.keep(lambda: run.filesystem.setattr(ino, run.now(), mode=0o600, mtime_ns=run.now()))  # noqa: B023


def truncates(run: Run) -> None:
    """Shorten files, to the middle of a block too."""
    for ino in _some_files(run, _burst(run)):
        run.truncate(ino, run.choose.randrange(len(run.files[ino].content) + 1))


def deletions(run: Run) -> None:
    """Remove a share of all files."""
    for ino in _some_files(run, len(run.files) // run.choose.choice((2, 5, 10)) + 1):
        run.delete(ino)


def background(run: Run) -> None:
    """Let time go by, and what is done meanwhile."""
    run.now_ns += run.choose.choice((1, 10, 100)) * SECOND_NS
    for _ in range(run.choose.choice((1, 10, 100))):
        if not run.filesystem.tick(run.now(), idle=run.choose.random() < 0.5):
            break


GROWING: tuple[Kind, ...] = (
    small_files,
    one_block_files,
    inline_files,
    appends,
    stream,
    sparse,
    attributes,
    names,
    directories,
)
OTHERS: tuple[Kind, ...] = (
    overwrites,
    every_other_block,
    appends,
    touches,
    names,
    truncates,
    deletions,
    background,
    Run.sync,
    Run.checkpoint,
    Run.remount,
)


def many_dirty(run: Run) -> None:
    """Leave room for as much dirty data as may be, and fill it with files of one block."""
    space = run.filesystem.statfs()
    count = run.options.dirty_bytes_max // space.block_bytes
    _one_file(run, max(0, space.available_blocks - count - count // 2 - count // 8))
    run.checkpoint()
    size = min(run.layout.block_bytes // 4, 1024) + 1
    for _ in range(count):
        ino = run.create()
        if ino is None or not run.write(ino, 0, run.data(size)):
            return


def little_data(run: Run) -> None:
    """Fill the disk with small files that have long names and attributes, then change them.

    Most of what there is to clean are nodes, or data that takes a node along for each
    block; and each change is in another one.
    """
    name_bytes = run.choose.choice((10, 100, 250))
    value_bytes = run.choose.choice(run.scale.metadata_value_bytes)
    data_bytes = run.choose.choice((0, 0, 1, 1, 2, 3)) * run.layout.block_bytes
    if not value_bytes + data_bytes:
        name_bytes = 250
    for _ in range(run.choose.choice((1, 1, 2))):
        _fill_with_files(run, name_bytes, value_bytes, data_bytes)
        run.sync()
        changes = run.choose.sample((_modes, _renames, _replacements, _overwrites), 2)
        if run.choose.random() < 0.3:
            changes.append(_checkpoints)
        inos = [*run.files]
        for _ in range(run.choose.choice(run.scale.metadata_changes)):
            run.choose.choice(changes)(run, run.choose.choice(inos))
        for ino in _some_files(run, len(inos) // 10):
            run.delete(ino)


def worn_file(run: Run) -> None:
    """Fill the disk with a large file and small ones, and overwrite the large one at random.

    In the end each block of it is an extent of its own, and every segment as full as any.
    """
    space = run.filesystem.statfs()
    share = run.choose.choice((0.5, 0.9, 0.97))
    _one_file(run, int(space.available_blocks * share))
    large = next(iter(run.files), None)
    _fill_with_files(run, run.choose.choice((10, 200)), 0, run.layout.block_bytes)
    run.sync()
    inos = [*run.files]
    for number in range(2 * run.choose.choice(run.scale.metadata_changes)):
        ino = run.choose.choice(inos)
        if ino == large or number % 10:
            _overwrites(run, large or ino)
        else:
            run.choose.choice((_modes, _renames, _overwrites))(run, ino)


def _fill_with_files(run: Run, name_bytes: int, value_bytes: int, data_bytes: int) -> None:
    while (ino := run.create(name_bytes)) is not None:
        value = run.data(value_bytes)
        if value and not run.grow(
            partial(run.filesystem.setxattr, ino, NAMES[0], value, run.now()), 2 * value_bytes
        ):
            return
        if value:
            run.files[ino].attributes[NAMES[0]] = value
        if data_bytes and not run.write(ino, 0, run.data(data_bytes)):
            return
        if ino % 1000 == 0:
            run.filesystem.tick(run.now(), idle=False)


def _modes(run: Run, ino: int) -> None:
    run.keep(lambda: run.filesystem.setattr(ino, run.now(), mode=0o600))


def _renames(run: Run, ino: int) -> None:
    (old,) = run.files[ino].names
    new = old[0], b"r" + old[1][1:]
    run.keep(lambda: run.filesystem.rename(*old, *new, run.now()))
    run.files[ino].names = [new]


def _replacements(run: Run, ino: int) -> None:
    attributes = run.files[ino].attributes
    for name, value in attributes.items():
        attributes[name] = run.data(len(value))
        run.keep(partial(run.filesystem.setxattr, ino, name, attributes[name], run.now()))


def _overwrites(run: Run, ino: int) -> None:
    block_bytes = run.layout.block_bytes
    blocks = len(run.files[ino].content) // block_bytes
    if blocks:
        run.write(ino, run.choose.randrange(blocks) * block_bytes, run.data(block_bytes))


def _checkpoints(run: Run, ino: int) -> None:
    if ino % 50 == 0:
        run.checkpoint()


def go(run: Run) -> None:
    """Make the load that the run is for."""
    if run.is_of_metadata:
        run.choose.choice((little_data, worn_file))(run)
    else:
        mixed(run)


def mixed(run: Run) -> None:
    """Fill the disk to some level, then make requests of all kinds until there are enough."""
    if run.is_crowded:
        many_dirty(run)
    growing = tuple(run.choose.sample(GROWING, 3))
    others = tuple(run.choose.sample(OTHERS, 6))
    space = run.filesystem.statfs()
    if run.choose.random() < 0.7:
        _one_file(run, int(space.total_blocks * run.choose.choice((0.5, 0.8, 0.9, 0.95, 1.1))))
    while run.requests < run.scale.requests:
        run.requests += 1
        run.choose.choice(growing + others)(run)
        if run.choose.random() < 0.3:
            run.filesystem.tick(run.now(), idle=False)


def _one_file(run: Run, blocks: int) -> None:
    ino = run.create()
    piece = min(MIB, max(run.scale.write_bytes_max, blocks * run.layout.block_bytes // 64))
    for number in range(blocks * run.layout.block_bytes // piece if ino else 0):
        assert ino is not None
        if not run.write(ino, number * piece, run.data(piece)):
            return
        run.filesystem.tick(run.now(), idle=False)


__all__ = ["File", "go"]
