"""``lfs requests``: how counts are told; what they are on a mount is in tests/mounted."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from lfs.cli.main import main
from lfs.control import door, questions

COUNTS = Counter(lookup=3, write=12, create=1)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the counts that stand for those of a mounted filesystem."""
    counts = Counter(COUNTS)

    def getxattr(path: str, name: bytes) -> bytes:
        assert (path, name) == ("/disk", door.attribute(questions.REQUESTS))
        return door.packed({"requests": counts})

    monkeypatch.setattr(os, "getxattr", getxattr)
    return counts


def test_counts_survive_the_way_through_the_attribute(kernel: Counter[str]) -> None:
    assert questions.read_counts("/disk") == COUNTS


def test_without_command_all_since_the_mount(
    kernel: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["requests", "/disk"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["12", "write"]
    assert lines[-1] == ["16", "total"]


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
@pytest.mark.parametrize("separator", [[], ["--"]])
def test_exit_code_is_the_command_s(
    kernel: Counter[str],
    capsys: pytest.CaptureFixture[str],
    script: str,
    code: int,
    separator: list[str],
) -> None:
    assert main(["requests", "/disk", *separator, "sh", "-c", script]) == code
    assert capsys.readouterr().out.split() == ["0", "total"]


def test_command_that_does_not_exist_is_one_line(
    kernel: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["requests", "/disk", "/nonsense"]) == 1
    assert capsys.readouterr().err == "lfs: /nonsense: No such file or directory\n"
