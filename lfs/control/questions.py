"""What a mounted filesystem can be asked.

| question | of | answer |
|---|---|---|
| ``target`` | anything | ``target``: absolute path of the image or disk |
| ``state`` | anything | ``state``: writable, read-only or failed; ``failure``: why |
| ``requests`` | anything | ``requests``: how many of each kind the kernel has sent |
| ``extents.BLOCK`` | a file | ``extents``: from file block BLOCK on (``lfs.control.extents``) |
| ``log`` | anything | ``lines``: the last that the daemon logged (``lfs.control.log``) |
| ``options`` | anything | ``options``: those that the mount began with |
| ``sync`` | anything | nothing, once everything is durable |
| ``remount.OPTIONS`` | anything | nothing, once it has changed |

``state`` says what the mount table can't of every mount: the kernel makes none read-only
while a file is open for writing, nor for an ordinary user.  ``target`` says what the table
doesn't where ``fsname=`` was given.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import os
from collections import Counter

from lfs.control.door import Answer, ask

TARGET = "target"
STATE = "state"
REQUESTS = "requests"
EXTENTS = "extents"
LOG = "log"
OPTIONS = "options"
SYNC = "sync"
REMOUNT = "remount"
WITH_ARGUMENT = frozenset((EXTENTS, REMOUNT))

FAILED = "failed"


def mounted_target(path: str) -> str:
    """Return the absolute path of the image or disk under a mounted lfs; raises OSError."""
    return str(ask(path, TARGET)["target"])


def target_answer(target: str) -> Answer:
    """Return the answer to ``TARGET``."""
    return {"target": os.path.abspath(target)}


def has_failed(path: str) -> bool:
    """Tell whether writing has failed on a mounted lfs; raises OSError."""
    return bool(ask(path, STATE)["state"] == FAILED)


def state_answer(read_only: bool, failure: str) -> Answer:
    """Return the answer to ``STATE``; ``failure`` says why writing failed, if it has."""
    state = FAILED if failure else "read-only" if read_only else "writable"
    return {"state": state, "failure": failure}


def read_counts(path: str) -> Counter[str]:
    """Return how many requests of each kind there have been since the mount; raises OSError."""
    return Counter(ask(path, REQUESTS)["requests"])
