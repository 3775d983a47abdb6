"""The last lines that the daemon of a mounted filesystem has logged.

They are kept in its memory beside what goes to the system log, and so can be seen where
there is none.  The answer has as many of the last as fit.

Held by ``tests/control/test_door.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lfs.control.door import ANSWER_BYTES_MAX, Answer

_FRAME_BYTES = len('{"lines":[]}')


def log_answer(lines: Sequence[str]) -> Answer:
    """Return as many of the last lines as an answer can hold."""
    kept: list[str] = []
    room_bytes = ANSWER_BYTES_MAX - _FRAME_BYTES
    for line in reversed(lines):
        room_bytes -= len(json.dumps(line)) + 1
        if room_bytes < 0:
            break
        kept.append(line)
    return {"lines": kept[::-1]}
