"""A PostgreSQL server on a mounted image, its clients, and what must hold of its data."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.programs.support.mounting import run
from tests.support.mounting import WAIT_SECONDS, wait_until

USER = "postgres"
SCALE = 2
_INSTALLED = Path("/usr/lib/postgresql")
# Checkpoints in every run, and so little memory that the tables are read again.
_SETTINGS = """\
listen_addresses = ''
shared_buffers = 16MB
max_wal_size = 64MB
min_wal_size = 32MB
checkpoint_timeout = 30s
wal_recycle = off
"""
# Each transaction of pgbench adds one amount in four places.
_SUMS = """\
SELECT (SELECT sum(abalance) FROM pgbench_accounts),
       (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches),
       (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_accounts)
"""


def find_programs() -> Path | None:
    """Return where the newest installed server and its tools are."""
    found = [path.parent for path in _INSTALLED.glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Server:
    """A cluster in a directory, and its server while it runs."""

    def __init__(self, programs: Path, place: Path) -> None:
        """Make a cluster with checksums in ``place``, which is the server's from now on."""
        self._programs = programs
        self._place = place
        self._data = place / "data"
        self._process: subprocess.Popen[str] | None = None
        place.mkdir(mode=0o700)
        os.chown(place, *self._ids())
        self.tool("initdb", "--data-checksums", "--auth=trust", "-D", self._data)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{place}'\n{_SETTINGS}")

    @staticmethod
    def _ids() -> tuple[int, int]:
        # Imported here, because the user comes with the package.
        import pwd

        entry = pwd.getpwnam(USER)
        return entry.pw_uid, entry.pw_gid

    def command(self, name: str, *arguments: str | Path) -> tuple[list[str | Path], dict[str, str]]:
        """Return the command line and the environment of a program of PostgreSQL."""
        return [self._programs / name, *arguments], {
            "PATH": os.environ["PATH"],
            "PGHOST": str(self._place),
            "PGDATABASE": "postgres",
        }

    def tool(self, name: str, *arguments: str | Path) -> str:
        """Run a program of PostgreSQL as its user."""
        command, environment = self.command(name, *arguments)
        return run(command, Path("/"), env=environment, user=USER, group=USER, extra_groups=[])

    def popen(
        self,
        name: str,
        *arguments: str | Path,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a program of PostgreSQL as its user; its errors go to its output."""
        command, environment = self.command(name, *arguments)
        return subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            user=USER,
            group=USER,
            extra_groups=[],
            text=True,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def query(self, text: str) -> str:
        """Return the answer to a query, a line for each row."""
        return self.tool("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def start(self) -> None:
        """Start, recover if need be, and return when queries are answered."""
        # A child of the test, so that its number is free once the test has seen its end:
        # a server refuses to start while a process has the number of the one before it.
        log = self._place / "log"
        with log.open("ab") as file:
            self._process = self.popen("postgres", "-D", self._data, stdout=file.fileno())
        wait_until(self._settled, "the server answers")
        assert self._process.poll() is None, log.read_text()[-3000:]

    def _settled(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        command, environment = self.command("pg_isready", "-q")
        return subprocess.run(command, env=environment, check=False).returncode == 0

    def stop(self) -> None:
        """Stop as a machine does that is shut down."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(WAIT_SECONDS) == 0

    def kill(self) -> None:
        """Kill all processes of the server at once, if it runs."""
        if self._process is None or self._process.poll() is not None:
            return
        # A stopped server starts no process that would be missed.
        self._process.send_signal(signal.SIGSTOP)
        processes = [self._process.pid, *_children(self._process.pid)]
        for number in processes:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.wait(WAIT_SECONDS)
        wait_until(lambda: not any(map(_runs, processes)), "the server is dead")

    def check(self) -> None:
        """Check every table and index, and that no transaction of pgbench is there in part."""
        self.tool("pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check")
        accounts, tellers, branches, history, count = self.query(_SUMS).split("|")
        assert accounts == tellers == branches == history
        assert int(count) == SCALE * 100_000

    def check_stopped(self) -> None:
        """Check the checksum of every page of a server that has been stopped."""
        self.tool("pg_checksums", "--check", "-D", self._data)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name, in parentheses, may hold anything; the parent is the second word after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Writer:
    """A client that inserts numbers, each in a transaction of its own, and notes which are
    acknowledged.
    """

    def __init__(self, server: Server, client: int) -> None:
        """Begin."""
        self._client = client
        self.acknowledged = 0
        self._process = server.popen("psql", "-XqAt", stdin=subprocess.PIPE)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        # The end is that of the server, or of the process.
        with suppress(BrokenPipeError, ValueError):
            while True:
                number = self.acknowledged + 1
                values = f"({self._client}, {number}, repeat('{number}', 300))"
                stdin.write(f"INSERT INTO written VALUES {values} RETURNING number;\n")
                stdin.flush()
                if stdout.readline().strip() != str(number):
                    return
                self.acknowledged = number

    def close(self) -> None:
        """End."""
        self._process.kill()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()


class Load:
    """pgbench and some writers, until something ends."""

    WRITERS = 3

    def __init__(self, server: Server) -> None:
        """Begin."""
        self._server = server
        server.query(
            "CREATE TABLE IF NOT EXISTS written (client int, number int, text text,"
            " PRIMARY KEY (client, number)); TRUNCATE written"
        )
        self._bench = server.popen("pgbench", "-n", "-c", "4", "-j", "2", "-T", "600")
        self._writers = [Writer(server, client) for client in range(self.WRITERS)]

    @property
    def acknowledged(self) -> list[int]:
        """Return the last number that each writer was told is committed."""
        return [writer.acknowledged for writer in self._writers]

    def close(self) -> None:
        """End."""
        for writer in self._writers:
            writer.close()
        self._bench.kill()
        self._bench.communicate()

    def check(self) -> None:
        """Fail unless all is there that was acknowledged; one more may be that was under way."""
        rows = self._server.query("SELECT client, count(*), max(number) FROM written GROUP BY 1")
        found = {int(line.split("|")[0]): line.split("|")[1:] for line in rows.splitlines()}
        for client, acknowledged in enumerate(self.acknowledged):
            count, last = map(int, found.get(client, ["0", "0"]))
            assert count == last, f"client {client}: {count} rows up to {last}"
            assert acknowledged <= last <= acknowledged + 1, f"{last}, not {acknowledged}"


@contextmanager
def load(server: Server) -> Iterator[Load]:
    """Keep a server busy for a while."""
    one = Load(server)
    try:
        yield one
    finally:
        one.close()
