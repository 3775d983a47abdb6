"""Which core runs: the compiled one or, from the same sources, pure Python.

Theory.  mypyc makes an extension of each module of the core (``setup.py``), and Python
prefers it to the source that lies beside it.  All of them belong together, so either all
are taken or none.  Where ``LFS_PURE`` is set none is, and neither in a checkout whose
sources have changed since: old code would run unnoticed.

Held by ``tests/structure/test_compiled.py``.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, PathFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Each command imports this module, and hardly any needs more.
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PURE = "LFS_PURE"
_ANY_MODULE = "lfs.imap.map"
_LIBRARY = "lfs__mypyc"


class _Sources:
    """Finds the modules of the package by their sources alone."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of the package is; None for any other."""
        if path is None or not name.startswith("lfs."):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if spec is not None:
                return spec
        return None


class _Library:
    """Finds what all compiled modules share: in a checkout it lies beside the packages."""

    def __init__(self, checkout: str) -> None:
        self._checkout = checkout

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the library is; None for anything else."""
        return PathFinder.find_spec(name, [self._checkout]) if name == _LIBRARY else None


def choose_core(package: str) -> None:
    """Decide for the package in this folder, before any module of the core is imported."""
    checkout = os.path.dirname(package)
    is_checkout = os.path.exists(os.path.join(checkout, "setup.py"))
    if os.environ.get(_PURE, "0") not in ("", "0") or (is_checkout and is_outdated(package)):
        sys.meta_path.insert(0, _Sources)
    elif is_checkout:
        sys.meta_path.append(_Library(checkout))


def is_outdated(package: str) -> bool:
    """Tell whether a source is newer than what was compiled of it, or is there no more."""
    for folder, _, names in os.walk(package):
        for name in names:
            if not name.endswith(".so"):
                continue
            compiled = os.path.join(folder, name)
            source = os.path.join(folder, name.partition(".")[0] + ".py")
            try:
                if os.stat(source).st_mtime_ns > os.stat(compiled).st_mtime_ns:
                    return True
            except FileNotFoundError:
                return True
    return False


def is_compiled() -> bool:
    """Tell whether the core that this process imports is the compiled one."""
    from importlib.util import find_spec

    spec = find_spec(_ANY_MODULE)
    return spec is not None and not (spec.origin or "").endswith(tuple(SOURCE_SUFFIXES))


def core_name() -> str:
    """Return what the core that runs is called, for people."""
    return "compiled core" if is_compiled() else "pure Python core"
