"""The page of results, made from the JSON files and from ``limits.md``.

``limits.md`` is written by hand: under the heading of a budget's key it says
what limits that row.  What it says is shown for rows that are missed, so making
the page anew keeps it, and a row that is reached one day shows it no more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.conditions import condition_table, findings
from bench.documents import Document, figures_of, results_of
from bench.plots import PlotError, plot_comparison, plot_sizes
from bench.profile import OTHER, RECEIVING, SCHEDULING, WAITING, Profile
from bench.report import (
    CEILING,
    LFS,
    OTHERS,
    Verdict,
    counter_table,
    number,
    ratio_to_best,
    spread,
    table,
    verdicts,
    waits_table,
)
from bench.runner import Results
from bench.size.series import AGAINST, series_from_json, size_table
from bench.systems.ours import LfsAwake, LfsWriteback
from bench.workloads.workloads import WORKLOADS

LIMITS = Path(__file__).with_name("limits.md")
_TOP_COUNT = 6
_HEAD = """# Results

Made by `python -m bench report` from the files in `bench/results`; what limits a row comes from
`bench/limits.md`. [README.md](README.md) says how to measure again and what the words mean. Nobody
keeps processors awake (`cpu_latency=any`), except `lfs-awake`, which is lfs as it is mounted by
default: README.md, "In a virtual machine"."""
_MISSING = "Nothing is written about this row in `bench/limits.md`."


def write_page(documents: dict[str, Document], path: Path, limits: Path = LIMITS) -> None:
    """Write the page and, in ``results`` beside it, its plots; raises OSError.

    Where there is nothing to draw with, the page has no plots and says so.
    """
    folder = path.parent / "results"
    folder.mkdir(exist_ok=True)
    plots = _draw(documents, folder)
    path.write_text(page_text(documents, read_limits(limits.read_text()), plots))


def _draw(documents: dict[str, Document], folder: Path) -> dict[str, str]:
    """Draw what there is and return the Markdown of each plot."""
    plots = {}
    try:
        if "comparison" in documents:
            plot_comparison(results_of(documents["comparison"]), folder / "comparison.png")
            plots["comparison"] = "![Ratios by workload and system](results/comparison.png)"
        if "size" in documents:
            plot_sizes(series_from_json(documents["size"]["series"]), folder / "size.png")
            plots["size"] = "![Cost against size](results/size.png)"
    except PlotError as error:
        return dict.fromkeys(("comparison", "size"), f"No plot: {error}.")
    return plots


def read_limits(text: str) -> dict[str, str]:
    """Return what ``limits.md`` says, by heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {
        heading.strip(): body.strip()
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def page_text(documents: dict[str, Document], limits: dict[str, str], plots: dict[str, str]) -> str:
    """Return the page as Markdown."""
    results = results_of(documents.get("comparison"))
    counters = documents.get("counters", {}).get("counters", {})
    found = verdicts(results, figures_of(documents), counters)
    sections = [
        _HEAD,
        _machine(documents),
        *_conditions(documents, results),
        _budgets(found),
        _limits(found, limits),
    ]
    if "comparison" in documents:
        sections += _comparison(documents["comparison"], results, plots.get("comparison", ""))
    if counters:
        sections.append(_counters(documents["counters"], counters))
    if "size" in documents:
        sections.append(_sizes(documents["size"], plots.get("size", "")))
    if "profiles" in documents:
        sections.append(_profiles(documents["profiles"]))
    problems = [text for document in documents.values() for text in document.get("problems", [])]
    if problems:
        sections.append("## Not measured\n\n" + "\n".join(f"- {text}" for text in problems))
    return "\n\n".join(sections) + "\n"


def markdown_table(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return rows, the first of which is the head, as a table; all but ``texts`` are figures."""
    marks = ["---" if place < texts else "---:" for place in range(len(rows[0]))]
    lines = [rows[0], marks, *rows[1:]]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def _command(document: Document) -> str:
    return f"`{document['command']}`"


def _machine(documents: dict[str, Document]) -> str:
    machine = next(iter(documents.values()))["machine"]
    rows = [["what", "command"]]
    rows += [[kind, _command(document)] for kind, document in documents.items()]
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    return f"Machine: {described}.\n\n{markdown_table(rows, texts=2)}"


# --------------------------------------------------------------- the conditions, the budgets


def _conditions(documents: dict[str, Document], results: Results) -> list[str]:
    if "comparison" not in documents:
        return []
    found = findings(results)
    holding = sum(finding.holds for finding in found)
    text = (
        f"## Done when\n\n{holding} of {len(found)} conditions hold, with `cpu_latency=any`. Of "
        "several workloads the worst stands in\nbrackets. Waits are the median over "
        f"{documents['comparison']['rounds']} rounds, less what the device itself took.\n\n"
        f"{markdown_table(condition_table(results), texts=4)}"
    )
    return [text]


def _budgets(found: Sequence[Verdict]) -> str:
    others = [name for name in OTHERS if any(name in verdict.ratios for verdict in found)]
    head = ["row", "work", "target", "measured", "", *(f"/ {name}" for name in others)]
    rows = [head]
    for verdict in found:
        ratios = [number(verdict.ratios.get(name)) for name in others]
        met = "met" if verdict.met else "**missed**"
        rows.append([verdict.key, verdict.work, verdict.target, verdict.measured, met, *ratios])
    met_count = sum(verdict.met for verdict in found)
    return (
        f"## Budgets\n\n{met_count} of {len(found)} rows are met. A ratio above 1 means that lfs "
        "is better; ratios to a single\nsystem are geometric means over the workloads of the row."
        f"\n\n{markdown_table(rows, texts=5)}"
    )


def _limits(found: Sequence[Verdict], limits: dict[str, str]) -> str:
    missed = [verdict for verdict in found if not verdict.met]
    parts = [
        f"### {verdict.key}: {verdict.measured}, {verdict.target}\n\n"
        f"{limits.get(verdict.key, _MISSING)}"
        for verdict in missed
    ]
    return "\n\n".join(["## What limits the rows that are missed", *(parts or ["None is."])])


# --------------------------------------------------------------------------- the other tables


def _comparison(document: Document, results: Results, plot: str) -> list[str]:
    shown = [workload for workload in WORKLOADS if workload.name in results.samples]
    medians = table(results, shown)
    medians[0][:2] = ["workload", "unit"]
    ratios = [["workload", *(f"/ {name}" for name in OTHERS), "awake", "writeback_cache"]]
    for workload in shown:
        cells = [number(ratio_to_best(results, workload, (name,))) for name in OTHERS]
        effects = [
            number(ratio_to_best(results, workload, (LFS,), variant.name))
            for variant in (LfsAwake, LfsWriteback)
        ]
        ratios.append([workload.name, *cells, *effects])
    meanings = "\n".join(
        f"- {workload.name}: {workload.meaning}" for workload in shown if "x4" not in workload.name
    )
    apart = spread(results)
    said = "" if apart is None else f" The samples of one figure span {apart:.0%} of it (median)."
    everything = (
        f"## All workloads\n\nMedians of {document['rounds']} rounds by {_command(document)}."
        f"{said}\n\n"
        f"{markdown_table(medians, texts=2)}\n\n{meanings}\n- NAME x4: the same by four processes "
        "at once, each in its own directory"
    )
    compared = (
        "## Ratios\n\nHow many times as fast lfs is as each system; in the last columns, how many "
        "times as fast it is where it may\nkeep processors awake (`-o cpu_latency=auto`), and with "
        "`-o writeback_cache`.\n\n"
        f"{markdown_table(ratios)}\n\n{plot}"
    )
    return [everything, *_waits(results), compared]


def _waits(results: Results) -> list[str]:
    shown = [workload for workload in WORKLOADS if workload.name in results.waits]
    if not shown:
        return []
    rows = waits_table(results, shown)
    rows[0][0] = "workload"
    text = (
        "## Waits\n\nOf single operations, in milliseconds: median / 99th percentile / longest, "
        "each as the median of the rounds.\n*Device* is a write of 8 KiB with a flush straight on "
        "a file of the same storage, in between, in the turns of\nlfs; nothing is taken off the "
        f"other columns.\n\n{markdown_table(rows)}"
    )
    return [text]


def _counters(document: Document, counters: dict[str, dict[str, dict[str, float | None]]]) -> str:
    rows = counter_table(counters)
    rows[0][0] = "workload"
    return (
        "## Device counters\n\nFor each operation (for `write`, each MiB): KiB written / write "
        f"requests / flushes / seeks, all on a loop\ndevice, by {_command(document)}. Work bound "
        "by fsync is counted until its last `fsync` returns, the rest until\neverything is on the "
        "device. A seek is a write that does not begin where the last one ended. Where `cp` can\n"
        f"share blocks (XFS, Btrfs), `copy` does.\n\n{markdown_table(rows)}"
    )


def _sizes(document: Document, plot: str) -> str:
    series = series_from_json(document["series"])
    tables = []
    for against in AGAINST:
        rows = size_table(series, against)
        rows[0][:3] = ["cost", "where", "unit"]
        tables.append(markdown_table(rows, texts=3))
    return (
        f"## Cost against size\n\nMeasured by {_command(document)}. A logarithm adds the same for "
        "each tenfold. A star marks what grows faster:\nwhat has more than doubled, and added "
        "half as much again in the last step as in the mean of those before. *Cold* is\nthe first "
        "operation after a mount, *warm* the mean of many when all that they need has been read\n"
        "before. Times of mounts hold the start of Python.\n\n" + "\n\n".join([*tables, plot])
    )


def _profiles(document: Document) -> str:
    profiles = {name: Profile(**one) for name, one in document["profiles"].items()}
    layers = [WAITING, RECEIVING, SCHEDULING, "lfs/fuse", "core", "lfs/device", OTHER]
    head = ["workload", "µs", f"µs, {CEILING}", "of it", *layers]
    rows = [head]
    for name, profile in profiles.items():
        shares: dict[str, float] = {}
        for layer, share in profile.layers.items():
            key = layer if layer in layers else "core"
            shares[key] = shares.get(key, 0.0) + share
        cells = [f"{shares.get(layer, 0.0):.0%}" for layer in layers]
        times = [profile.lfs_us, profile.ceiling_us, profile.ceiling_us / profile.lfs_us]
        rows.append([name, *map(number, times), *cells])
    parts = [
        f"**{name}**: "
        + ", ".join(
            f"{share:.0%} {function}"
            for function, share in list(profile.functions.items())[:_TOP_COUNT]
        )
        for name, profile in profiles.items()
    ]
    return (
        f"## Where the time goes\n\nSamples of the daemon's stack by {_command(document)}: the "
        "time for each operation (for streams, each MiB)\non lfs and on the ceiling, the ratio, "
        "and the "
        "share of each layer in the time on lfs. Waiting is the time in\nwhich the daemon has "
        "nothing to do: the kernel, the program, and one telling the other. Times are taken\n"
        f"without the profiler.\n\n{markdown_table(rows)}\n\n"
        "The functions in which the daemon is found most often, beside waiting, receiving and "
        "replying:\n\n" + "\n".join(f"- {part}" for part in parts)
    )
