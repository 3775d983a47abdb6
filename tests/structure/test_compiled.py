"""The compiled core: what is compiled, when it runs, and that all goes well without."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lfs.common.compiled import is_compiled, is_outdated

ROOT = Path(__file__).parents[2]
ASK = "import lfs; from lfs.common.compiled import core_name; print(core_name())"
FILES = (
    "import lfs.filesystem, sys; print(*(m.__file__ for n, m in sys.modules.items() if 'lfs' in n))"
)


@pytest.fixture(scope="module")
def building() -> dict[str, Any]:
    """Return what setup.py defines, without building anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return runpy.run_path("setup.py")


def python(code: str, pure: str, cwd: str | Path = ROOT) -> str:
    environment = os.environ | {"PYTHONPATH": "", "LFS_PURE": pure}
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, cwd=cwd, env=environment, text=True).strip()


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build the extensions into ``folder``, which is quick where there are to be none."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_sources_run_where_that_is_wanted() -> None:
    assert python(ASK, "1") == "pure Python core"
    assert all(name.endswith(".py") for name in python(FILES, "1").split())
    wanted = "compiled core" if is_compiled() else python(ASK, "0")
    assert python(ASK, "0") == wanted


def test_core_is_compiled_as_a_whole(
    building: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    modules: list[str] = building["core_modules"]()
    assert len(modules) == len({*modules}) > 50
    assert all((ROOT / module).is_file() for module in modules)
    if is_compiled():
        extensions = {path.name.partition(".")[0]: path for path in (ROOT / "lfs").rglob("*.so")}
        assert {Path(module).stem for module in modules} == {*extensions}
        loaded = python(FILES, "0").split()
        assert not [module for module in modules if str(ROOT / module) in loaded]


def test_compiled_core_is_outdated_once_a_source_is_newer(tmp_path: Path) -> None:
    package = tmp_path / "lfs"
    (package / "imap").mkdir(parents=True)
    source = package / "imap" / "map.py"
    extension = package / "imap" / "map.cpython-311-x86_64-linux-gnu.so"
    for path, when in ((source, 100), (extension, 100)):
        path.touch()
        os.utime(path, (when, when))
    os.utime(source, (101, 101))
    assert is_outdated(str(package))
    os.utime(source, (100, 100))
    assert not is_outdated(str(package))
    source.unlink()
    assert is_outdated(str(package))


def test_checkout_runs_from_anywhere_and_never_what_is_outdated(tmp_path: Path) -> None:
    def core_of(checkout: Path) -> str:
        # As an editable installation has it: nothing but the packages is found by their names.
        find = f"import sys; sys.path.insert(0, {str(checkout)!r}); import lfs; del sys.path[0]"
        return python(f"{find}; {ASK}; import lfs.filesystem", "0", cwd="/")

    shutil.copytree(ROOT / "lfs", tmp_path / "lfs", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [ROOT / "setup.py", *ROOT.glob("lfs__mypyc*.so")]:
        shutil.copy2(path, tmp_path)
    assert core_of(tmp_path) == ("compiled core" if is_compiled() else "pure Python core")
    (tmp_path / "lfs" / "imap" / "map.py").touch()
    assert core_of(tmp_path) == "pure Python core"


def test_checkout_gets_byte_code_even_where_python_writes_none(
    building: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    for package in building["PACKAGES"]:
        (tmp_path / package / "part").mkdir(parents=True)
        (tmp_path / package / "part" / "module.py").touch()
    building["write_byte_code"]()
    assert len([*tmp_path.rglob("__pycache__/module.*.pyc")]) == len(building["PACKAGES"])


def test_without_a_compiler_there_is_pure_python(tmp_path: Path) -> None:
    done = build(tmp_path, CC="/nowhere/cc", LFS_PURE="0")
    assert done.returncode == 0, done.stderr
    assert "stays pure Python: no C compiler: /nowhere/cc" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_without_its_headers_there_is_pure_python(tmp_path: Path) -> None:
    done = build(tmp_path, CC=f"{sys.executable} -c pass", LFS_PURE="1")
    assert done.returncode == 0, done.stderr
    assert "stays pure Python: LFS_PURE is set" in done.stderr
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'Python.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    done = build(tmp_path, CC=str(compiler), LFS_PURE="0")
    assert done.returncode == 0, done.stderr
    assert "the C compiler can't be used: Python.h: No such file" in done.stderr
    assert [*tmp_path.iterdir()] == [compiler]
