"""One worker's operations on names, handles and the shared file."""

from __future__ import annotations

import errno
import os
import random
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.programs.stress import contents
from tests.programs.stress.model import (
    Directory,
    File,
    Node,
    Place,
    Symlink,
    directories_in,
    places_in,
)
from tests.support.mounting import renameat2

SHARED_DIRECTORY = "shared"
SHARED_FILE = "slots"
# So that slots begin and end within blocks, and two workers write into the same one.
SLOT_BYTES = 1000
_SLOTS_PER_WORKER = 64
_NAMES_MAX: dict[type[Node], int] = {File: 60, Directory: 12, Symlink: 10}
_HANDLES_MAX = 3
_RECENT = 12
_EXCHANGE = 2

T = TypeVar("T", File, Symlink, Directory)


class Handle(NamedTuple):
    """An open file, which may have no name any more."""

    descriptor: int
    file: File


class Actor:
    """What one worker does; ``recent`` tells the last of it."""

    def __init__(self, place: Path, index: int, worker_count: int, seed: int) -> None:
        """Work below ``place``, as number ``index`` of ``worker_count``."""
        self._choose = random.Random(f"{seed}/{index}")
        self._index = index
        self._worker_count = worker_count
        self._made = 0
        self._place = place
        self._own = f"{place}/worker{index}"
        self._roots = {
            self._own: Directory(),
            f"{place}/{SHARED_DIRECTORY}": Directory(shared=True),
        }
        self._slots_path = f"{place}/{SHARED_FILE}"
        self._slots: dict[int, bytes] = {}
        self._handles: list[Handle] = []
        self.operations = 0
        self.recent: deque[str] = deque(maxlen=_RECENT)
        steps: list[tuple[int, Callable[[], None]]] = [
            *((weight, self._on_file(step)) for weight, step in contents.WEIGHTED),
            (7, self._create),
            (3, self._make_directory),
            (3, self._make_symlink),
            (3, self._link),
            (6, self._unlink),
            (3, self._remove_directory),
            (6, self._rename),
            (2, self._exchange),
            (4, self._list),
            (2, self._open),
            (3, self._use_handle),
            (1, self._close),
            (4, self._use_slot),
            (1, self._sync_directory),
        ]
        self._steps = [step for _, step in steps]
        self._weights = [weight for weight, _ in steps]

    # ------------------------------------------------------------------ commands

    def begin(self) -> None:
        """Make a directory of one's own."""
        os.mkdir(self._own)

    def step(self) -> None:
        """Do one operation; raises AssertionError or OSError when the filesystem is wrong."""
        self.operations += 1
        (step,) = self._choose.choices(self._steps, self._weights)
        step()

    def verify(self) -> None:
        """Close what is open and compare everything."""
        while self._handles:
            self._close()
        for path, root in self._roots.items():
            for directory_path, directory in directories_in(path, root):
                self._check_names(directory_path, directory)
        for place in self._places():
            if isinstance(place.node, File):
                self._note("verify", place.path)
                contents.check_file(place.path, place.node)
            elif isinstance(place.node, Symlink):
                assert os.readlink(place.path) == place.node.target
        for slot in self._slots:
            self._check_slot(slot)

    def remove(self) -> None:
        """Remove everything, one name at a time."""
        for place in reversed(self._places()):
            self._note("remove", place.path)
            if isinstance(place.node, Directory):
                os.rmdir(place.path)
            else:
                os.unlink(place.path)
        for root in self._roots.values():
            root.entries.clear()
        self._slots.clear()
        os.rmdir(self._own)

    # ------------------------------------------------------------------- drawing

    def _note(self, *words: object) -> None:
        """Remember an operation, with paths as short as they can be told apart."""
        text = " ".join(map(str, words)).replace(f"{self._place}/", "")
        self.recent.append(re.sub("x{4,}", "x..", text))

    def _places(self) -> list[Place]:
        return [place for path, root in self._roots.items() for place in places_in(path, root)]

    def _place_of(self, kind: type[T]) -> tuple[Place, T] | None:
        found = [(place, place.node) for place in self._places() if isinstance(place.node, kind)]
        return self._choose.choice(found) if found else None

    def _directory(self) -> tuple[str, Directory]:
        return self._choose.choice(
            [one for path, root in self._roots.items() for one in directories_in(path, root)]
        )

    def _new_place(self) -> tuple[str, Directory, str]:
        """Draw a directory and a name that is not in it: path, directory and name."""
        path, directory = self._directory()
        self._made += 1
        name = f"{self._index}-{self._made}" + "x" * self._choose.choice([0, 0, 20, 200])
        return f"{path}/{name}", directory, name

    def _enough(self, kind: type[Node]) -> bool:
        """Tell whether no more of a kind should be made."""
        count = sum(isinstance(place.node, kind) for place in self._places())
        return count >= _NAMES_MAX[kind]

    # ------------------------------------------------------------------ contents

    def _on_file(self, step: contents.Step) -> Callable[[], None]:
        def operation() -> None:
            if found := self._place_of(File):
                self._note(step.__name__, found[0].path)
                step(self._choose, found[0].path, found[1])

        return operation

    def _open(self) -> None:
        found = self._place_of(File)
        if found and len(self._handles) < _HANDLES_MAX:
            self._note("open", found[0].path)
            self._handles.append(Handle(os.open(found[0].path, os.O_RDWR), found[1]))

    def _use_handle(self) -> None:
        if not self._handles:
            return
        handle = self._choose.choice(self._handles)
        self._note("use handle of a file with", handle.file.names, "names")
        contents.write_at(self._choose, handle.descriptor, handle.file)
        contents.read_at(self._choose, handle.descriptor, handle.file)
        contents.check_attributes(handle.descriptor, handle.file)

    def _close(self) -> None:
        if not self._handles:
            return
        handle = self._handles.pop(self._choose.randrange(len(self._handles)))
        self._note("close handle of a file with", handle.file.names, "names")
        found = os.pread(handle.descriptor, len(handle.file.content) + 1, 0)
        contents.compare(found, handle.file.content, "at close")
        os.close(handle.descriptor)

    def _use_slot(self) -> None:
        """Write a part of the file that all workers write, and compare another."""
        slot = self._choose.randrange(_SLOTS_PER_WORKER) * self._worker_count + self._index
        self._note("write slot", slot)
        data = self._choose.randbytes(SLOT_BYTES)
        with contents.opened(self._slots_path, os.O_RDWR | os.O_CREAT) as descriptor:
            assert os.pwrite(descriptor, data, slot * SLOT_BYTES) == SLOT_BYTES
        self._slots[slot] = data
        self._check_slot(self._choose.choice(sorted(self._slots)))

    def _check_slot(self, slot: int) -> None:
        with contents.opened(self._slots_path, os.O_RDONLY) as descriptor:
            found = os.pread(descriptor, SLOT_BYTES, slot * SLOT_BYTES)
        contents.compare(found, self._slots[slot], f"slot {slot}")

    # --------------------------------------------------------------------- names

    def _create(self) -> None:
        if self._enough(File):
            self._unlink()
            return
        path, directory, name = self._new_place()
        self._note("create", path)
        file = File(mode=0o640)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(path, flags, file.mode)
        try:
            directory.entries[name] = file
            contents.write_at(self._choose, descriptor, file)
        finally:
            os.close(descriptor)

    def _make_directory(self) -> None:
        if not self._enough(Directory):
            path, directory, name = self._new_place()
            self._note("mkdir", path)
            os.mkdir(path)
            directory.entries[name] = Directory()

    def _make_symlink(self) -> None:
        if not self._enough(Symlink):
            path, directory, name = self._new_place()
            target = "t" * self._choose.randint(1, 2000)
            self._note("symlink", path)
            os.symlink(target, path)
            directory.entries[name] = Symlink(target)

    def _link(self) -> None:
        found = self._place_of(File)
        if found and not self._enough(File):
            path, directory, name = self._new_place()
            self._note("link", found[0].path, path)
            os.link(found[0].path, path)
            directory.entries[name] = found[1]
            found[1].names += 1

    def _unlink(self) -> None:
        found = self._place_of(self._choose.choice([File, File, File, Symlink]))
        if found:
            self._note("unlink", found[0].path)
            os.unlink(found[0].path)
            _drop(found[0])

    def _remove_directory(self) -> None:
        found = self._place_of(Directory)
        if found is None:
            return
        place, directory = found
        self._note("rmdir", place.path)
        if directory.entries:
            _refused(lambda: os.rmdir(place.path), errno.ENOTEMPTY)
        else:
            os.rmdir(place.path)
            _drop(place)

    def _rename(self) -> None:
        """Rename to a new name, or over something of the same kind."""
        places = self._places()
        if not places:
            return
        source = self._choose.choice(places)
        alike = [place for place in places if _may_replace(source, place)]
        if alike and self._choose.random() < 0.4:
            target = self._choose.choice(alike)
            self._note("rename over", source.path, target.path)
            os.rename(source.path, target.path)
            # Of two names of one file, rename(2) removes neither.
            if source.node is not target.node:
                _drop(target)
                _move(source, target.parent, target.name)
            return
        path, directory, name = self._new_place()
        self._note("rename", source.path, path)
        if path.startswith(source.path + "/"):
            _refused(lambda: os.rename(source.path, path), errno.EINVAL)
        else:
            os.rename(source.path, path)
            _move(source, directory, name)

    def _exchange(self) -> None:
        places = self._places()
        if len(places) < 2:
            return
        one, other = self._choose.sample(places, 2)
        if f"{one.path}/".startswith(f"{other.path}/"):
            return
        if f"{other.path}/".startswith(f"{one.path}/"):
            return
        self._note("exchange", one.path, other.path)
        renameat2(Path(one.path), Path(other.path), _EXCHANGE)
        one.parent.entries[one.name] = other.node
        other.parent.entries[other.name] = one.node

    def _list(self) -> None:
        self._check_names(*self._directory())

    def _check_names(self, path: str, directory: Directory) -> None:
        self._note("list", path)
        with os.scandir(path) as entries:
            found = {entry.name: _kind_of(entry) for entry in entries}
        if directory.shared:
            # What others make and remove here at the same time may be seen or not.
            prefix = f"{self._index}-"
            found = {name: kind for name, kind in found.items() if name.startswith(prefix)}
        expected = {name: type(node) for name, node in directory.entries.items()}
        assert found == expected, f"{path}: {_difference(found, expected)}"

    def _sync_directory(self) -> None:
        path, _ = self._directory()
        self._note("fsync", path)
        with contents.opened(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)


def _kind_of(entry: os.DirEntry[str]) -> type[Node]:
    if entry.is_symlink():
        return Symlink
    return Directory if entry.is_dir() else File


def _difference(found: dict[str, type[Node]], expected: dict[str, type[Node]]) -> str:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    return f"missing {missing}, not expected {extra}, found {found}"


def _may_replace(source: Place, target: Place) -> bool:
    """Tell whether rename(2) may put ``source`` over ``target``."""
    if target.path == source.path:
        return False
    if isinstance(source.node, Directory):
        empty = isinstance(target.node, Directory) and not target.node.entries
        return empty and not target.path.startswith(source.path + "/")
    return not isinstance(target.node, Directory)


def _drop(place: Place) -> None:
    """Take a name away."""
    del place.parent.entries[place.name]
    if isinstance(place.node, File):
        place.node.names -= 1


def _move(source: Place, directory: Directory, name: str) -> None:
    del source.parent.entries[source.name]
    directory.entries[name] = source.node


def _refused(call: Callable[[], None], code: int) -> None:
    """Make a call that must fail with an errno."""
    found = 0
    try:
        call()
    except OSError as error:
        found = error.errno or 0
    assert found == code, f"errno {found}, expected {errno.errorcode[code]}"
