"""No module is so long that it must be about more than one thing (CONTRIBUTING.md, "Style")."""

from __future__ import annotations

from tests.structure.test_imports import PACKAGES, ROOT

LINES_MAX = 400


def test_sizes_of_modules_are_small() -> None:
    """Wherever: in the project, in its tests and benchmarks."""
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in (*PACKAGES, "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {module: count for module, count in lines.items() if count > LINES_MAX}
