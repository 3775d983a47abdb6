"""Building: the core is compiled where there is a C compiler, and runs without.

mypyc makes C extensions of the modules below, from the sources as they are
(docs/design/compiled.md).  ``LFS_PURE=1`` leaves that out, and so does a machine without
what compiling takes: one line says so, and the package is pure Python then.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

PACKAGES = ("lfs", "mkfs", "fsck", "faultdisk")
FOLDERS = (
    "lfs/alloc",
    "lfs/segments",
    "lfs/imap",
    "lfs/volume",
    "lfs/inodes",
    "lfs/commit",
    "lfs/files",
)
MODULES = (
    "lfs/ondisk/data.py",
    "lfs/ondisk/packing.py",
    "lfs/ondisk/seal.py",
    "lfs/device/file.py",
    "lfs/device/holes.py",
    "lfs/device/reading.py",
    "lfs/requests/core.py",
    "lfs/requests/maintenance.py",
)
# Values of the disk are described by annotations that compiled classes don't have
# (lfs/ondisk/layout.py), and requests are what tests and front ends put themselves into.


def core_modules() -> list[str]:
    """Return the modules that are compiled, all together: they know each other's layout."""
    found = [
        path for folder in FOLDERS for path in Path(folder).rglob("*.py") if path.stem[0] != "_"
    ]
    return sorted([*MODULES, *(path.as_posix() for path in found)])


def missing() -> str:
    """Return why nothing can be compiled here; nothing if it can."""
    if os.environ.get("LFS_PURE", "0") not in ("", "0"):
        return "LFS_PURE is set"
    if sys.implementation.name != "cpython":
        return f"mypyc does not compile for {sys.implementation.name}"
    try:
        import mypyc.build  # noqa: F401  asked for by its name
    except ImportError as error:
        return f"mypyc can't be used: {error}"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\n")
        include = f"-I{sysconfig.get_path('include')}"
        command = [*compiler, include, "-c", str(source), "-o", f"{folder}/probe.o"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"no C compiler: {compiler[0]}: {error.strerror}"
    lines = done.stderr.strip().splitlines() or [f"{compiler[0]} exits with {done.returncode}"]
    return f"the C compiler can't be used: {lines[0]}" if done.returncode else ""


def write_byte_code() -> None:
    """Let a checkout have byte code, as an installation has: each start would compile it.

    Python writes it by itself where it may, which ``PYTHONDONTWRITEBYTECODE`` denies.
    """
    for package in PACKAGES:
        compileall.compile_dir(package, quiet=1)


class CoreDistribution(Distribution):  # type: ignore[misc]  # setuptools is untyped
    """The package, which has extensions where they can be compiled."""

    _reason: str | None = None

    def why_pure(self) -> str:
        """Return why the core stays pure Python; nothing if it is compiled."""
        if self._reason is None:
            self._reason = missing()
        return self._reason

    def has_ext_modules(self) -> bool:
        """Tell whether the package is for one kind of machine only."""
        return not self.why_pure()


class BuildCore(build_ext):  # type: ignore[misc]  # setuptools is untyped
    """Compiles the core; without extensions it does nothing."""

    distribution: CoreDistribution

    def finalize_options(self) -> None:
        """Translate the core into C: only now, because it takes a while."""
        reason = self.distribution.why_pure()
        if reason:
            print(f"lfs: the core stays pure Python: {reason}", file=sys.stderr)
        else:
            from mypyc.build import mypycify

            self.distribution.ext_modules = mypycify(
                [
                    # What the project is checked with is stricter, and needs its dependencies.
                    "--config-file=",
                    "--explicit-package-bases",
                    "--namespace-packages",
                    "--ignore-missing-imports",
                    "--no-warn-unused-ignores",
                    *core_modules(),
                ],
                group_name="lfs",
                opt_level=os.environ.get("LFS_OPTIMIZE", "2"),
                debug_level="0",
            )
        super().finalize_options()

    def run(self) -> None:
        """Compile; what is newer than the sources were when this began is up to date."""
        begun = time.time()
        super().run()
        for output in [*self.get_outputs(), *(self.get_output_mapping().values())]:
            if os.path.exists(output):
                os.utime(output, (begun, begun))
        if self.inplace:
            for output in [*Path("lfs").rglob("*.so"), *Path().glob("lfs__mypyc*.so")]:
                os.utime(output, (begun, begun))
            write_byte_code()


if __name__ == "__main__":
    options: dict[str, Any] = {"distclass": CoreDistribution, "cmdclass": {"build_ext": BuildCore}}
    setup(**options)
