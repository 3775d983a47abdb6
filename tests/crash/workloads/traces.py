"""Recorded workloads as text: one request a line.

``CALL ARGUMENT...`` separated by tabs; bytes as Python writes them, ``~SEED:LENGTH``
for content.  Of contents only the length is kept: the tree is compared, and
which bytes a program wrote makes no difference.  Times are not kept either:
requests are ``STEP_NS`` apart, with a turn of background work now and then.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from tests.support.client import Data, Request

STEP_NS = 200_000_000
_REQUESTS_PER_TICK = 30


def read_trace(path: Path) -> list[Request]:
    """Return the requests in ``path``; lines that begin with # are remarks."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    requests = []
    for number, line in enumerate(lines, 1):
        requests.append(_request(line, STEP_NS * number))
        if number % _REQUESTS_PER_TICK == 0:
            requests.append(Request("tick", (2, True), STEP_NS * number))
    return [*requests, Request("sync", (), STEP_NS * (len(lines) + 1))]


def _request(line: str, now_ns: int) -> Request:
    call, *arguments = line.split("\t")
    return Request(call, tuple(map(_value, arguments)), now_ns)


def _value(text: str) -> object:
    if text[0] == "~":
        seed, _, length = text[1:].partition(":")
        return Data(int(seed), int(length))
    return ast.literal_eval(text)


def write_trace(path: Path, remark: str, calls: Iterable[tuple[object, ...]]) -> None:
    """Write ``calls``, each a name and arguments, under a line that says what they are."""
    lines = [f"# {remark}", *("\t".join(map(_text, call)) for call in calls)]
    path.write_text("\n".join(lines) + "\n")


def _text(value: object) -> str:
    if isinstance(value, Data):
        return f"~{value.seed}:{value.length}"
    return value if isinstance(value, str) else repr(value)
