"""The core alone: what is measured, of which versions, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import core
from bench.__main__ import main
from bench.systems.host import SetupError
from lfs.common.compiled import core_name, is_compiled

OPERATIONS = [
    "create, write, release",
    "overwrite",
    "append, sync",
    "lookup",
    "read",
    "rename",
    "unlink, forget",
]


def test_core_is_measured_beside_other_versions(tmp_path: Path) -> None:
    chosen = core.versions(core.ROOT)
    names = [core_name(), *(["pure Python core"] if is_compiled() else []), "beside"]
    assert [version.name for version in chosen] == names
    shown: list[str] = []
    found = core.measure_in_turns(chosen, tmp_path, 40, 1, shown.append)
    assert [*found] == names
    assert all([*least] == OPERATIONS for least in found.values())
    assert all(taken_us > 0 for least in found.values() for taken_us in least.values())
    assert shown == [*(f"turn 1: {name}" for name in names), ""]
    assert not [*tmp_path.iterdir()]


def test_core_table_has_times_and_ratios_to_the_first() -> None:
    found = {"this": {"read": 2.0, "rename": 10.0}, "other": {"read": 5.0, "rename": 5.0}}
    assert core.core_table(found) == [
        ["µs for each", "this", "other", "ratio"],
        ["read", "2.0", "5.0", "2.50"],
        ["rename", "10.0", "5.0", "0.50"],
    ]


def test_core_that_cannot_be_measured_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lfs").mkdir()
    (tmp_path / "lfs" / "__init__.py").write_text("raise ImportError('made for another Python')")
    with pytest.raises(SetupError, match="beside: ImportError: made for another Python"):
        core.Version("beside", tmp_path).measure(tmp_path, 1)
    with pytest.raises(SystemExit):
        main(["core", "-q", "-d", str(tmp_path), "-b", str(tmp_path)])
    assert capsys.readouterr().err.endswith("beside: ImportError: made for another Python\n")
