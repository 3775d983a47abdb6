"""Who may administer a mount, as far as a daemon can see who asks."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest

from lfs.fuse import callers

ALL = {"CapEff": "000001ffffffffff"}
ALL_BUT_ADMINISTERING = {"CapEff": "000001ffffdfffff"}


@pytest.mark.parametrize(
    ("daemon", "uid", "status", "sees_own_namespace", "may"),
    [
        (0, 0, ALL, True, True),
        (0, 1000, ALL, True, True),
        (0, 0, ALL_BUT_ADMINISTERING, True, False),
        # Of a namespace of its own, where anybody has all capabilities.
        (0, 0, ALL, False, False),
        (0, 0, {}, True, False),
        # An ordinary user's daemon can't look at root's namespaces.
        (1000, 0, ALL, None, True),
        (1000, 0, ALL_BUT_ADMINISTERING, None, False),
        (1000, 0, {}, None, False),
        (1000, 1001, ALL, None, False),
        (1000, 1000, ALL, False, False),
    ],
)
def test_who_may_administer(
    monkeypatch: pytest.MonkeyPatch,
    daemon: int,
    uid: int,
    status: dict[str, str],
    sees_own_namespace: bool | None,
    may: bool,
) -> None:
    def stat(path: Any) -> Any:
        if "self" in str(path):
            return SimpleNamespace(st_dev=4, st_ino=1)
        if sees_own_namespace is None:
            raise PermissionError
        return SimpleNamespace(st_dev=4, st_ino=1 if sees_own_namespace else 2)

    monkeypatch.setattr(callers, "_status", lambda thread: status)
    monkeypatch.setattr(os, "geteuid", lambda: daemon)
    monkeypatch.setattr(os, "stat", stat)
    # pyfuse3 alone makes requests' contexts.
    caller = cast("pyfuse3.RequestContext", SimpleNamespace(uid=uid, gid=0, pid=7))
    assert callers.may_administer(caller) is may
