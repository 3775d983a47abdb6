from __future__ import annotations

from pathlib import Path

import pytest

from bench.size.images import fill, path_of
from bench.size.series import ONE, SPREAD, Series, SizeResults, figures_of, size_table
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from mkfs.main import main as mkfs

FILES = 3000
"""So many that time commits some of them before the end."""


@pytest.mark.parametrize("where", [ONE, SPREAD])
def test_fill_makes_every_file_and_ends_as_a_crash_does(tmp_path: Path, where: str) -> None:
    image = tmp_path / "image"
    assert mkfs(["-q", str(image), "64M"]) == 0
    fill(image, FILES, where)
    reported: list[str] = []
    device = FileDevice(image)
    filesystem = Filesystem.mount(device, 10**18, report=reported.append)
    # What was committed before is below the checkpoint; the changes after it are some commits.
    assert reported == ["recovered 4 commits from the log"]
    for number in range(FILES):
        folder, name = path_of(number, where).split("/")
        parent = filesystem.lookup(ROOT_INO, folder.encode()).ino
        ino = filesystem.lookup(parent, name.encode()).ino
        assert filesystem.read(ino, 0, 100, 10**18).startswith((b"content", b"changed"))
    folders = {path_of(number, where).split("/")[0] for number in range(FILES)}
    assert len(folders) == (1 if where == ONE else FILES // 1000)
    device.close()


@pytest.mark.parametrize(
    ("costs", "starred"),
    [
        ([50, 70, 90, 110], False),  # a logarithm
        ([50, 150, 200, 210], False),  # bounded
        ([50, 60, 70, 140], True),
        ([50, 55, 61, 85], False),  # not even doubled
        ([2, 3.7, 4.7, 6.2], False),  # the height of a tree
        ([100, 158, 251, 398], True),  # a power, 0.2
        ([1, 10, 100, 1000], True),
        ([1, 1000], False),  # one step tells nothing
    ],
)
def test_star_marks_what_grows_faster_than_a_logarithm(costs: list[float], starred: bool) -> None:
    sizes = [1000, 10_000, 100_000, 1_000_000][: len(costs)]
    assert Series("lookup", SPREAD, "µs", "files", sizes, costs).outgrows_logarithm is starred


def test_steps_are_what_each_tenfold_adds() -> None:
    sizes = [1 << 30, 10 << 30, 1000 << 30]
    series = Series("mount", SPREAD, "s", "bytes", sizes, [1.0, 1.5, 3.5])
    assert series.steps == pytest.approx([0.5, 1.0])
    assert series.growth == pytest.approx(3.5)


def test_size_figures_are_held_against_budgets() -> None:
    results = SizeResults()
    for size, seconds in ((1000, 0.5), (100_000, 1.25), (1_000_000, 9.0)):
        results.add("mount, after a crash", SPREAD, "s", "files", size, seconds)
    results.add("mount, after a crash", "of an empty disk", "s", "bytes", 1 << 30, 0.5)
    results.add("memory of the daemon", SPREAD, "MiB", "files", 1_000_000, 151.0)
    mount, memory = figures_of(results)
    assert mount.value == pytest.approx(0.75)
    assert mount.met
    assert (memory.value, memory.met) == (151.0, False)
    head, crashed, resident = size_table(results.series, "files")
    assert head[3:6] == ["1,000 files", "100,000 files", "1,000,000 files"]
    assert crashed[3:] == ["0.5", "1.25", "9", "x18.00 *", "+0.38 +7.8"]
    assert resident[3:6] == ["-", "-", "151"]
