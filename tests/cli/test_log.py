"""``lfs log``: how lines are told; what they are on a mount is in tests/control."""

from __future__ import annotations

import os

import pytest

from lfs.cli.main import main
from lfs.control import door
from lfs.control.log import log_answer


def test_line_stays_one_line_whatever_is_in_its_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["/a\nb.img: mounted", "/c\x1b[2J: \ttabs stay", "plain"]
    monkeypatch.setattr(os, "getxattr", lambda path, name: door.packed(log_answer(lines)))
    assert main(["log", "/disk"]) == 0
    shown = ["/a\\x0ab.img: mounted", "/c\\x1b[2J: \ttabs stay", "plain"]
    assert capsys.readouterr().out.splitlines() == shown
