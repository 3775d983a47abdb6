"""Replies to the requests that list directories.

A reply has attributes, or is brief (``lfs.fuse.brief``) from one rewind to the next.  An
entry counts as looked up only where the kernel takes its attributes; nobody here counts
(``lfs.fuse.orphans``), so one that no longer fitted into a reply needs no care.

Held by ``tests/fuse/test_listing.py`` and ``tests/fuse/test_brief.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import pyfuse3
from pyfuse3 import EntryAttributes, ReaddirToken

from lfs.common.errors import FilesystemError
from lfs.filesystem import Filesystem, Inode
from lfs.fuse.brief import SAMPLE_INDEX, BriefEntry, Foresight
from lfs.fuse.handlers import refusal
from lfs.fuse.listing import DOT_DOT_COOKIE, OpenDirectory
from lfs.fuse.replies import bare_entry

_TYPE_SHIFT = 12


class Lister:
    """Fills replies."""

    def __init__(
        self,
        filesystem: Filesystem,
        entry: Callable[[Inode], EntryAttributes],
        foresight: Foresight,
    ) -> None:
        """List directories of ``filesystem``; ``entry`` tells the attributes of an inode."""
        self._filesystem = filesystem
        self._entry = entry
        self._foresight = foresight
        self._brief = BriefEntry.found()

    def reply(self, directory: OpenDirectory, start_id: int, token: ReaddirToken) -> None:
        """List an open directory from ``start_id`` on, as far as the reply has room.

        Raises what the core raises, and FilesystemError(EINVAL) for what is no place in it.
        An error waits for the next request where there is something to reply before it.
        """
        if not start_id:
            self._rewind(directory)
        brief = self._brief
        if brief is None or not directory.is_brief:
            self._reply_attributes(directory, start_id, token)
            return
        add, of, replied = pyfuse3.readdir_reply, brief.of, False
        try:
            for cookie, name, ino, file_type in directory.listing(self._filesystem, start_id):
                if not add(token, name, of(ino, file_type), cookie):
                    return
                replied = True
        except FilesystemError:
            if not replied:
                raise

    def _rewind(self, directory: OpenDirectory) -> None:
        directory.rewind()
        if self._brief is not None:
            directory.is_brief = self._foresight.is_brief(directory.pid, directory.ino)
        directory.told_cookie = 0

    def _reply_attributes(
        self, directory: OpenDirectory, start_id: int, token: ReaddirToken
    ) -> None:
        last = start_id
        is_told = directory.told_cookie == start_id
        directory.told_cookie = -1
        has_sample = (
            not start_id and self._brief is not None and self._foresight.needs_sample(directory.pid)
        )
        countdown = SAMPLE_INDEX if has_sample else -1
        try:
            for cookie, name, ino, file_type in directory.listing(self._filesystem, start_id):
                if countdown == 0 and self._brief is not None:
                    entry = self._brief.of(ino, file_type)
                elif cookie > DOT_DOT_COOKIE:
                    entry = self._attributes(directory.ino, ino, file_type)
                else:
                    entry = bare_entry(ino, file_type << _TYPE_SHIFT)
                if not pyfuse3.readdir_reply(token, name, entry, cookie):
                    if is_told:
                        directory.told_cookie = last
                    return
                if countdown == 0:
                    self._foresight.sampled(directory.pid, ino)
                countdown -= 1
                last = cookie
        except FilesystemError:
            if last == start_id:
                raise
            return
        if is_told:
            self._foresight.told(directory.ino)

    def _attributes(self, directory_ino: int, ino: int, file_type: int) -> EntryAttributes:
        try:
            return self._entry(self._filesystem.getattr(ino))
        except FilesystemError as error:
            # One damaged inode does not hide the names of the others.
            refusal(error, lambda: f"list directory {directory_ino}: inode {ino}")
            return bare_entry(ino, file_type << _TYPE_SHIFT)
