"""A core without FUSE and NumPy: what needs them says so in one line, all else works.

Modules that fail as a missing or a broken library does are first on the path of every
process that a command starts, in the place of the library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lfs.command.parts import EXTRAS
from lfs.kernel.mountpoint import find_mount
from tests.command.commands import NAMES, program
from tests.support.mounting import ROOT, WAIT_SECONDS, MountedImage, make_image

NOT_INSTALLED = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)\n"
SYSTEM_LIBRARY = "libnone.so.3: cannot open shared object file: No such file or directory"
BROKEN = {
    "as it is": f"raise ImportError({SYSTEM_LIBRARY!r}, name=__name__)\n",
    "with advice": f"""\
try:
    raise ImportError({SYSTEM_LIBRARY!r})
except ImportError as error:
    raise ImportError("\\n\\nIMPORTANT: PLEASE READ THIS FOR ADVICE\\n") from error
""",
}
"""How the import of a library fails that is there; the second is NumPy's way."""
MODULES = {
    "mkfs.lfs": "mkfs.main",
    "fsck.lfs": "fsck.main",
    "mount.lfs": "lfs.mount.main",
    "umount.lfs": "lfs.mount.unmount",
    "lfs": "lfs.cli.main",
    "faultdisk": "faultdisk.main",
}
FORMS: dict[str, Callable[[str], list[str]]] = {
    "program": program,
    "module": lambda name: [sys.executable, "-m", MODULES[name]],
}
forms = pytest.mark.parametrize("form", FORMS)

# Commands and doors that need a part, and their exit code without; "{}" is a folder that
# holds an image and an empty directory.
_MOUNT = [
    ("mount.lfs", "{}/a.img", "{}/dir"),
    ("mount.lfs", "-f", "{}/a.img", "{}/dir"),
    ("mount.lfs", "{}/a.img", "{}/dir", "-o", "ro,fault=loss 1%"),
]
_SERVE = [
    ("faultdisk", "serve", "{}/a.img", "{}/dir", "--log", "{}/log"),
    ("faultdisk", "serve", "-f", "{}/a.img", "{}/dir", "--log", "{}/log"),
]
_FSCK = [("fsck.lfs", "{}/a.img"), ("fsck.lfs", "-a", "{}/a.img"), ("fsck.lfs", "-f", "{}/a.img")]
NEEDING = [
    *(pytest.param(call, 2, "fuse", marks=pytest.mark.fuse) for call in _MOUNT),
    *((call, 1, "fuse") for call in _SERVE),
    *((call, 128, "fsck") for call in _FSCK),
]
needing = pytest.mark.parametrize(("call", "code", "extra"), NEEDING)

# What needs neither, nor a mount.
CORE = [
    *((name, "--help") for name in NAMES),
    ("mkfs.lfs", "-f", "-U", "0" * 32, "{}/a.img"),
    ("mkfs.lfs", "-n", "-U", "0" * 32, "{}/b.img", "16M"),
    ("fsck.lfs", "-y", "{}/a.img"),
    ("mount.lfs", "{}/a.img", "{}/dir", "-o", "remount,ro"),
    ("mount.lfs", "{}/a.img", "{}/dir", "-o", "fault=nonsense"),
    ("umount.lfs", "{}/dir"),
    ("lfs", "filefrag", "--image", "{}/a.img", "/"),
    ("lfs", "sync", "{}/dir"),
    ("lfs", "install-helpers", "--directory", "{}/dir/none"),
    ("faultdisk", "serve", "--help"),
    ("faultdisk", "serve", "{}/a.img"),
    ("faultdisk", "check", "loss 1%"),
    ("faultdisk", "show", "{}/dir"),
]


class Installation:
    """A folder with an image, and the libraries that are missing or broken for its commands."""

    def __init__(self, path: Path) -> None:
        """Begin with all of them."""
        self.path = path
        self._first = path / "first-on-the-path"
        self._first.mkdir()
        (path / "dir").mkdir()
        make_image(path / "a.img", "16M")

    def replace(self, libraries: list[str], code: str) -> None:
        """Let ``code`` be what the libraries are."""
        for library in libraries:
            (self._first / f"{library}.py").write_text(code)

    def run(self, form: str, call: tuple[str, ...]) -> tuple[int, str, str]:
        """Run a command; return its exit code, output and errors."""
        name, *words = call
        done = subprocess.run(
            [*FORMS[form](name), *(word.replace("{}", str(self.path)) for word in words)],
            env=os.environ | {"PYTHONPATH": f"{self._first}:{ROOT}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Expect that a command leaves all as it was."""
        before = self._contents()
        yield
        assert self._contents() == before
        assert find_mount(str(self.path / "dir")) is None

    def _contents(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.path.glob("*") if path.is_file()}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def core(installation: Installation) -> Installation:
    """Make an installation without any part."""
    installation.replace([*EXTRAS], NOT_INSTALLED)
    return installation


@forms
@needing
def test_parts_that_are_not_installed_are_named(
    installation: Installation, call: tuple[str, ...], code: int, extra: str, form: str
) -> None:
    for library in (library for library in EXTRAS if EXTRAS[library] == extra):
        installation.replace([*EXTRAS], "")
        installation.replace([library], NOT_INSTALLED)
        line = f"{call[0]}: needs {library}: pip install 'lfsprogs[{extra}]'\n"
        with installation.unchanged():
            assert installation.run(form, call) == (code, "", line)


@pytest.mark.parametrize("how", BROKEN)
@needing
def test_parts_that_are_broken_say_how(
    installation: Installation, call: tuple[str, ...], code: int, extra: str, how: str
) -> None:
    installation.replace([name for name in EXTRAS if EXTRAS[name] == extra], BROKEN[how])
    with installation.unchanged():
        ended = installation.run("program", call)
    assert ended == (code, "", f"{call[0]}: {SYSTEM_LIBRARY}\n")


@pytest.mark.parametrize(
    ("form", "call"),
    [
        *(("program", call) for call in CORE),
        *(("module", (name, "-V")) for name in NAMES),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_parts_that_are_missing_change_nothing_else(
    installation: Installation, form: str, call: tuple[str, ...]
) -> None:
    whole = installation.run(form, call)
    installation.replace([*EXTRAS], NOT_INSTALLED)
    assert installation.run(form, call) == whole
    assert "Traceback" not in whole[2]


def test_parts_are_not_needed_for_the_nbd_door(core: Installation) -> None:
    door = "{}/socket"
    code, output, errors = core.run("program", ("faultdisk", "serve", "--nbd", door, "{}/a.img"))
    assert (code, errors) == (0, "")
    assert "disk: nbd+unix:" in output
    for word in ("show", "stop"):
        code, _, errors = core.run("program", ("faultdisk", word, door))
        assert (code, errors) == (0, "")


@pytest.mark.fuse
@pytest.mark.needs("root")
def test_parts_are_not_needed_beside_a_daemon_that_has_them(core: Installation) -> None:
    mounted = MountedImage(core.path / "a.img", core.path / "dir")
    try:
        for call in [
            ("lfs", "sync", "{}/dir"),
            ("lfs", "state", "{}/dir"),
            ("lfs", "log", "{}/dir"),
            ("lfs", "requests", "{}/dir", "true"),
            ("mount.lfs", "{}/a.img", "{}/dir", "-o", "remount,ro"),
            ("mount.lfs", "{}/a.img", "{}/dir", "-o", "remount,rw"),
            ("umount.lfs", "{}/dir"),
        ]:
            code, _, errors = core.run("program", call)
            assert (code, errors) == (0, ""), call
        assert mounted.process.wait(WAIT_SECONDS) == 0
    finally:
        mounted.close()


def test_parts_are_those_of_the_distribution() -> None:
    """Each library is in the extra that its absence names, and none of them in the core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for library, extra in EXTRAS.items():
        assert [line for line in project["optional-dependencies"][extra] if library in line]
        assert not [line for line in project["dependencies"] if library in line]
