"""Places that are remembered: true as long as they are, and a bounded number of them."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.files import places as module
from lfs.files.directory import NameHash
from lfs.files.places import Place, RecentPlaces
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small, mount

REGULAR = stat.S_IFREG | 0o644
STEPS = st.lists(
    st.tuples(st.sampled_from(["keep", "keep", "keep", "forget"]), st.integers(0, 7)), max_size=80
)


@pytest.mark.pure_core
@given(STEPS)
def test_what_is_remembered_is_the_last_and_bounded(steps: list[tuple[str, int]]) -> None:
    model: dict[int, Place] = {}
    recent = RecentPlaces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_KEPT_MAX", 2)
        for number, (step, name) in enumerate(steps):
            if step == "keep":
                model[name] = Place(7, b"%d" % name, b"key", number)
                recent.keep(model[name])
                assert recent.get(7, b"%d" % name) is model[name]
            elif name in model:
                recent.forget(model.pop(name))
            found = {each: recent.get(7, b"%d" % each) for each in range(8)}
            kept = {each: place for each, place in found.items() if place is not None}
            assert len(kept) <= 4
            assert all(model[each] is place for each, place in kept.items())
            assert recent.get(8, b"%d" % name) is None


@pytest.mark.pure_core
def test_known_names_are_neither_hashed_nor_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    whole = NameHash.__call__

    def counted(self: NameHash, name: bytes) -> int:
        if not name.startswith(b"system."):
            hashed.append(name)
        return whole(self, name)

    monkeypatch.setattr(NameHash, "__call__", counted)
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0)
    # As the kernel does: nobody has the name, so it may be made.
    with pytest.raises(FilesystemError, match="No such file"):
        filesystem.lookup(ROOT_INO, b"a")
    ino = filesystem.create(ROOT_INO, b"a", REGULAR, 0, 0, 1).ino
    assert filesystem.lookup(ROOT_INO, b"a").ino == ino
    assert hashed == [b"a"]
    filesystem.rename(ROOT_INO, b"a", ROOT_INO, b"b", 2)
    assert filesystem.unlink(ROOT_INO, b"b", 3).ino == ino
    assert hashed == [b"a", b"b"]
    with pytest.raises(FilesystemError, match="No such file"):
        filesystem.lookup(ROOT_INO, b"b")


def test_places_of_the_generation_before_are_known_still() -> None:
    recent = RecentPlaces()
    for number in range(module._KEPT_MAX + 1):
        recent.keep(Place(7, b"%d" % number, b"", number))
    oldest = recent.get(7, b"0")
    assert oldest is not None
    assert oldest.ino == 0
    for number in range(module._KEPT_MAX):
        recent.keep(Place(8, b"%d" % number, b"", number))
    assert recent.get(7, b"0") is None
