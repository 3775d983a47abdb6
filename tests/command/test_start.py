"""How every command begins and ends: Ctrl-C, output that fails, names that are no text."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fsck.check import check_device
from lfs import __version__
from lfs.command.start import Importing
from lfs.common.compiled import core_name
from lfs.device.file import FileDevice
from lfs.device.recording import Event, Flush, Mark
from lfs.device.write_log import WriteLog
from mkfs.main import main as mkfs
from mkfs.signatures import find_signature
from tests.command.commands import (
    FAILED,
    NAMES,
    closed_pipe,
    interrupted_code,
    interrupting,
    program,
    run,
)

# Programs with arguments of which none needs a mount; "{}" is an image of the test's own.
CALLS = {
    "mkfs": ("mkfs.lfs", "-f", "{}"),
    "mkfs-new": ("mkfs.lfs", "{}.new", "16M"),
    "fsck": ("fsck.lfs", "{}"),
    "fsck-all": ("fsck.lfs", "-f", "-v", "{}"),
    "mount": ("mount.lfs", "{}", "{}", "-o", "remount,ro"),
    "umount": ("umount.lfs", "{}"),
    "filefrag": ("lfs", "filefrag", "--image", "{}", "/"),
    "sync": ("lfs", "sync", "/"),
    "requests": ("lfs", "requests", "/"),
    "helpers": ("lfs", "install-helpers", "--directory", "{}"),
    "faultdisk-check": ("faultdisk", "check", "loss 1%"),
    "faultdisk-log": ("faultdisk", "log", "{}.log"),
    "faultdisk-replay": ("faultdisk", "replay", "{}.log", "{}"),
    "faultdisk-show": ("faultdisk", "show", "{}"),
}
PRINTING = ["mkfs", "mkfs-new", "fsck", "fsck-all", "filefrag", "faultdisk-check", "faultdisk-log"]
ASKED = [(name, option) for name in NAMES for option in ("--help", "-V", "--version")]
SUBCOMMANDS = [("lfs", "sync"), ("lfs", "requests"), ("lfs", "filefrag"), ("faultdisk", "serve")]
EVENTS: list[Event] = [Mark("mark ä"), Flush()]
MOMENTS = (1, 30, 120, 240, 400)
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAME = b"\xc3\xa4 \xff.img"
IMAGE_BYTES = 16 << 20
VERSION = f"{{}} {__version__} ({core_name()})\n"


def make(path: Path) -> Path:
    """Make an image, and a write log beside it."""
    assert mkfs(["-q", str(path), str(IMAGE_BYTES)]) == 0
    with WriteLog(f"{path}.log", IMAGE_BYTES) as log:
        for event in EVENTS:
            log.append(event)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "a.img")


def call(key: str, image: Path) -> tuple[str, list[str]]:
    """Return a program of ``CALLS`` and its arguments for ``image``."""
    name, *arguments = CALLS[key]
    return name, [argument.replace("{}", str(image)) for argument in arguments]


@pytest.fixture
def full() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def unread() -> Iterator[int]:
    descriptor = closed_pipe()
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("key", CALLS)
def test_interrupt_ends_a_command_at_any_moment(key: str, image: Path) -> None:
    name, arguments = call(key, image)
    for number in MOMENTS:
        marker = image.with_name(f"interrupted-{number}")
        ended = run(name, *arguments, prologue=interrupting(number, marker))
        if not marker.exists():
            break  # it has ended before
        assert (ended.code, ended.errors) == (interrupted_code(name), b""), number
        assert not Path(f"{image}.new").exists()
    else:
        assert number == MOMENTS[-1]
    assert number > MOMENTS[1], "it ended too soon to be interrupted"


def test_interrupt_that_is_ignored_at_the_start_stays_ignored(image: Path) -> None:
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    prologue = interrupting(40, image.with_name("marker")) + ignoring
    assert run("fsck.lfs", "-f", image, prologue=prologue).code == 0
    assert image.with_name("marker").exists()


# The heads and tails that are wiped take some sixteen writes, the filesystem itself some more.
@pytest.mark.parametrize("number", [1, 9, *range(15, 30, 2)])
@pytest.mark.parametrize("before", ["nothing", "an image"])
def test_interrupted_mkfs_leaves_no_filesystem_or_a_whole_one(
    tmp_path: Path, before: str, number: int
) -> None:
    image, marker = tmp_path / "a.img", tmp_path / "marker"
    if before == "an image":
        make(image)
    prologue = (
        "import os\n"
        f"write, left = os.pwritev, [{number}]\n"
        "def counted(*arguments):\n"
        "    written = write(*arguments)\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0:\n"
        f"        os.close(os.open({os.fspath(marker)!r}, os.O_CREAT | os.O_WRONLY))\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return written\n"
        "os.pwritev = counted\n"
    )
    ended = run("mkfs.lfs", "-f", image, "16M", prologue=prologue)
    assert ended.errors == b""
    assert ended.code == (-signal.SIGINT if marker.exists() else 0)
    if before == "nothing" and marker.exists():
        assert not image.exists()
        return
    with closing(FileDevice(image, read_only=True)) as device:
        found = find_signature(device)
        assert found is None or check_device(device).is_clean
    assert marker.exists() or found


def test_garbage_is_not_searched_for_while_modules_are_imported() -> None:
    try:
        with Importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("key", PRINTING)
def test_output_that_finds_no_room_is_one_line(key: str, image: Path, full: int) -> None:
    name, arguments = call(key, image)
    ended = run(name, *arguments, stdout=full)
    line = f"{name}: cannot write to standard output: No space left on device\n"
    assert (ended.code, ended.errors.decode()) == (FAILED.get(name, 1), line)


@pytest.mark.parametrize("key", PRINTING)
def test_output_that_nobody_reads_ends_as_elsewhere(key: str, image: Path, unread: int) -> None:
    name, arguments = call(key, image)
    ended = run(name, *arguments, stdout=unread)
    assert (ended.code, ended.errors) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize(("name", "option"), ASKED)
def test_help_and_version_are_printed_everywhere(name: str, option: str) -> None:
    ended = run(name, option)
    assert (ended.code, ended.errors) == (0, b"")
    if option in ("-V", "--version"):
        assert ended.output.decode() == VERSION.format(name)
    else:
        assert ended.output.startswith(b"usage: ")


@pytest.mark.parametrize("name", NAMES)
def test_help_that_finds_no_room_fails(name: str, full: int) -> None:
    assert run(name, "--help", stdout=full).code == FAILED.get(name, 1)


@pytest.mark.parametrize(("name", "command"), SUBCOMMANDS)
def test_version_is_printed_by_subcommands(name: str, command: str) -> None:
    assert run(name, command, "--version") == (0, VERSION.format(name).encode(), b"")


@pytest.mark.parametrize("variables", [ASCII, {"LC_ALL": "C.UTF-8"}], ids=["ASCII", "UTF-8"])
@pytest.mark.parametrize("key", CALLS)
def test_names_that_are_no_text_are_printed_as_they_are(
    key: str, variables: dict[str, str], tmp_path: Path
) -> None:
    image = make(tmp_path / os.fsdecode(NAME))
    name, arguments = call(key, image)
    ended = run(name, *arguments, variables=variables)
    assert b"Traceback" not in ended.errors
    assert b"codec" not in ended.errors
    if any(str(image) in argument for argument in arguments) and key != "filefrag":
        assert NAME in ended.output + ended.errors


@pytest.mark.parametrize("variables", [ASCII, {"LC_ALL": "C.UTF-8"}], ids=["ASCII", "UTF-8"])
def test_labels_that_are_no_text_are_printed_as_they_are(
    variables: dict[str, str], tmp_path: Path
) -> None:
    label = b"\xc3\xa4\xff"
    ended = run("mkfs.lfs", "-L", label, tmp_path / "a.img", "16M", variables=variables)
    assert (ended.code, ended.errors) == (0, b"")
    assert b"  label        " + label + b"\n" in ended.output


def test_letters_that_the_locale_lacks_are_printed_as_escapes(tmp_path: Path) -> None:
    image = make(tmp_path / "a.img")
    ended = run("faultdisk", "log", f"{image}.log", variables=ASCII)
    assert ended.code == 0
    assert rb"mark \xe4" in ended.output


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_descriptors_that_are_closed_are_opened(closed: int, image: Path) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *program("fsck.lfs"), "-f", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("clean" in done.stdout) == (closed != 1)


def test_messages_that_nobody_can_have_do_not_change_the_end(image: Path, full: int) -> None:
    arguments = [*program("fsck.lfs"), "-f", str(image) + ".missing"]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (8, b"")


def test_own_mistake_is_a_traceback_and_the_code_of_a_failure(image: Path) -> None:
    prologue = "import fsck.check; fsck.check.check_device = None\n"
    ended = run("fsck.lfs", "-f", image, prologue=prologue)
    assert ended.code == 8
    assert b"TypeError" in ended.errors
