"""A Debian package built from its source: configure, make, its own tests, and the package.

Not collected by itself: ``./check --programs`` runs it.  It fetches the source, once,
from wherever the machine gets its packages.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need, run

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(
        shutil.which("apt-get") is None or os.geteuid() != 0,
        reason="installs what builds Debian packages",
    ),
]

_PACKAGE = "hello"


def _source_options(work: Path) -> list[str]:
    """Return options with which apt-get knows of sources, whatever its own lists are."""
    form = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = run(["apt-get", "indextargets", "--format", form, "Identifier: Packages"])
    # Others' repositories may have no sources, or be out of reach.
    own = [line for line in lines.splitlines() if re.search(r"//[^/]*\b(debian|ubuntu)\b", line)]
    if not own:
        pytest.skip("apt-get knows no repository of Debian or Ubuntu")
    (work / "sources.list").write_text("".join(f"{line}\n" for line in sorted(set(own))))
    (work / "lists" / "partial").mkdir(parents=True)
    return [
        *("-o", f"Dir::Etc::SourceList={work}/sources.list"),
        *("-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={work}/lists"),
        *("-o", "APT::Sandbox::User=root"),
    ]


def test_debian_package_builds(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("dpkg-buildpackage", "dh", "make", "gcc", "patch", "fakeroot")
    # What this package itself wants.
    need("help2man", "makeinfo")
    options = _source_options(tmp_path)
    run(["apt-get", "-qq", *options, "update"])
    place = disk.place / "build"
    place.mkdir()
    run(["apt-get", "-qq", *options, "source", _PACKAGE], place)
    (source,) = [path for path in place.iterdir() if path.is_dir()]
    run(["dpkg-buildpackage", "-b", "-us", "-uc", "-j2"], source)
    (package,) = place.glob(f"{_PACKAGE}_*.deb")
    disk.remount()
    run(["dpkg-deb", "--extract", package, disk.place / "installed"])
    assert run([disk.place / "installed/usr/bin" / _PACKAGE]) == "Hello, world!\n"
    # What was built survives, with its times: a second build compiles nothing anew.
    assert not re.search(r" -c -o |  CC  ", run(["make", "V=1"], source))
