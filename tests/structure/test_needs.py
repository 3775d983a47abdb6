"""Tests that can't run are skipped, with the reason; in CI those that mount are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.needs import missing, reason_to_skip
from tests.support.patience import HANG_SECONDS

ROOT = Path(__file__).parents[2]
# What stands for the tests of a module: one for each thing, one that only mounts.
TESTS = """
import pytest
from tests.support.mounting import MountedImage
@pytest.mark.fuse
def test_marked(): assert False
def test_mounting(tmp_path): MountedImage(tmp_path / "a.img", tmp_path / "mnt")
@pytest.mark.needs("loop")
def test_loop(): assert False
@pytest.mark.needs("mount", "true")
def test_mount(): assert False
@pytest.mark.needs("no-such-program")
def test_program(): assert False
@pytest.mark.needs("true")
def test_plain(): pass
"""
# A container: a /dev with nothing in it but what every program takes for granted.
CONTAINER = """
set -e
mount --make-rprivate /
mount -t tmpfs none {place}
for name in null zero full urandom; do
    touch {place}/$name
    mount --bind /dev/$name {place}/$name
done
mount --rbind {place} /dev
exec setpriv --bounding-set=-sys_admin,-mknod "$@"
"""


@pytest.fixture(autouse=True)
def forgetful() -> None:
    missing.cache_clear()


@pytest.mark.needs("mount", "setpriv")
@pytest.mark.parametrize("required", ["", "1"])
def test_in_a_container_tests_are_skipped_and_say_why(tmp_path: Path, required: str) -> None:
    module = tmp_path / "test_container.py"
    module.write_text(TESTS)
    place = tmp_path / "dev"
    place.mkdir()
    words = ["-q", "-c", "pyproject.toml", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    done = subprocess.run(
        [
            *("unshare", "-m", "--propagation", "slave", "sh", "-c"),
            CONTAINER.format(place=place),
            *("sh", sys.executable, "-m", "pytest", *words),
            *(f"--basetemp={tmp_path}/base", str(module)),
        ],
        cwd=ROOT,
        env=os.environ | {"LFS_REQUIRE_FUSE": required, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert "no-such-program is not installed" in done.stdout
    assert "no loop devices here: " in done.stdout
    assert "mount namespaces can't be made here: " in done.stdout
    if required:
        assert "2 failed, 1 passed, 3 skipped" in done.stdout
    else:
        assert done.stdout.count("/dev/fuse is missing") == 2
        assert "1 passed, 5 skipped" in done.stdout


def test_reason_is_the_first_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LFS_REQUIRE_FUSE", raising=False)
    monkeypatch.setitem(needs.THINGS, "fuse", lambda: "no fuse")
    monkeypatch.setitem(needs.THINGS, "loop", lambda: None)
    assert reason_to_skip(["loop", "no-such-program"], is_fuse=False) == (
        "no-such-program is not installed"
    )
    assert reason_to_skip(["loop"], is_fuse=False) is None
    assert reason_to_skip(["loop"], is_fuse=True) == "no fuse"


def test_what_must_mount_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFS_REQUIRE_FUSE", "1")
    monkeypatch.setitem(needs.THINGS, "fuse", lambda: "no fuse")
    assert reason_to_skip(["true"], is_fuse=True) is None


def test_each_thing_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setitem(needs.THINGS, "loop", lambda: asked.append(1))
    assert missing("loop") is None
    assert missing("loop") is None
    assert len(asked) == 1
