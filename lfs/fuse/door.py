"""The daemon's side of the door (``lfs.control.door``): who may ask, and who answers.

What the filesystem itself answers is here; a mount brings the rest along.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from pyfuse3 import RequestContext

from lfs.common.errors import FilesystemError
from lfs.control import questions
from lfs.control.door import Answer, packed, parsed
from lfs.control.extents import extents_answer
from lfs.filesystem import Filesystem
from lfs.fuse.callers import may_administer
from lfs.fuse.group_commit import GroupCommit

EXTENTS_WINDOWS_MAX = 64
"""So many windows of a file one question for its extents looks at."""


class Asked(NamedTuple):
    """A question that may be asked."""

    ino: int
    argument: str
    administers: bool
    """Whether who asks might mount here; an ordinary user who mounted might not."""


Answerer = Callable[[Asked], Awaitable[Answer]]


class Door:
    """Answers what one mounted filesystem is asked."""

    def __init__(
        self,
        filesystem: Filesystem,
        group_commit: GroupCommit,
        target: str,
        requests: Mapping[str, int],
        more: Mapping[str, Answerer],
    ) -> None:
        """Answer for ``filesystem``, which lies on ``target``, and what ``more`` answers.

        ``requests`` counts by kind.
        """
        self._filesystem = filesystem
        self._group_commit = group_commit
        self._target = target
        self._requests = requests
        self._answerers: dict[str, Answerer] = {
            questions.TARGET: self._tell_target,
            questions.STATE: self._tell_state,
            questions.REQUESTS: self._tell_requests,
            questions.EXTENTS: self._tell_extents,
            questions.SYNC: self._sync,
            **more,
        }

    async def answer(self, ino: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return the value of an attribute of ``ino`` for whoever asks.

        Raises FilesystemError: EPERM, EOPNOTSUPP, and whatever asking for the answer raises.
        """
        administers = may_administer(ctx)
        owner = os.geteuid()
        # Root of a container is no owner: it may have no capability.
        if not administers and not ctx.uid == owner != 0:
            raise FilesystemError(errno.EPERM)
        question, argument = parsed(name)
        answerer = self._answerers.get(question)
        if answerer is None:
            raise FilesystemError(errno.EOPNOTSUPP)
        if argument and question not in questions.WITH_ARGUMENT:
            raise FilesystemError(errno.EINVAL, f"{question} has no argument")
        return packed(await answerer(Asked(ino, argument, administers)))

    async def _tell_target(self, asked: Asked) -> Answer:
        return questions.target_answer(self._target)

    async def _tell_state(self, asked: Asked) -> Answer:
        return questions.state_answer(self._filesystem.read_only, self._filesystem.failure)

    async def _tell_requests(self, asked: Asked) -> Answer:
        return {"requests": dict(sorted(self._requests.items()))}

    async def _tell_extents(self, asked: Asked) -> Answer:
        first = asked.argument
        if not (first.isascii() and first.isdigit() and len(first) < 20):
            raise FilesystemError(errno.EINVAL, f"extents from file block {first!r}")
        return extents_answer(self._filesystem.extents(asked.ino, int(first), EXTENTS_WINDOWS_MAX))

    async def _sync(self, asked: Asked) -> Answer:
        await self._group_commit.commit()
        return {}
