"""What tests need of the machine: asked for once, with the reason where it is lacking.

``@pytest.mark.needs("loop", "losetup")`` skips a test where a thing of ``THINGS`` can't
be had or a program is not installed, and says why.  A test that is marked ``fuse``
needs ``fuse``.  Each thing is tried out and not guessed: in a container a device may
be there that nobody may use.  Where ``LFS_REQUIRE_FUSE`` is set, as in CI, tests that
mount run in any case, so that they fail instead of being skipped.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tests.support.patience import HANG_SECONDS

_FUSE_NODE = "/dev/fuse"
# Mounts as libfuse does it here: by itself as root, else by fusermount3.
_MOUNT = """
import sys, pyfuse3
try:
    pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=probe"})
except RuntimeError:
    sys.exit(1)  # libfuse has said why
pyfuse3.close()
"""


def _refusal(*command: str | Path) -> str | None:
    """Run a command; return the last line that it complains with, or None when it goes well."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HANG_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"{command[0]} exits with {done.returncode}"])[-1]


def _root() -> str | None:
    return None if os.geteuid() == 0 else "only root may do this"


def _fuse() -> str | None:
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed"
    if not Path(_FUSE_NODE).exists():
        return f"{_FUSE_NODE} is missing"
    if not os.access(_FUSE_NODE, os.R_OK | os.W_OK):
        return f"no permission on {_FUSE_NODE}"
    with tempfile.TemporaryDirectory(prefix="lfs-probe-") as place:
        refusal = _refusal(sys.executable, "-c", _MOUNT, place)
    return refusal and f"nothing can be mounted here: {refusal}"


def _mount() -> str | None:
    """Tell whether mount(2) may be called, in a mount namespace of its own."""
    if os.geteuid() != 0:
        return "only root makes mount namespaces"
    script = "mount -t tmpfs none /tmp"
    refusal = _refusal("unshare", "-m", "--propagation", "slave", "sh", "-c", script)
    return refusal and f"mount namespaces can't be made here: {refusal}"


def _loop() -> str | None:
    if os.geteuid() != 0:
        return "only root makes loop devices"
    with tempfile.NamedTemporaryFile(prefix="lfs-probe-") as file:
        file.truncate(1 << 20)
        command = ["losetup", "--find", "--show", file.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            return f"no loop devices here: {error}"
        except subprocess.CalledProcessError as error:
            return f"no loop devices here: {str(error.stderr).strip()}"
        return _refusal("losetup", "--detach", done.stdout.strip())


def _nodes() -> str | None:
    """Tell whether nodes of devices can be made, and opened where tests make them."""
    with tempfile.TemporaryDirectory(prefix="lfs-probe-") as place:
        node = Path(place, "null")
        try:
            os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            node.read_bytes()
        except OSError as error:
            return f"nodes of devices can't be used here: {error.strerror}"
    return None


THINGS: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "fuse": _fuse,
    "mount": _mount,
    "loop": _loop,
    "nodes": _nodes,
}
"""What is neither a program nor a matter of course, and how it is tried out."""


@cache
def missing(thing: str) -> str | None:
    """Return why a thing or a program can't be had, or None when it can."""
    probe = THINGS.get(thing)
    if probe is not None:
        return probe()
    return None if shutil.which(thing) else f"{thing} is not installed"


def reason_to_skip(things: Iterable[str], is_fuse: bool) -> str | None:
    """Return why a test can't run that needs ``things``, and mounts if ``is_fuse``."""
    if is_fuse and not os.environ.get("LFS_REQUIRE_FUSE"):
        things = ("fuse", *things)
    return next(filter(None, map(missing, things)), None)
