"""What a worker knows of its files: the model, and places in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(eq=False)
class File:
    """A regular file, under any number of names."""

    mode: int
    content: bytearray = field(default_factory=bytearray)
    attributes: dict[str, bytes] = field(default_factory=dict)
    names: int = 1

    def write(self, offset: int, data: bytes) -> None:
        """Do what pwrite(2) does."""
        missing = offset - len(self.content)
        if missing > 0:
            self.content += bytes(missing)
        self.content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        """Do what truncate(2) does."""
        if size < len(self.content):
            del self.content[size:]
        else:
            self.content += bytes(size - len(self.content))


@dataclass(eq=False)
class Symlink:
    """A symlink."""

    target: str


@dataclass(eq=False)
class Directory:
    """A directory; a ``shared`` one also has names of others."""

    shared: bool = False
    entries: dict[str, Node] = field(default_factory=dict)


Node = File | Symlink | Directory


class Place(NamedTuple):
    """A name, where it is, and what it names."""

    path: str
    parent: Directory
    name: str
    node: Node


def places_in(path: str, directory: Directory) -> Iterator[Place]:
    """Yield every name below a directory, each before what is below it."""
    for name, node in directory.entries.items():
        place = Place(f"{path}/{name}", directory, name, node)
        yield place
        if isinstance(node, Directory):
            yield from places_in(place.path, node)


def directories_in(path: str, directory: Directory) -> Iterator[tuple[str, Directory]]:
    """Yield a directory and all below it, with their paths."""
    yield path, directory
    for place in places_in(path, directory):
        if isinstance(place.node, Directory):
            yield place.path, place.node
