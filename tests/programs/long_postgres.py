"""PostgreSQL: a server that is killed, and one whose filesystem is.

Not collected by itself: ``./check --programs`` runs it, and installs PostgreSQL.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need
from tests.programs.support.postgres import SCALE, Load, Server, find_programs, load

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as a user of its own"),
]

_LOAD_SECONDS = 8.0
_KILLS = 2


@pytest.fixture
def open_disk() -> Iterator[Disk]:
    """A disk in a place that every user may enter; clean when it is unmounted at the end."""
    with tempfile.TemporaryDirectory(prefix="lfs-") as work:
        os.chmod(work, 0o711)
        disk = Disk(Path(work))
        try:
            yield disk
            disk.unmount()
        finally:
            disk.close()


@pytest.fixture
def server(need: Need, open_disk: Disk) -> Iterator[Server]:
    """A server with pgbench's tables; stopped and checked when a test passes."""
    need("pg_ctlcluster")
    programs = find_programs()
    if programs is None:
        pytest.fail("the package postgresql brought no server")
    one = Server(programs, open_disk.place / "postgres")
    one.start()
    try:
        one.tool("pgbench", "-i", "-q", "-s", str(SCALE))
        yield one
        one.check()
        one.stop()
        one.check_stopped()
    finally:
        one.kill()


def _wait(busy: Load) -> None:
    """Let the load run, and make sure that it did."""
    time.sleep(_LOAD_SECONDS)
    assert min(busy.acknowledged) > 10, busy.acknowledged


def test_server_runs_and_starts_again(server: Server, open_disk: Disk) -> None:
    server.tool("pgbench", "-c", "4", "-j", "2", "-T", "8")
    server.query("VACUUM FULL pgbench_accounts")
    server.query("REINDEX TABLE pgbench_accounts")
    server.check()
    server.stop()
    server.check_stopped()
    open_disk.remount()
    server.start()


def test_killed_server_recovers(server: Server) -> None:
    for _ in range(_KILLS):
        with load(server) as busy:
            _wait(busy)
            server.kill()
        server.start()
        busy.check()
        server.check()


def test_killed_filesystem_loses_nothing_committed(server: Server, open_disk: Disk) -> None:
    for _ in range(_KILLS):
        with load(server) as busy:
            _wait(busy)
            open_disk.kill()
            server.kill()
        open_disk.mount()
        server.start()
        busy.check()
        server.check()
