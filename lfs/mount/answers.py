"""What a mount answers at the door: its options, its log, and the daemon's end of a remount.

``lfs.mount.remount`` is the other end of that.

The lock on the image follows what the filesystem does with it.  It is exclusive
before the first byte is written and shared after the last, so that a read-only
mount may be looked at by others, and becomes writable only when none of them does.

Held by ``tests/mount/remounting``.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from time import time_ns

from lfs.common.errors import FilesystemError, FormatError, UsageError
from lfs.control import questions
from lfs.control.door import Answer, refusal
from lfs.control.log import log_answer
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.fuse.door import Answerer, Asked
from lfs.kernel.logs import recent_lines
from lfs.mount.options import Change, MountOptions, OptionError, parse_options

_SECOND_NS = 1_000_000_000

log = logging.getLogger(__name__)


class MountAnswers:
    """Answers for one mount."""

    def __init__(
        self,
        filesystem: Filesystem,
        image: FileDevice,
        options: MountOptions,
        set_interval: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Change ``filesystem`` on ``image``; ``set_interval`` gets each new ``commit=``."""
        self._filesystem = filesystem
        self._image = image
        self._options = options
        self._set_interval = set_interval

    @property
    def answerers(self) -> Mapping[str, Answerer]:
        """Return what answers the questions that a mount knows, and the filesystem doesn't."""
        return {
            questions.OPTIONS: self._tell_options,
            questions.LOG: self._tell_log,
            questions.REMOUNT: self._remount,
        }

    async def _tell_options(self, asked: Asked) -> Answer:
        return {"options": [*self._options.given]}

    async def _tell_log(self, asked: Asked) -> Answer:
        return log_answer(recent_lines())

    async def _remount(self, asked: Asked) -> Answer:
        """Make a change; raises EPERM where only who might mount here may make it."""
        text = asked.argument
        try:
            options = parse_options([text])
            if options.fixed():
                raise OptionError(f"{', '.join(options.fixed())} cannot change at a remount")
            change = options.change()
            if not asked.administers and change.read_only not in (None, self._filesystem.read_only):
                raise FilesystemError(errno.EPERM)
            self._make(change)
        except OptionError as error:
            code, reason = errno.EINVAL, str(error)
        except (UsageError, FormatError) as error:
            code, reason = errno.EROFS, str(error)
        except FilesystemError as error:
            code, reason = error.errno or errno.EIO, str(error)
        else:
            log.info("remounted with %s", text or "nothing new")
            return {}
        log.warning("remount with %s refused: %s", text, reason)
        return refusal(code, reason)

    def _make(self, change: Change) -> None:
        """Make a change; raises UsageError, FormatError, FilesystemError."""
        was_read_only = self._filesystem.options.read_only
        turns_writable = was_read_only and change.read_only is False
        if turns_writable:
            self._image.make_writable()
            # A fault device between the two knows only what it saw at the beginning.
            self._filesystem.device.read_only = False
        try:
            self._change_options(change)
        except Exception:
            if turns_writable:
                self._image.share()
            raise
        if self._filesystem.options.read_only and not was_read_only:
            self._image.share()
        if change.commit_seconds is not None:
            self._set_interval(change.commit_seconds)

    def _change_options(self, change: Change) -> None:
        seconds = change.commit_seconds
        self._filesystem.remount(
            time_ns(),
            read_only=change.read_only,
            atime=change.atime,
            directory_atime=change.directory_atime,
            commit_interval_ns=None if seconds is None else int(seconds * _SECOND_NS),
            cleaner_policy=change.cleaner,
        )
