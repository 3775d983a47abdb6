"""What a request costs the core alone, without FUSE: compiled, pure, and beside other versions.

Each version runs in processes of its own, in turns, so that what else the machine does
touches all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.systems.host import SetupError
from lfs.common.compiled import core_name, is_compiled

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("core_worker.py")
FILES = 4000
FILES_QUICK = 500
TURNS = 5
TURNS_QUICK = 1
_ROUNDS = 2


@dataclass(frozen=True)
class Version:
    """A version of the core."""

    name: str
    checkout: Path
    is_pure: bool = False

    def measure(self, work: Path, files: int) -> dict[str, float]:
        """Return microseconds of processor time for each operation; raises SetupError."""
        environment = os.environ | {"PYTHONPATH": str(self.checkout)}
        environment["LFS_PURE"] = str(int(self.is_pure))
        command = [sys.executable, str(WORKER), str(work), str(files), str(_ROUNDS)]
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise SetupError(f"{self.name}: {lines[-1]}")
        least: dict[str, float] = json.loads(done.stdout)
        return least


def versions(beside: Path | None) -> list[Version]:
    """Return this version, without compiling too, and the one in the checkout ``beside``."""
    found = [Version(core_name(), ROOT)]
    if is_compiled():
        found.append(Version("pure Python core", ROOT, is_pure=True))
    if beside is not None:
        found.append(Version("beside", beside.resolve()))
    return found


def measure_in_turns(
    chosen: list[Version], work: Path, files: int, turns: int, show: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Return the least time of each operation, by version and operation; raises SetupError."""
    found: dict[str, dict[str, float]] = {version.name: {} for version in chosen}
    for turn in range(turns):
        for version in chosen:
            show(f"turn {turn + 1}: {version.name}")
            least = found[version.name]
            for name, taken_us in version.measure(work, files).items():
                least[name] = min(least.get(name, taken_us), taken_us)
    show("")
    return found


def core_table(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return the rows of a table: times, and how many times as long as the first version's."""
    first, *others = found
    rows = [["µs for each", first]]
    for other in others:
        rows[0] += [other, "ratio"]
    for name, taken_us in found[first].items():
        row = [name, f"{taken_us:.1f}"]
        for other in others:
            other_us = found[other][name]
            row += [f"{other_us:.1f}", f"{other_us / taken_us:.2f}"]
        rows.append(row)
    return rows
