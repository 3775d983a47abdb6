"""The page of results from documents that are given here, so that nothing is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.documents import DocumentError, read_documents, write_document
from bench.page import LIMITS, page_text, read_limits, write_page
from bench.report import BUDGETS, Verdict, ratio_to_best, verdicts
from bench.runner import Results
from bench.systems.systems import SYSTEMS
from bench.waits import Waits
from bench.workloads.workloads import WORKLOADS

PEERS = [system.name for system in SYSTEMS if system.name not in ("lfs", "lfs-writeback")]


def comparison(lfs: float, others: float, writeback: float | None = None) -> dict[str, Any]:
    by_system = {name: [others] for name in PEERS} | {"lfs": [lfs]}
    if writeback is not None:
        by_system["lfs-writeback"] = [writeback]
    return {
        "kind": "comparison",
        "command": "python -m bench compare",
        "machine": {"kernel": "Linux 6"},
        "rounds": 3,
        "workloads": {
            workload.name: {
                "unit": workload.unit,
                "meaning": "",
                "samples": by_system,
                "waits": {
                    "lfs": [
                        Waits(0.2, longest / 2, longest, Waits(0.1, 0.3, 2.0)).as_json()
                        for longest in (5.0, 120.0, 9.0)
                    ],
                    "bindfs": [Waits(0.5, 1.0, 2.0).as_json()],
                },
            }
            for workload in WORKLOADS
        },
        "figures": [
            {
                "name": "append bytes",
                "value": 8.0,
                "unit": "KiB",
                "budget": 8.0,
                "meaning": "of an append",
            }
        ],
        "problems": ["xfs left out: mkfs.xfs is not installed"],
    }


COUNTERS = {
    "kind": "counters",
    "command": "python -m bench counters",
    "machine": {},
    "counters": {
        "append+fsync": {
            name: {"written_bytes": size, "writes": 2.0, "flushes": 1.0, "seeks": None}
            for name, size in (("lfs", 8192.0), ("ext4", 24576.0))
        }
    },
    "problems": [],
}


def samples(by_system: dict[str, list[float]], workload: str) -> Results:
    return Results(samples={workload: by_system})


def test_ratio_is_above_one_where_lfs_is_better() -> None:
    by_name = {workload.name: workload for workload in WORKLOADS}
    results = samples({"lfs": [9.0, 8.0, 1.0], "ext4": [4.0], "xfs": [2.0]}, "create")
    assert ratio_to_best(results, by_name["create"], ("ext4", "xfs")) == 2
    results = samples({"lfs": [2.0], "ext4": [4.0], "xfs": [3.0]}, "stat p99")
    assert ratio_to_best(results, by_name["stat p99"], ("ext4", "xfs")) == 1.5
    assert ratio_to_best(results, by_name["stat p99"], ("bindfs",)) is None


def test_verdict_of_each_budget_follows_the_ratio() -> None:
    for budget in BUDGETS:
        for factor, met in ((1.01, True), (0.99, False)):
            own = budget.least * factor
            results = Results(
                samples={
                    workload.name: {name: [1.0] for name in PEERS} | {budget.own: [own]}
                    for workload in WORKLOADS
                }
            )
            [found] = [v for v in verdicts(results, []) if v.key == budget.key]
            assert found.met is met, budget.key


def test_page_shows_every_row_and_what_limits_the_missed() -> None:
    documents = {"comparison": comparison(1.5, 1.0, 1.2), "counters": COUNTERS}
    limits = {"metadata, fuse2fs": "Because of this.", "ceiling": "Not to be shown."}
    text = page_text(documents, limits, {})
    for budget in BUDGETS:
        assert f"| {budget.key} | {budget.work} | {budget.target} |" in text
    assert "### metadata, fuse2fs: 1.50" in text
    assert "Because of this." in text
    assert "### ceiling" not in text
    assert "Not to be shown." not in text
    assert (
        "### write, C FUSE: 1.50 (write), at least 2 x the best C FUSE peer, as the lowest" in text
    )
    assert "Nothing is written about this row" in text
    assert "8.0 / 2.00 / 1.00 / ?" in text
    # ext4 writes three times as much for an append.
    [row] = [line for line in text.splitlines() if line.startswith("| append bytes |")]
    assert "| 3.00 |" in row
    assert "xfs left out" in text
    assert "| random overwrites | at least 1 x the best C FUSE peer, each | 1.50 | holds |" in text
    assert "| 7.00 ms (overwrite 75%) | holds |" in text
    # Half of 9 ms, less the 0.2 that the device differs by, beside 0.2.
    assert "| 21.5 (append+fsync) | **missed** |" in text
    assert "| sqlite | 0.2 / 4.5 / 9 | 0.5 / 1 / 2 | 0.1 / 0.3 / 2 |" in text
    assert "0.80 |" in next(line for line in text.splitlines() if line.startswith("| sqlite | 1.5"))


def test_limits_are_about_rows_that_exist() -> None:
    figures = {"append bytes", "append flushes", "write amplification", "extents"}
    keys = (
        {budget.key for budget in BUDGETS} | figures | {"stat p99", "mount after crash", "memory"}
    )
    assert read_limits(LIMITS.read_text()).keys() <= keys


def test_page_and_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    size = {
        "kind": "size",
        "command": "python -m bench size",
        "machine": {},
        "series": [
            {
                "what": "create, warm",
                "where": "in one directory",
                "unit": "µs",
                "against": "files",
                "sizes": [1000, 10_000],
                "costs": [80.0, 90.0],
            }
        ],
        "figures": [],
        "problems": [],
    }
    (tmp_path / "limits.md").write_text("")
    few = comparison(2.0, 1.0)
    few["workloads"] = {name: few["workloads"][name] for name in ("create", "sqlite")}
    documents = {"comparison": few, "size": size}
    write_page(documents, tmp_path / "RESULTS.md", tmp_path / "limits.md")
    text = (tmp_path / "RESULTS.md").read_text()
    for name in ("comparison.png", "size.png"):
        assert f"(results/{name})" in text
        assert (tmp_path / "results" / name).read_bytes().startswith(b"\x89PNG")


def test_document_has_the_machine_and_no_path_of_it(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    write_document(path, "counters", "python -m bench counters", tmp_path, {"counters": {}})
    document = read_documents([path])["counters"]
    assert document["machine"].keys() == {"processors", "memory", "kernel", "python", "storage"}
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "unheard of"}'])
def test_document_of_another_program_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"file\.json"):
        read_documents([path])


def test_verdict_as_a_line() -> None:
    verdict = Verdict("key", "work", "at least 2", "1.50", False)
    assert str(verdict) == "  missed  key: 1.50, at least 2 (work)"
    assert json.dumps(verdict.ratios) == "{}"
