"""Every condition of POSIX ends with its error, and the table leaves none out."""

from __future__ import annotations

import ast
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounted.test_attributes import as_root
from tests.posix.conditions import REQUIRED, Condition, as_markdown, conditions, table
from tests.posix.world import World

HERE = Path(__file__).parent


@pytest.mark.fuse
@as_root
@pytest.mark.parametrize("condition", list(conditions()), ids=lambda condition: condition.name)
def test_posix(condition: Condition, world: World) -> None:
    found = 0
    try:
        condition.action(world)
    except OSError as error:
        found = error.errno or 0
    assert found == getattr(errno, condition.error), errno.errorcode.get(found, "no error")


def test_table_has_every_error_of_every_call() -> None:
    found = {(call, error) for call, error, _, _ in table()}
    required = {(call, error) for call, errors in REQUIRED.items() for error in errors.split()}
    assert required <= found


def test_table_names_tests_that_exist_and_mount() -> None:
    for _, _, _, test in table():
        file, _, name = test.partition("::")
        if name:
            assert name in set(_tests_of(HERE / file)), test


def _tests_of(path: Path) -> Iterator[str]:
    source = path.read_text()
    assert "pytest.mark.fuse" in source
    return (node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))


def test_table_is_written_down() -> None:
    assert (HERE / "TABLE.md").read_text() == as_markdown()
