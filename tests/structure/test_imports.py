"""Imports go down only (ARCHITECTURE.md, "Layers").

Folders are the layers.  A module may import from folders below and from its own, as
long as no import leads back to where it began.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lfs", "mkfs", "fsck", "faultdisk")

# From the bottom to the top.  A module belongs to the folder it lies in.
FOLDERS = (
    "lfs/common",
    "lfs/command",
    "lfs/ondisk",
    "lfs/device/exclusion",
    "lfs/device",
    "lfs/device/fault/plan",
    "lfs/device/fault",
    "lfs/alloc",
    "lfs/segments",
    "lfs/imap",
    "lfs/volume",
    "lfs/inodes",
    "lfs/alloc/delayed",
    "lfs/commit",
    "lfs/segments/cleaning",
    "lfs/alloc/admission",
    "lfs/files",
    "lfs/requests",
    "lfs",
    "lfs/control",
    "lfs/cli",
    "mkfs",
    "fsck/reading",
    "fsck/items",
    "fsck",
    "lfs/kernel",
    "lfs/fuse",
    "faultdisk/daemon",
    "lfs/mount",
    "faultdisk/nbd",
    "faultdisk/fuse",
    "faultdisk",
)

# Narrower than their place: what these may import of the project besides themselves.
ONLY: dict[str, tuple[str, ...]] = {
    "lfs.alloc": ("lfs.device.base",),
    "fsck.*": ("lfs.command.*", "lfs.common.*", "lfs.ondisk.*", "lfs.device.*"),
    # What serves and controls a fault device knows devices and no filesystem.
    **dict.fromkeys(
        ("faultdisk.daemon.*", "faultdisk.nbd.*", "faultdisk.commands"),
        ("faultdisk.*", "lfs.command.*", "lfs.common.*", "lfs.device.*"),
    ),
}

FUSE_LIBRARIES = ("pyfuse3", "trio")
FUSE_FOLDERS = ("lfs/kernel", "lfs/fuse", "lfs/mount", "faultdisk/fuse")


def matches(module: str, pattern: str) -> bool:
    """Tell whether ``module`` is ``pattern``, in that folder, or somewhere below for "x.*"."""
    if not pattern.endswith(".*"):
        return pattern in (module, folder_of(module).replace("/", "."))
    package = pattern.removesuffix(".*")
    return module == package or module.startswith(package + ".")


def folder_of(module: str) -> str:
    """Return the folder of a module or package of the project."""
    is_package = module in MODULES and MODULES[module].name == "__init__.py"
    return (module if is_package else module.rpartition(".")[0]).replace(".", "/")


def complaints(module: str, imported: str) -> Iterator[str]:
    """Yield what is wrong with ``module`` importing ``imported``, both full module names."""
    library = imported.split(".")[0]
    if library in FUSE_LIBRARIES and folder_of(module) not in FUSE_FOLDERS:
        yield f"{module} imports {library}, which only {FUSE_FOLDERS} may"
    if library not in PACKAGES:
        return
    own, other = folder_of(module), folder_of(imported)
    if FOLDERS.index(other) > FOLDERS.index(own):
        yield f"{module} imports {imported}, which is above"
    for pattern, allowed in ONLY.items():
        if matches(module, pattern) and not any(
            matches(imported, each) for each in (pattern, *allowed)
        ):
            yield f"{module} imports {imported}, but {pattern} may only import {allowed}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_modules() -> dict[str, Path]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(path): path for path in paths}


MODULES = find_modules()


def imports_of(module: str) -> set[str]:
    """Return the full names of all modules that ``module`` imports, wherever in its code."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= submodules or {base}
    return found


def test_imports_have_an_order_for_every_folder() -> None:
    assert {folder_of(module) for module in MODULES} == {*FOLDERS}


def test_imports_are_drawn_as_they_are() -> None:
    """ARCHITECTURE.md has the same folders, from the top to the bottom."""
    picture = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    drawn = [line.split()[0] for line in picture.splitlines() if line[:1].strip()]
    assert drawn == [*reversed(FOLDERS)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    found = [text for imported in imports_of(module) for text in complaints(module, imported)]
    assert not found, "\n".join(found)


def test_imports_have_no_cycle() -> None:
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " imports ".join((*way[way.index(module) :], module))
        if module in finished:
            return
        for imported in sorted(imports_of(module) & MODULES.keys()):
            visit(imported, (*way, module))
        finished.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("lfs.ondisk.node", "lfs.device.base"),
        ("lfs.alloc.buddy", "lfs.common.errors"),
        ("lfs.segments.usage", "lfs.imap.map"),
        ("lfs.commit.commit", "lfs.files.contents"),
        ("lfs.filesystem", "lfs.mount.main"),
        ("lfs.filesystem", "trio"),
        ("mkfs.main", "pyfuse3.asyncio"),
        ("fsck.main", "lfs.volume.volume"),
        ("fsck.main", "lfs.filesystem"),
        ("faultdisk.daemon.control", "lfs.filesystem"),
        ("faultdisk.nbd.server", "faultdisk.fuse.disk"),
        ("faultdisk.daemon.control", "faultdisk.main"),
        ("faultdisk.serve", "trio"),
    ],
)
def test_imports_forbidden_import_is_noticed(module: str, imported: str) -> None:
    assert list(complaints(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("lfs.mount.main", "trio"),
        ("lfs.mount.main", "lfs.filesystem"),
        ("lfs.segments.usage", "lfs.alloc.buddy"),
        ("fsck.main", "lfs.device.file"),
        ("fsck.main", "fsck.reading.tree"),
        ("lfs.alloc.buddy", "heapq"),
        ("lfs.mount.session", "faultdisk.daemon.control"),
        ("faultdisk.serve", "faultdisk.fuse.disk"),
    ],
)
def test_imports_allowed_import_passes(module: str, imported: str) -> None:
    assert not list(complaints(module, imported))


def loaded_by(code: str) -> set[str]:
    """Return the modules that a new Python has after ``code``, as pure Python."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        env=os.environ | {"LFS_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {*done.stdout.split("\n")[-2].split()}


MOUNT = "import lfs.command.entries, lfs.mount.main, lfs.mount.session"
LIBRARIES = "import pyfuse3, trio"
MOUNT_MODULES_MAX = 158
"""Of the project.  Each takes a fifth of a millisecond, and those of the core are compiled."""
MOUNT_OTHERS_MAX = 25
"""Of Python and its packages, beyond those that pyfuse3 and trio bring along."""
NOT_FOR_A_MOUNT = (
    *("asyncio", "multiprocessing", "numpy", "unittest", "uuid"),
    *("faultdisk", "fsck", "mkfs"),
    *("lfs.cli", "lfs.device.fault", "lfs.geometry", "lfs.make", "lfs.mount.faults"),
    *("lfs.device.recording", "lfs.device.write_log", "lfs.mount.remount", "lfs.mount.unmount"),
)
NOT_FOR_OTHERS = ("dataclasses", "inspect", "logging", "subprocess", "lfs.filesystem", "trio")
"""What takes long to import, and neither asking a mount nor unmounting it needs."""


def needless(loaded: set[str], names: Iterable[str]) -> list[str]:
    """Return what has been loaded of ``names`` and of what is in these packages."""
    return [one for one in sorted(loaded) for name in names if f"{one}.".startswith(f"{name}.")]


def test_imports_of_a_mount_are_few() -> None:
    """What starts with every mount is paid for by every mount."""
    loaded = loaded_by(MOUNT)
    assert {"trio", "lfs.filesystem"} <= loaded
    assert not needless(loaded, NOT_FOR_A_MOUNT)
    more = loaded - loaded_by(LIBRARIES)
    own = {name for name in more if name.partition(".")[0] in PACKAGES}
    assert len(own) <= MOUNT_MODULES_MAX
    assert len(more - own) <= MOUNT_OTHERS_MAX, sorted(more - own)


@pytest.mark.parametrize("module", ["lfs.cli.main", "lfs.mount.unmount"])
def test_imports_of_a_short_command_are_few(module: str) -> None:
    more = loaded_by(f"import lfs.command.entries, {module}") - loaded_by("pass")
    assert module in more
    assert not needless(more, NOT_FOR_OTHERS)


MODULES_MAX = 13


def test_imports_have_few_modules_in_a_folder() -> None:
    """Besides the package itself, wherever: in the project, in its tests and benchmarks."""
    counts = Counter(
        path.parent
        for folder in (*PACKAGES, "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    )
    assert not [folder for folder, count in counts.items() if count > MODULES_MAX]


def test_imports_take_no_private_name() -> None:
    """What a module begins with an underscore is its own."""
    found = [
        f"{module} imports {alias.name} from {node.module}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not found
