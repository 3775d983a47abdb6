"""Every module has a test of its name, or its docstring names the tests that hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.structure.test_imports import PACKAGES, ROOT

MODULES = [
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
]
_HELD_BY = re.compile(r"Held by (``tests/.*)\.$", re.MULTILINE)


def own_test(module: Path) -> Path:
    """Return where the test of a module's name lies, in the tree that mirrors the packages."""
    folders = module.parts[1:-1] if module.parts[0] == "lfs" else module.parts[:-1]
    return ROOT.joinpath("tests", *(folders or ("library",)), f"test_{module.name}")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_is_held_by_tests(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text())) or ""
    named = [
        name
        for line in _HELD_BY.findall(docstring)
        for name in re.findall(r"``(tests/[\w/.]+)``", line)
    ]
    assert named or own_test(module).exists()
    assert not [name for name in named if not (ROOT / name).exists()]
