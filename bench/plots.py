"""The pictures beside the page of results; matplotlib draws them.

matplotlib is imported only when a picture is made: measuring needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import CEILING, LEAN, OTHERS, ratio_to_best
from bench.runner import Results
from bench.size.series import CLEAN, CRASHED, FIRST, GIB, MOUNT_READS, STATES, Series
from bench.workloads.workload import Workload
from bench.workloads.workloads import WORKLOADS

_DPI = 110
# Each kind of system has a family of colours: C FUSE blue, kernel orange, ceiling grey.
_COLOURS = {
    "fuse2fs": "#9ecae1",
    "ntfs-3g": "#4292c6",
    "bindfs": "#08519c",
    "ext4": "#fdbe85",
    "xfs": "#fd8d3c",
    "btrfs": "#d94701",
    CEILING: "#737373",
    LEAN: "#bdbdbd",
}
_PANELS = [
    ("Metadata and small files", ("metadata",)),
    ("The same from four processes at once", ("metadata x4",)),
    ("Many files, listing, cold metadata, removal of trees", ("trees",)),
    (
        "fsync, streams, random writes, aged disks, latency",
        ("fsync", "write", "read", "random", "aged", "latency"),
    ),
    ("Start and stop", ("start",)),
]


class PlotError(Exception):
    """There is nothing to draw with."""


def _pyplot() -> Any:
    try:
        import matplotlib as drawing
    except ImportError as error:
        raise PlotError("needs matplotlib: pip install 'lfsprogs[bench]'") from error
    drawing.use("Agg")
    from matplotlib import pyplot

    return pyplot


# --------------------------------------------------------------------------- the comparison


def plot_comparison(results: Results, path: Path) -> None:
    """Draw how lfs compares with each system, workload by workload; raises PlotError."""
    pyplot = _pyplot()
    panels = [
        (title, [w for w in WORKLOADS if w.group in groups and w.name in results.samples])
        for title, groups in _PANELS
    ]
    panels = [(title, workloads) for title, workloads in panels if workloads]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(13, 4.2 * len(panels) + 0.8), squeeze=False, layout="constrained"
    )
    for axis, (title, workloads) in zip(axes[:, 0], panels, strict=True):
        _draw_ratios(axis, results, workloads)
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _draw_ratios(axis: Any, results: Results, workloads: Sequence[Workload]) -> None:
    peers = [
        peer
        for peer in OTHERS
        if any(ratio_to_best(results, workload, (peer,)) for workload in workloads)
    ]
    width = 0.84 / max(1, len(peers))
    lowest, highest = 0.5, 2.0
    for place, peer in enumerate(peers):
        for position, workload in enumerate(workloads):
            ratio = ratio_to_best(results, workload, (peer,))
            if ratio is None:
                continue
            lowest, highest = min(lowest, ratio), max(highest, ratio)
            x = position + (place - (len(peers) - 1) / 2) * width
            axis.bar(x, ratio - 1, width * 0.92, bottom=1, color=_COLOURS[peer])
            axis.annotate(
                f"{ratio:.2g}",
                (x, ratio),
                xytext=(0, 3 if ratio >= 1 else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if ratio >= 1 else "top",
                fontsize=6.5,
                rotation=90,
            )
        axis.bar(0, 0, 0, bottom=1, color=_COLOURS[peer], label=peer)
    axis.set_yscale("log")
    axis.set_ylim(lowest / 2, highest * 2)
    ticks = [
        t
        for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
        if lowest / 2 <= t <= highest * 2
    ]
    axis.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axis.set_yticks([], minor=True)
    axis.axhline(1, color="black", linewidth=1)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xticks(range(len(workloads)), [w.name.removesuffix(" x4") for w in workloads])
    axis.set_xlim(-0.5, len(workloads) - 0.5)
    for position in range(1, len(workloads)):
        axis.axvline(position - 0.5, color="#eeeeee", linewidth=0.8)
    axis.set_ylabel("speed of lfs / of the other\n(above 1: lfs is faster)")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


# ------------------------------------------------------------------------------------- size


def plot_sizes(series: Sequence[Series], path: Path) -> None:
    """Draw cost against size, so that a logarithm is a straight line; raises PlotError."""
    pyplot = _pyplot()
    mounts = (CLEAN, CRASHED)
    files = [one for one in series if one.against == "files"]
    wheres = sorted({one.where for one in files if one.what not in mounts}, reverse=True)
    panels = [
        *(
            (
                f"Operations, {state}, files {where}",
                [
                    one
                    for one in files
                    if one.where == where and one.unit == "µs" and one.what.endswith(state)
                ],
            )
            for where in wheres
            for state in STATES
        ),
        ("Mount, by number of files", [one for one in files if one.what in mounts]),
        (
            "Mount, by size of an empty disk",
            [one for one in series if one.against == "bytes" and one.unit == "s"],
        ),
        ("Memory of the daemon after a walk", [one for one in files if one.unit == "MiB"]),
        *(
            (
                f"Device, by a first operation, files {where}",
                [one for one in files if one.where == where and one.what in FIRST],
            )
            for where in wheres
        ),
        (
            "Device, by a clean mount of an empty disk",
            [one for one in series if one.against == "bytes" and one.what == MOUNT_READS],
        ),
    ]
    panels = [(title, some) for title, some in panels if some]
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(13, 4.3 * rows), squeeze=False, layout="constrained"
    )
    for axis, (title, some) in zip(axes.flat, panels, strict=False):
        _draw_costs(axis, some)
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _draw_costs(axis: Any, some: Sequence[Series]) -> None:
    several_places = len({one.where for one in some}) > 1
    unit = some[0].unit
    for number, one in enumerate(some):
        colour = f"C{number}"
        sizes = [size / (1 if one.against == "files" else GIB) for size in one.sizes]
        label = f"{one.what}, {one.where}" if several_places else one.what
        axis.plot(sizes, one.costs, "o-", color=colour, label=label)
    axis.set_xscale("log")
    sizes = sorted({size for one in some for size in one.sizes})
    if some[0].against == "files":
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.set_xlabel("files")
    else:
        axis.set_xticks([size / GIB for size in sizes], [f"{size // GIB:,}" for size in sizes])
        axis.set_xlabel("GiB")
    axis.set_xticks([], minor=True)
    axis.set_ylim(bottom=0)
    axis.set_ylabel({"µs": "µs each", "": "requests, or KiB"}.get(unit, unit))
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
