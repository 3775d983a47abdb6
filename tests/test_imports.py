"""Imports go down only (ARCHITECTURE.md, "Layers").

Every module of the project has a layer.  It may import from layers below and
from its own, as long as no import leads back to where it began.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lfs", "mkfs", "fsck", "faultdisk")

# From the bottom to the top.  "x.*" is the package x with all its modules.
LAYERS: list[tuple[str, tuple[str, ...]]] = [
    ("what commands share", ("lfs", "lfs.command.*", "lfs.sizes")),
    ("structures", ("lfs.arguments", "lfs.checksum", "lfs.errors", "lfs.ondisk", "lfs.ondisk.*")),
    ("devices", ("lfs.device.*",)),
    ("allocation", ("lfs.alloc.*",)),
    ("segments", ("lfs.segments.*",)),
    (
        "state",
        (
            "lfs.imap",
            "lfs.imap_rebuild",
            "lfs.key_order",
            "lfs.node_cache",
            "lfs.turns",
            "lfs.volume",
            "lfs.spans",
            "lfs.inodes",
            "lfs.window",
            "lfs.cuts",
            "lfs.window_cache",
        ),
    ),
    (
        "log",
        (
            "lfs.space",
            "lfs.write_out",
            "lfs.commit",
            "lfs.checkpoint",
            "lfs.recovery",
            "lfs.superblocks",
            "lfs.moving",
            "lfs.removal",
            "lfs.survey",
            "lfs.cleaner",
            "lfs.packing",
            "lfs.defragment",
            "lfs.maintenance",
        ),
    ),
    (
        "operations",
        (
            "lfs.acl",
            "lfs.access",
            "lfs.collisions",
            "lfs.directory",
            "lfs.namespace",
            "lfs.file_data",
            "lfs.attributes",
        ),
    ),
    ("filesystem", ("lfs.mounted", "lfs.filesystem", "lfs.format")),
    (
        "tools",
        (
            "mkfs.*",
            "fsck.*",
            "lfs.cli.*",
            "faultdisk",
            "faultdisk.control",
            "faultdisk.conversations",
            "faultdisk.sockets",
            "faultdisk.nbd.*",
            "faultdisk.plans",
            "faultdisk.serving",
            "faultdisk.tables",
            "faultdisk.offline",
            "faultdisk.commands",
        ),
    ),
    ("fuse", ("lfs.fuse.*",)),
    ("commands above fuse", ("faultdisk.serve", "faultdisk.main")),
]

# Narrower than their layer: what these may import of the project besides themselves.
ONLY: dict[str, tuple[str, ...]] = {
    "lfs.alloc.*": (),
    "fsck.*": (
        "lfs.command.*",
        "lfs.checksum",
        "lfs.errors",
        "lfs.ondisk",
        "lfs.ondisk.*",
        "lfs.device.*",
    ),
    # What serves and controls a fault device knows devices and no filesystem.
    **dict.fromkeys(
        ("faultdisk.control", "faultdisk.serving", "faultdisk.nbd.*", "faultdisk.commands"),
        ("faultdisk.*", "lfs.command.*", "lfs.errors", "lfs.device.*"),
    ),
}

FUSE_LIBRARIES = ("pyfuse3", "trio")


def matches(module: str, pattern: str) -> bool:
    """Tell whether ``module`` is ``pattern``, or in the package of a pattern "x.*"."""
    if not pattern.endswith(".*"):
        return module == pattern
    package = pattern.removesuffix(".*")
    return module == package or module.startswith(package + ".")


def layer_of(module: str) -> int | None:
    """Return the number of a module's layer, or None when the table lacks it."""
    for number, (_, patterns) in enumerate(LAYERS):
        if any(matches(module, pattern) for pattern in patterns):
            return number
    return None


def complaints(module: str, imported: str) -> Iterator[str]:
    """Yield what is wrong with ``module`` importing ``imported``, both full module names."""
    library = imported.split(".")[0]
    if library in FUSE_LIBRARIES and not matches(module, "lfs.fuse.*"):
        yield f"{module} imports {library}, which only lfs.fuse may"
    if library not in PACKAGES:
        return
    own, other = layer_of(module), layer_of(imported)
    if own is not None and other is not None and other > own:
        yield f"{module} ({LAYERS[own][0]}) imports {imported} ({LAYERS[other][0]}), which is above"
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


@pytest.mark.parametrize("module", MODULES)
def test_imports_module_has_a_layer(module: str) -> None:
    assert layer_of(module) is not None, (
        f"{module} is in no layer: add it to LAYERS in tests/test_imports.py "
        "and to the picture in ARCHITECTURE.md"
    )


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
        ("lfs.ondisk", "lfs.device.base"),
        ("lfs.alloc.buddy", "lfs.errors"),
        ("lfs.segments.usage", "lfs.imap"),
        ("lfs.commit", "lfs.file_data"),
        ("lfs.filesystem", "lfs.fuse.mount"),
        ("lfs.filesystem", "trio"),
        ("mkfs.main", "pyfuse3.asyncio"),
        ("fsck.main", "lfs.volume"),
        ("fsck.main", "lfs.filesystem"),
        ("faultdisk.control", "lfs.filesystem"),
        ("faultdisk.nbd.server", "lfs.fuse.disk"),
        ("faultdisk.control", "faultdisk.main"),
        ("faultdisk.serve", "trio"),
    ],
)
def test_imports_forbidden_import_is_noticed(module: str, imported: str) -> None:
    assert list(complaints(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("lfs.fuse.mount", "trio"),
        ("lfs.fuse.mount", "lfs.filesystem"),
        ("lfs.segments.usage", "lfs.alloc.buddy"),
        ("fsck.main", "lfs.device.file"),
        ("fsck.main", "fsck.tree"),
        ("lfs.alloc.buddy", "heapq"),
        ("lfs.fuse.session", "faultdisk.control"),
        ("faultdisk.serve", "lfs.fuse.disk"),
    ],
)
def test_imports_allowed_import_passes(module: str, imported: str) -> None:
    assert not list(complaints(module, imported))


def test_imports_unknown_module_is_noticed() -> None:
    assert layer_of("lfs.brand_new") is None


def test_imports_of_a_mount_are_few() -> None:
    """What starts with every mount is paid for by every mount."""
    code = "import sys, lfs.fuse.session; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "trio" in imported
    assert imported.isdisjoint({"numpy", "faultdisk", "fsck", "mkfs"})
    assert "lfs.cli.main" not in done.stdout.split()
