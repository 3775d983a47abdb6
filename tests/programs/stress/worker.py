"""A worker's process, and how the run speaks with it.

A worker gets the name of a command and a number of seconds, and answers with a
count of operations or with a ``Failure``.  After a failure it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.programs.stress.actor import Actor


class Failure(NamedTuple):
    """What a worker found wrong."""

    text: str


class StressError(AssertionError):
    """The filesystem, or its daemon, is wrong; the text says how and what replays it."""


def _serve(connection: Connection, place: Path, index: int, worker_count: int, seed: int) -> None:
    """Do what the run asks for, in a process of its own."""
    # Ctrl-C reaches all of the job: the run hears it, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    actor = Actor(place, index, worker_count, seed)
    try:
        while True:
            name, seconds = connection.recv()
            _obey(actor, name, seconds)
            connection.send(actor.operations)
    except EOFError:
        return
    except Exception:
        recent = "\n  ".join(actor.recent)
        connection.send(
            Failure(
                f"worker {index}, operation {actor.operations}: {traceback.format_exc()}"
                f"its last operations:\n  {recent}"
            )
        )


def _obey(actor: Actor, name: str, seconds: float) -> None:
    if name == "work":
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            actor.step()
    else:
        {"begin": actor.begin, "verify": actor.verify, "remove": actor.remove}[name]()


class Worker:
    """A worker as the run sees it."""

    def __init__(self, place: Path, index: int, worker_count: int, seed: int) -> None:
        """Start a process."""
        context = multiprocessing.get_context("spawn")
        self.index = index
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, place, index, worker_count, seed), daemon=True
        )
        self._process.start()
        other.close()

    def ask(self, name: str, seconds: float) -> None:
        """Begin a command."""
        self._connection.send((name, seconds))

    def answered(self) -> bool:
        """Tell whether there is an answer, or no hope for one."""
        return self._connection.poll()

    def answer(self) -> int:
        """Return how many operations it has done since its start; raises StressError."""
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise StressError(f"worker {self.index} ended without a word") from error
        if isinstance(answer, Failure):
            raise StressError(answer.text)
        return int(answer)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()
