"""A Python environment with pip, made and used on a mounted image; nothing is fetched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, run

pytestmark = pytest.mark.fuse

_PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
# All that pip asks of a project: a wheel with one module and a command.
_BACKEND = """\
import zipfile

FILES = {
    "greeting.py": "def main():\\n    print('Hello from', __file__)\\n",
    "greeting-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1\\n",
    "greeting-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
    "Tag: py3-none-any\\n",
    "greeting-1.dist-info/entry_points.txt": "[console_scripts]\\ngreet = greeting:main\\n",
}


def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "greeting-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
        record = "".join(f"{path},,\\n" for path in FILES) + "greeting-1.dist-info/RECORD,,\\n"
        wheel.writestr("greeting-1.dist-info/RECORD", record)
    return name
"""
_USE = """\
import ctypes, email, json, pip, sqlite3, ssl, sys
assert sys.prefix != sys.base_prefix
assert pip.__file__.startswith(sys.prefix), pip.__file__
print(pip.__version__)
"""


def _make_project(place: Path) -> None:
    place.mkdir()
    (place / "pyproject.toml").write_text(_PROJECT)
    (place / "backend.py").write_text(_BACKEND)


def test_environment_with_pip_installs_and_runs(disk: Disk) -> None:
    environment, project = disk.place / "environment", disk.place / "project"
    # What the tests themselves run in is not to be seen.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    variables |= {"PIP_ROOT_USER_ACTION": "ignore", "PIP_CACHE_DIR": str(disk.place / "cache")}

    def python(*arguments: str | Path) -> str:
        return run([environment / "bin" / "python", *arguments], disk.place, env=variables)

    run([sys.executable, "-m", "venv", environment], env=variables)
    version = python("-c", _USE)
    _make_project(project)
    python("-m", "pip", "install", "-q", "--no-build-isolation", project)
    assert str(environment) in run([environment / "bin" / "greet"])
    disk.remount()
    assert python("-c", _USE) == version
    assert str(environment) in run([environment / "bin" / "greet"])
    python("-m", "pip", "check")
    python("-m", "pip", "uninstall", "-q", "-y", "greeting")
    assert not (environment / "bin" / "greet").exists()
