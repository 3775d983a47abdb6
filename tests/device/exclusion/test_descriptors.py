"""An image never gets the descriptors 0, 1 or 2, whoever opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import HANG_SECONDS

_PROGRAM = """
import contextlib, os, sys
from lfs.device.file import FileDevice
from lfs.device.exclusion.lock import locked_file
image, other = sys.argv[1:]
with contextlib.closing(FileDevice(image, read_only=True)) as device, locked_file(other):
    device.make_writable()
    for number in range(3):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        for path in (image, other):
            assert not os.path.samestat(status, os.stat(path)), number
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_standard_descriptors_are_left_alone(tmp_path: Path, closed: str) -> None:
    image, other = tmp_path / "test.img", tmp_path / "other"
    for path in (image, other):
        path.write_bytes(bytes(4096))
    redirections = " ".join(f"{number}<&-" for number in closed)
    words = [sys.executable, "-c", _PROGRAM, str(image), str(other)]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *words], timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0
    assert image.read_bytes() == other.read_bytes() == bytes(4096)
