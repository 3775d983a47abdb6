from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.counters import Counters, count_all, count_seeks, parse_stat
from bench.report import counter_table
from bench.runner import Results
from bench.systems.ours import Lfs
from bench.workloads.workload import MIB, QUICK
from bench.workloads.workloads import WORKLOADS

READS = "  630  279  540108  1195"
WRITES = "  12399  12223  3567712  139755"
STAT = f"{READS}{WRITES}  0  5784  142608  2  0  7  0  3343  1658\n"
TRACE = """\
# tracer: nop
# entries-in-buffer/entries-written: 6/6   #P:2
     bench-1 [000] ..... 1.0: block_rq_issue: 7,0 WS 4096 () 800 + 8 none,0,0 [bench]
     bench-1 [000] ..... 1.1: block_rq_issue: 7,0 W 4096 () 808 + 8 none,0,0 [a (strange) name]
     bench-1 [000] ..... 1.2: block_rq_issue: 7,0 FF 0 () 0 + 0 none,0,0 [bench]
     bench-1 [000] ..... 1.3: block_rq_issue: 7,0 R 4096 () 16 + 8 none,0,0 [bench]
     bench-1 [000] ..... 1.4: block_rq_issue: 7,0 FWFS 4096 () 816 + 8 be,0,4 [kworker/0:1H]
     bench-1 [000] ..... 1.5: block_rq_issue: 7,0 WS 4096 () 800 + 8 none,0,0 [bench]
"""


def test_counters_are_those_of_the_kernel() -> None:
    counters = parse_stat(STAT)
    assert counters == Counters(630, 540108 * 512, 12399, 3567712 * 512, 3343)


def test_seek_is_a_write_that_begins_elsewhere() -> None:
    # The first write, and the one that goes back; neither the flush nor the read between.
    assert count_seeks(TRACE) == 2


def test_seeks_are_unknown_where_the_trace_is_not_whole() -> None:
    assert count_seeks("") is None
    assert count_seeks(TRACE.replace("6/6", "6/7")) is None


def test_counters_for_each_operation() -> None:
    counters = Counters(0, 0, 20, 81920, 10, None).per(10)
    assert counters["written_bytes"] == 8192
    assert counters["seeks"] is None
    rows = counter_table({"append+fsync": {"lfs": counters}})
    assert rows == [["", "lfs"], ["append+fsync", "8.0 / 2.00 / 1.00 / ?"]]


@pytest.mark.fuse
@pytest.mark.needs("loop")
def test_counters_of_lfs_keep_to_their_limits(tmp_path: Path) -> None:
    results = Results()
    chosen = [w for w in WORKLOADS if w.name in ("create", "append+fsync", "replace+fsync")]
    scale = replace(QUICK, files=200, syncs=40)
    found = count_all([Lfs], chosen, scale, tmp_path, 64 * MIB, results, lambda text: None)
    assert results.problems == []
    for name, kib_max, flushes_max in (
        # A commit that time brought about may come between, and the last one of all counts.
        ("create", 2, 0.05),
        ("append+fsync", 8.8, 1.1),
        ("replace+fsync", 8.8, 1.1),
    ):
        counters = found[name]["lfs"]
        assert 0 < (counters["written_bytes"] or 0) <= kib_max * 1024, name
        assert 0 < (counters["flushes"] or 0) <= flushes_max, name
