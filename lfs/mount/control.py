"""The daemon's end of a remount (``lfs.mount.remount`` is the other).

The lock on the image follows what the filesystem does with it.  It is exclusive
before the first byte is written and shared after the last, so that a read-only
mount may be looked at by others, and becomes writable only when none of them does.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from time import time_ns

from pyfuse3 import RequestContext

from lfs.common.errors import FilesystemError, FormatError, UsageError
from lfs.control.log import LOG_ATTRIBUTE, format_lines
from lfs.control.remount import OPTIONS_ATTRIBUTE, REMOUNT_ATTRIBUTE
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.fuse.callers import may_administer
from lfs.kernel.logs import recent_lines
from lfs.mount.options import Change, MountOptions, OptionError, parse_options

_SECOND_NS = 1_000_000_000

log = logging.getLogger(__name__)


class Control:
    """Answers for the attributes by which a remount asks."""

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

    def answer(self, name: bytes, ctx: RequestContext) -> bytes:
        """Return the value of an attribute for whoever asks; raises FilesystemError.

        EPERM for others than an ordinary user who mounted and those who might mount
        here, EOPNOTSUPP for names that mean nothing.
        """
        administers = may_administer(ctx)
        owner = os.geteuid()
        if not administers and not ctx.uid == owner != 0:
            raise FilesystemError(errno.EPERM)
        if name == OPTIONS_ATTRIBUTE:
            return b"".join(os.fsencode(option) + b"\0" for option in self._options.given)
        if name == LOG_ATTRIBUTE:
            return format_lines(recent_lines())
        if not name.startswith(REMOUNT_ATTRIBUTE):
            raise FilesystemError(errno.EOPNOTSUPP)
        text = os.fsdecode(name.removeprefix(REMOUNT_ATTRIBUTE))
        try:
            change = parse_options([text]).change()
            if not administers and change.read_only not in (None, self._filesystem.read_only):
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
            return b""
        log.warning("remount with %s refused: %s", text, reason)
        return b"%d %s" % (code, reason.encode(errors="replace"))

    def _make(self, change: Change) -> None:
        """Make a change; raises UsageError, FormatError, FilesystemError."""
        was_read_only = self._filesystem.options.read_only
        turns_writable = was_read_only and change.read_only is False
        if turns_writable:
            self._image.make_writable()
            # A fault device between the two knows only what it saw at the beginning.
            self._filesystem.device.read_only = False
        try:
            self._remount(change)
        except Exception:
            if turns_writable:
                self._image.share()
            raise
        if self._filesystem.options.read_only and not was_read_only:
            self._image.share()
        if change.commit_seconds is not None:
            self._set_interval(change.commit_seconds)

    def _remount(self, change: Change) -> None:
        seconds = change.commit_seconds
        self._filesystem.remount(
            time_ns(),
            read_only=change.read_only,
            atime=change.atime,
            directory_atime=change.directory_atime,
            commit_interval_ns=None if seconds is None else int(seconds * _SECOND_NS),
            cleaner_policy=change.cleaner,
        )
