"""Who may remount, and ask at the door."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfs.control import questions
from lfs.control.door import attribute
from tests.mount.remounting.remount import fuse, needs_root
from tests.support.mounting import environment, shown_to_others
from tests.support.mounts import Mounter

_AS_NOBODY = """
import os, sys
# Nobody need be able to read where Python and lfs are: what is imported late is imported now.
import locale, lfs.mount.remount
from lfs.mount.main import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main([sys.argv[1], sys.argv[2], "-o", sys.argv[3]]))
"""

_ROOT_ONLY = (
    "only root may make a mount read-only or writable or change its flags: "
    "unmount it and mount it again"
)

_ASK = """
import os, sys
try:
    print(os.getxattr(sys.argv[1], sys.argv[2]))
except OSError as error:
    print(error.errno)
"""


@fuse
@needs_root
@pytest.mark.parametrize(
    "asked_for",
    [
        attribute(questions.REMOUNT, "commit=9"),
        *map(attribute, (questions.OPTIONS, questions.LOG, questions.STATE, questions.SYNC)),
    ],
)
@pytest.mark.parametrize(
    "way",
    [
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ["unshare", "--user", "--map-root-user"],
    ],
)
def test_root_without_the_capability_of_mount_controls_nothing(
    image: Path, mount: Mounter, way: list[str], asked_for: bytes
) -> None:
    """As root of a container does not, to which the mount is shown."""
    if shutil.which(way[0]) is None or subprocess.run([*way, "true"], check=False).returncode:
        pytest.skip(f"{way[0]} does not work here")
    mounted = mount(image)
    asked = [sys.executable, "-c", _ASK, str(mounted.path), asked_for.decode()]
    answer = subprocess.run([*way, *asked], capture_output=True, text=True, check=True).stdout
    assert answer == f"{errno.EPERM}\n"
    (mounted.path / "still writable").touch()
    assert subprocess.run(asked, capture_output=True, check=True).stdout.startswith(b"b")


@fuse
@needs_root
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            "remount,commit=9",
            "only who may mount (CAP_SYS_ADMIN), or the user who did, may remount {0}",
        ),
        ("remount,ro", _ROOT_ONLY),
    ],
)
def test_remount_by_another_user_is_refused(
    image: Path, mount: Mounter, tmp_path: Path, options: str, text: str
) -> None:
    mounted = mount(image)
    with shown_to_others(mounted.path) as open_path:
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(image), str(open_path), options],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"mount.lfs: {text.format(open_path)}\n"
