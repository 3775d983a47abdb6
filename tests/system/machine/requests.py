"""The requests that the state machine makes: every call, on whatever there is at some path."""

from __future__ import annotations

import stat

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support import acls
from tests.support.client import Data
from tests.support.model import XATTR_CREATE, XATTR_REPLACE
from tests.support.names import EXCHANGE, NO_REPLACE, WHITEOUT
from tests.system.machine.drawn import (
    access_lists,
    access_values,
    data,
    handles,
    lengths,
    names,
    offsets,
    permissions,
    picks,
    umasks,
    values,
    xattr_names,
)
from tests.system.machine.durable import DurableTrees
from tests.system.machine.trees import CONTENT_BYTES_MAX, has_room


class Requests(DurableTrees):
    """Rules that change both trees, or look at them."""

    # ---------------------------------------------------------------------- names

    @rule(pick=picks, name=names, mode=permissions, umask=umasks)
    def create(self, pick: int, name: bytes, mode: int, umask: int) -> None:
        self._request("create", self._place(pick, name), stat.S_IFREG | mode, 0, umask)

    @rule(pick=picks, name=names, kind=st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]))
    def mknod(self, pick: int, name: bytes, kind: int) -> None:
        rdev = 0x0105 if kind == stat.S_IFCHR else 0
        self._request("create", self._place(pick, name), kind | 0o600, rdev)

    @rule(pick=picks, name=names, mode=st.sampled_from([0o755, 0o700, 0o2775]), umask=umasks)
    def mkdir(self, pick: int, name: bytes, mode: int, umask: int) -> None:
        self._request("mkdir", self._place(pick, name), mode, umask)

    @rule(pick=picks, name=names, length=st.sampled_from([1, 100, 500, 1500, 4095, 4096]))
    def symlink(self, pick: int, name: bytes, length: int) -> None:
        self._request("symlink", self._place(pick, name), b"t" * length)

    @rule(pick=picks, new_pick=picks, name=names)
    def link(self, pick: int, new_pick: int, name: bytes) -> None:
        self._request("link", self._any(pick), self._place(new_pick, name))

    @rule(pick=picks)
    def unlink(self, pick: int) -> None:
        self._request("unlink", self._any(pick))

    @rule(pick=picks)
    def rmdir(self, pick: int) -> None:
        self._request("rmdir", self._any(pick))

    @rule(pick=picks, inside=st.booleans())
    def remove_directory(self, pick: int, inside: bool) -> None:
        path = self._directory(pick)
        if path:
            self._request("make_in_removed" if inside else "rmdir", path)

    @rule(
        pick=picks,
        new_pick=picks,
        name=names,
        flags=st.sampled_from([0, 0, NO_REPLACE, WHITEOUT, 3]),
    )
    def rename(self, pick: int, new_pick: int, name: bytes, flags: int) -> None:
        self._request("rename", self._any(pick), self._place(new_pick, name), flags)

    @rule(pick=picks, new_pick=picks, flags=st.sampled_from([0, 0, EXCHANGE, WHITEOUT]))
    def rename_over(self, pick: int, new_pick: int, flags: int) -> None:
        self._request("rename", self._any(pick), self._any(new_pick), flags)

    @rule(pick=picks)
    def list_names(self, pick: int) -> None:
        self._request("names", self._directory(pick))

    @rule(pick=picks)
    def too_long(self, pick: int) -> None:
        path = self._directory(pick) + b"/" + b"n" * 256
        self._request("create", path, stat.S_IFREG | 0o644, 0)
        self._request("stat", path)
        self._request("rename", self._any(pick), path, 0)

    # ------------------------------------------------------------------- contents

    @precondition(has_room)
    @rule(pick=picks, offset=offsets, written=data)
    def write(self, pick: int, offset: int, written: Data) -> None:
        self._request("write", self._file(pick), offset, written)

    @precondition(has_room)
    @rule(pick=picks, written=data, count=st.integers(2, 12), stride=st.integers(1, 40_000))
    def write_scattered(self, pick: int, written: Data, count: int, stride: int) -> None:
        """Overwrite many small parts at odd offsets."""
        path = self._file(pick)
        for index in range(count):
            piece = Data(written.seed + index, min(written.length, 5000))
            self._request("write", path, index * stride, piece)

    @rule(pick=picks, offset=offsets, size=lengths)
    def read(self, pick: int, offset: int, size: int) -> None:
        self._request("read", self._file(pick), offset, size)

    @precondition(has_room)
    @rule(pick=picks, size=offsets)
    def truncate(self, pick: int, size: int) -> None:
        self._request("truncate", self._file(pick), size)

    @precondition(has_room)
    @rule(
        pick=picks,
        count=st.integers(4, 9),
        kept=st.integers(0, 3),
        grown=st.sampled_from([0, 0, 1, 100]),
        then=st.sampled_from(["write", "truncate", "read", "cut", "unlink"]),
        at=st.integers(2, 9),
        steps=st.integers(0, 2),
    )
    def cut_in_steps(
        self, pick: int, count: int, kept: int, grown: int, then: str, at: int, steps: int
    ) -> None:
        """Cut a file whose windows are on disk, and meet what was cut off."""
        path = self._file(pick)
        window_bytes = self.filesystem.statfs().block_bytes ** 2 // 32
        count = min(count, CONTENT_BYTES_MAX // 4 // window_bytes)
        for index in range(count):
            self._request("write", path, index * window_bytes, Data(index, 700))
        self.begin_commit()
        self._request("truncate", path, kept * window_bytes // 3)
        self._request("tick", steps, True)
        if grown:
            self._request("truncate", path, kept * window_bytes // 3 + grown * 1000)
        offset = at % count * window_bytes + 300
        if then == "write":
            self._request("write", path, offset, Data(at, 900))
        elif then == "truncate":
            self._request("truncate", path, offset)
        elif then == "read":
            self._request("truncate", path, count * window_bytes)
            self._request("read", path, 0, count * window_bytes)
        elif then == "cut":
            self._request("write", path, offset, Data(at, 900))
            self.begin_commit()
            self._request("truncate", path, offset // 2)
        else:
            self._request("unlink", path)

    @rule(pick=picks)
    def truncate_what_has_no_size(self, pick: int) -> None:
        paths = self._paths(stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
        self._request("truncate", paths[pick % len(paths)], 0)

    @rule(handle=handles, pick=picks)
    def open(self, handle: int, pick: int) -> None:
        self._request("open", handle, self._file(pick))

    @rule(handle=handles, pick=picks)
    def open_and_unlink(self, handle: int, pick: int) -> None:
        path = self._file(pick)
        self._request("open", handle, path)
        self._request("unlink", path)

    @rule(handle=handles)
    def close(self, handle: int) -> None:
        self._request("close", handle)

    @precondition(has_room)
    @rule(handle=handles, offset=offsets, written=data)
    def write_handle(self, handle: int, offset: int, written: Data) -> None:
        self._request("write_handle", handle, offset, written)

    @precondition(has_room)
    @rule(handle=handles, size=offsets)
    def truncate_handle(self, handle: int, size: int) -> None:
        self._request("truncate_handle", handle, size)

    @rule(handle=handles, pick=picks, name=names)
    def link_handle(self, handle: int, pick: int, name: bytes) -> None:
        self._request("link_handle", handle, self._place(pick, name))

    @rule(handle=handles)
    def stat_handle(self, handle: int) -> None:
        self._request("stat_handle", handle)

    # ----------------------------------------------------------------- attributes

    @rule(pick=picks, mode=permissions)
    def chmod(self, pick: int, mode: int) -> None:
        self._request("chmod", self._any(pick), mode)

    @rule(pick=picks, uid=st.sampled_from([0, 1000, 2**32 - 2]), gid=st.sampled_from([0, 7]))
    def chown(self, pick: int, uid: int, gid: int) -> None:
        self._request("chown", self._any(pick), uid, gid)

    @rule(pick=picks, mtime_ns=st.sampled_from([-1, 0, 1, 2**62]))
    def utime(self, pick: int, mtime_ns: int) -> None:
        self._request("utime", self._any(pick), mtime_ns)

    @precondition(has_room)
    @rule(
        pick=picks,
        name=xattr_names,
        value=values,
        flags=st.sampled_from([0, 0, XATTR_CREATE, XATTR_REPLACE]),
    )
    def setxattr(self, pick: int, name: bytes, value: Data, flags: int) -> None:
        path = self._any(pick % 4)
        self._request("setxattr", path, name, value, flags)
        self._request("getxattr", path, name)

    @rule(pick=picks, name=xattr_names)
    def removexattr(self, pick: int, name: bytes) -> None:
        self._request("removexattr", self._any(pick % 4), name)

    @rule(
        pick=picks,
        name=st.sampled_from([acls.ACCESS, acls.DEFAULT]),
        value=access_values,
        flags=st.sampled_from([0, 0, 0, XATTR_CREATE, XATTR_REPLACE]),
    )
    def set_access_list(self, pick: int, name: bytes, value: bytes, flags: int) -> None:
        self._request("setxattr", self._any(pick), name, value, flags)

    @rule(pick=picks, value=access_values, mode=permissions)
    def set_access_list_and_mode(self, pick: int, value: bytes, mode: int) -> None:
        path = self._any(pick)
        self._request("setxattr", path, acls.ACCESS, value, 0)
        self._request("chmod", path, mode)
        self._request("stat", path)

    @rule(pick=picks, value=access_lists.map(acls.value_of), mode=permissions, umask=umasks)
    def inherit(self, pick: int, value: bytes, mode: int, umask: int) -> None:
        """Make files and directories where a default list rules."""
        path = self._place(pick, b"").rstrip(b"/")
        self._request("setxattr", path, acls.DEFAULT, value, 0)
        self._request("mkdir", path + b"/a", mode, umask)
        self._request("create", path + b"/x", stat.S_IFREG | mode, 0, umask)

    @rule(pick=picks, name=st.sampled_from([acls.ACCESS, acls.DEFAULT]))
    def remove_access_list(self, pick: int, name: bytes) -> None:
        self._request("getxattr", self._any(pick), name)
        self._request("removexattr", self._any(pick), name)

    @rule(pick=picks)
    def look(self, pick: int) -> None:
        self._request("stat", self._any(pick))
