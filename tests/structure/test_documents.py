"""The documents are short, and what they name exists.

Overviews have a number of words, lines of lists too.  Links, paths, modules and section
names lead somewhere.  The walk-through of ARCHITECTURE.md is a tree of calls: each
function exists where it says, is called by name in the file above it, and lies in the same
layer or below.  Examples in Python run.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.structure.test_imports import FOLDERS, ROOT

WORDS_MAX = {"README.md": 900, "ARCHITECTURE.md": 2000}
LIST_LINE_WORDS_MAX = 60

CODE_FOLDERS = ("lfs", "mkfs", "fsck", "faultdisk", "tests", "bench", "scripts")
FOLDERS_WITH_DOCUMENTS = (*CODE_FOLDERS, "docs")
COMMANDS = ("mkfs.lfs", "fsck.lfs", "mkfs.ext4")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS_WITH_DOCUMENTS for path in (ROOT / folder).rglob("*.md")),
    ]
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
PAGES = [name for name in NAMES if name in (*WORDS_MAX, "FAULTS.md") or name.startswith("docs/")]
"""Those that are written for people to read from the beginning."""
SOURCES = sorted(
    [
        ROOT / "check",
        ROOT / "demo",
        ROOT / "pyproject.toml",
        *DOCUMENTS,
        *(path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py")),
    ]
)
_PATH = re.compile(rf"(?:{'|'.join(FOLDERS_WITH_DOCUMENTS)})/[\w./-]*")
_MODULE = re.compile(rf"(?:{'|'.join(CODE_FOLDERS)})(?:\.\w+)+")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r'([\w/-]+\.md),\s"([^"]+)"')


class Step(NamedTuple):
    """A line of the walk-through: how far it is indented, where what is called lies."""

    depth: int
    path: str
    function: str


def without_code(text: str) -> str:
    """Return a document without its blocks of code."""
    return _FENCE.sub("", text)


@cache
def headings(path: Path) -> list[str]:
    """Return the headings of a document, as they are read."""
    text = without_code(path.read_text())
    return [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]


def anchors(path: Path) -> set[str]:
    """Return what a link to a place in a document may name, as hosts of repositories have it."""
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in headings(path))
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


@cache
def definitions(path: Path) -> set[str]:
    """Return the functions and classes of a module, methods as ``Class.method``."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(), str(path)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            found.update(
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            )
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def leads_somewhere(dotted: str) -> bool:
    """Tell whether a dotted name is a module or package, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        rest = ".".join(parts[count:])
        if place.with_suffix(".py").is_file():
            return not rest or rest in definitions(place.with_suffix(".py"))
        if (place / "__init__.py").is_file():
            return not rest or rest in (place / "__init__.py").read_text()
        if place.is_dir():
            return not rest
    return False


def walks() -> Iterator[tuple[str, list[Step]]]:
    """Yield the trees of the walk-through, each with its heading."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    part = text.partition("\n## A walk-through\n")[2].partition("\n## ")[0]
    for section in part.split("\n### ")[1:]:
        name, _, rest = section.partition("\n")
        lines = rest.split("```")[1].splitlines()
        yield (
            name,
            [
                Step((len(line) - len(line.lstrip())) // 2, *line.split()[:2])
                for line in lines
                if line.strip()
            ],
        )


def test_documents_pages_are_found() -> None:
    assert {"README.md", "ARCHITECTURE.md", "FORMAT.md", "docs/administration.md"} <= {*NAMES}


@pytest.mark.parametrize("name", WORDS_MAX)
def test_documents_overview_is_short(name: str) -> None:
    assert len((ROOT / name).read_text().split()) <= WORDS_MAX[name]


@pytest.mark.parametrize("name", PAGES)
def test_documents_lines_of_lists_are_short(name: str) -> None:
    lines = without_code((ROOT / name).read_text()).splitlines()
    points = [line for line in lines if line.lstrip().startswith(("- ", "* "))]
    assert not [line for line in points if len(line.split()) > LIST_LINE_WORDS_MAX]


@pytest.mark.parametrize("name", NAMES)
def test_documents_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_documents_paths_and_modules_exist(name: str) -> None:
    quoted = re.findall(r"`([^`\n]+)`", without_code((ROOT / name).read_text()))
    paths = filter(_PATH.fullmatch, quoted)
    modules = set(filter(_MODULE.fullmatch, quoted)).difference(COMMANDS)
    assert not [path for path in paths if not (ROOT / path).exists()]
    assert not [module for module in modules if not leads_somewhere(module)]


def test_documents_sections_that_are_named_exist() -> None:
    """A comment says ``FORMAT.md, "Window"``; lines may be cut in between."""
    wrong = []
    count = 0
    for path in SOURCES:
        if path == Path(__file__):
            continue
        text = re.sub(r"\s*\n\s*(?:# )?", " ", path.read_text())
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
        for file, section in _SECTION.findall(text):
            near, top = path.parent / file, ROOT / file
            document = near if near.is_file() else top
            count += 1
            if not document.is_file() or section not in headings(document):
                wrong.append(f"{path.relative_to(ROOT)}: {file}, {section}")
    assert not wrong
    assert count > 40


def test_documents_that_code_names_exist() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {named}"
        for path in SOURCES
        for named in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
        if not (ROOT / named).is_file()
    ]
    assert not wrong


def test_documents_map_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `(\S+\.py)`(?: `(\S+)`)? \|$", text, re.MULTILINE)
    assert len(rows) >= 12
    assert not [row for row in rows if row[1] and row[1] not in definitions(ROOT / row[0])]


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in walks()])
def test_documents_walk_through_is_a_tree_of_calls(steps: list[Step]) -> None:
    assert len(steps) > 5
    above: list[Step] = []
    for step in steps:
        path = ROOT / step.path
        assert step.function in definitions(path), step
        assert step.depth <= len(above), step
        del above[step.depth :]
        if above:
            caller = above[-1]
            called = step.function.rpartition(".")[2]
            assert f"{called}(" in (ROOT / caller.path).read_text(), (caller, step)
            folders = [str(Path(each.path).parent) for each in (caller, step)]
            assert FOLDERS.index(folders[1]) <= FOLDERS.index(folders[0]), (caller, step)
        above.append(step)


def test_documents_walk_through_has_all_four() -> None:
    assert [name for name, _ in walks()] == [
        "One write",
        "One read",
        "One fsync",
        "One cleaning",
    ]


@pytest.mark.parametrize("name", ["README.md", "docs/library.md"])
def test_documents_python_examples_run(name: str, tmp_path: Path) -> None:
    """Each on an image of its own."""
    examples = [
        code for kind, code in _FENCE.findall((ROOT / name).read_text()) if kind == "python"
    ]
    assert examples
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        make = [sys.executable, "-m", "mkfs.main", "-q", str(folder / "disk.img"), "64M"]
        subprocess.run(make, cwd=ROOT, check=True)
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}"
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, check=True)
