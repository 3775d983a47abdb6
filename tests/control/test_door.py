"""The door's words: names of questions, answers that fit, and what who asks is told."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from lfs.common.errors import FilesystemError, UsageError
from lfs.control import door, questions
from lfs.control.extents import extents_answer, read_extents
from lfs.control.log import log_answer


@pytest.mark.parametrize(
    ("question", "argument", "name"),
    [
        ("state", "", b"system.lfs.state"),
        ("extents", "17", b"system.lfs.extents.17"),
        ("remount", "commit=0.5,ro", b"system.lfs.remount.commit=0.5,ro"),
        ("remount", "x-\udcff", b"system.lfs.remount.x-\xff"),
    ],
)
def test_question_is_the_name_of_an_attribute(question: str, argument: str, name: bytes) -> None:
    assert door.attribute(question, argument) == name
    assert door.parsed(name) == (question, argument)


def test_answer_of_any_text_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = questions.target_answer("/a\udcff\n\0")
    monkeypatch.setattr(os, "getxattr", lambda path, name: door.packed(answer))
    assert questions.mounted_target("/disk") == "/a\udcff\n\0"


def test_answer_that_does_not_fit_is_refused() -> None:
    room = door.ANSWER_BYTES_MAX - len('{"a":""}')
    assert len(door.packed({"a": "x" * room})) == door.ANSWER_BYTES_MAX
    with pytest.raises(FilesystemError) as caught:
        door.packed({"a": "x" * (room + 1)})
    assert caught.value.errno == errno.E2BIG


def test_refused_wish_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = door.packed(door.refusal(errno.EBUSY, "a file is open"))
    monkeypatch.setattr(os, "getxattr", lambda path, name: answer)
    with pytest.raises(FilesystemError, match="a file is open") as caught:
        door.ask("/disk", "remount", "ro")
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EOPNOTSUPP, "/d is not on a mounted lfs, or so"),
        (errno.ENODATA, "/d is not on a mounted lfs, or so"),
        (errno.EPERM, "/d: only root and the user who mounted it may ask this"),
        (errno.ENOTCONN, "/d: its daemon has died: mount again"),
    ],
)
def test_no_answer_is_a_line_for_the_user(code: int, text: str) -> None:
    with pytest.raises(UsageError) as caught, door.asking("/d", ", or so"):
        raise OSError(code, "")
    assert str(caught.value) == text


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), door.asking("none"):
        door.ask(str(tmp_path / "none"), "state")


def test_lines_told_are_the_last_that_fit() -> None:
    lines = [f"{number}" * 20_000 for number in range(5)]
    answer = log_answer(lines)
    assert answer == {"lines": lines[2:]}
    door.packed(answer)
    # What takes more room as JSON counts for it.
    door.packed(log_answer(['"' * 20_000] * 5))


def test_extents_told_fit_an_answer() -> None:
    many = [(2**40 + number, 2**41, 2**20) for number in range(10_000)]
    answer = extents_answer(many)
    assert answer["extents"] == many[: len(answer["extents"])]
    assert door.ANSWER_BYTES_MAX - 64 < len(door.packed(answer)) <= door.ANSWER_BYTES_MAX


def test_extents_are_asked_for_until_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(number, 2 * number + 7, 1) for number in range(20_000)]

    def getxattr(path: str, name: bytes) -> bytes:
        question, start = door.parsed(name)
        assert question == questions.EXTENTS
        return door.packed(extents_answer(many[int(start) :]))

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert read_extents("f") == many


def test_extent_that_is_told_in_parts_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"0": [(2, 100, 3)], "5": [(5, 103, 4), (9, 500, 1)], "10": []}

    def getxattr(path: str, name: bytes) -> bytes:
        return json.dumps({"extents": parts[door.parsed(name)[1]]}).encode()

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert read_extents("f") == [(2, 100, 7), (9, 500, 1)]
