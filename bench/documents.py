"""The JSON files: what each command found, on what machine, and by which command.

A file holds one *kind* of document (``comparison``, ``counters``, ``size``,
``profiles``, ``core``), whole, so that other ratios can be taken later and the page of
results can be made anew without measuring.  A host's name and its paths are not
in it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.library import Figure
from bench.runner import Results
from bench.waits import Waits
from bench.workloads.workloads import WORKLOADS

Document = dict[str, Any]
KINDS = ("comparison", "counters", "size", "profiles", "core")
_DISKS = {"nvme": "an NVMe disk", "vd": "a virtual disk (virtio)", "xvd": "a virtual disk (Xen)"}


class DocumentError(Exception):
    """A file that is no document of this benchmark; the text names it."""


def write_document(
    path: Path, kind: str, command: str, work: Path, content: Mapping[str, object]
) -> None:
    """Write what ``command`` found to ``path``; ``work`` is where the images were."""
    document = {"kind": kind, "command": command, "machine": machine(work), **content}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_documents(paths: Iterable[Path]) -> dict[str, Document]:
    """Return documents by kind, the last one of a kind; raises DocumentError, OSError."""
    found = {}
    for path in paths:
        try:
            document = json.loads(path.read_text())
            kind = document["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise DocumentError(f"{path} is no result of this benchmark") from error
        if kind not in KINDS:
            raise DocumentError(f"{path}: unknown kind {kind}")
        found[kind] = document
    return found


def machine(work: Path) -> dict[str, str]:
    """Describe the machine, as far as it bears on speed."""
    return {
        "processors": f"{os.cpu_count()} x {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "storage": _storage(work),
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return platform.machine()


def _storage(work: Path) -> str:
    """Return the filesystem of the host that ``work`` is on, and on what it is."""
    number = work.stat().st_dev
    kind, source = "a filesystem", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        try:
            if os.stat(fields[1]).st_dev == number:
                kind, source = fields[2], fields[0].rpartition("/")[2]
        except OSError:
            continue
    disk = Path("/sys/dev/block", f"{os.major(number)}:{os.minor(number)}")
    for queue in (disk / "queue", disk / "../queue"):
        if queue.exists():
            for prefix, text in _DISKS.items():
                if source.startswith(prefix):
                    return f"{kind} on {text}"
            spins = (queue / "rotational").read_text().strip() == "1"
            return f"{kind} on a disk that {'rotates' if spins else 'does not rotate'}"
    return kind


# ------------------------------------------------------------------------- the comparison


def comparison_content(
    results: Results, figures: Iterable[Figure], rounds: int
) -> dict[str, object]:
    """Return what a document of the comparison holds: every sample and its waits."""
    return {
        "rounds": rounds,
        "workloads": {
            workload.name: {
                "unit": workload.unit,
                "meaning": workload.meaning,
                "samples": results.samples[workload.name],
                "waits": {
                    system: [waits.as_json() for waits in runs]
                    for system, runs in results.waits.get(workload.name, {}).items()
                },
            }
            for workload in WORKLOADS
            if workload.name in results.samples
        },
        "figures": figures_content(figures),
        "problems": results.problems,
    }


def results_of(document: Document | None) -> Results:
    """Return the samples of a comparison."""
    results = Results()
    if document is not None:
        results.problems = document["problems"]
        results.samples = {
            name: workload["samples"] for name, workload in document["workloads"].items()
        }
        results.waits = {
            name: {
                system: [Waits.from_json(waits) for waits in runs]
                for system, runs in workload.get("waits", {}).items()
            }
            for name, workload in document["workloads"].items()
        }
    return results


def figures_content(figures: Iterable[Figure]) -> list[dict[str, object]]:
    """Return figures for a document."""
    return [vars(figure) for figure in figures]


def figures_of(documents: dict[str, Document]) -> list[Figure]:
    """Return the figures of all ``documents``."""
    return [
        Figure(**figure)
        for kind in KINDS
        if kind in documents
        for figure in documents[kind].get("figures", [])
    ]
