"""A scripted workload with every kind of request, the same for the same seed.

``workload`` starts with a fixed script, so that each kind occurs whatever the
seed, and goes on at random.  It tries its requests on a model first and keeps
only those that succeed and fit the device: every request of the list counts.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Callable, Iterator

from tests.support.client import Client, Data, Refused, Request
from tests.support.model import Model
from tests.support.names import EXCHANGE
from tests.support.volumes import ROOT_MODE

STEP_NS = 50_000_000
REGULAR = stat.S_IFREG | 0o644
Call = tuple[object, ...]

_FILES = [b"/" + name for name in (b"one", b"two", b"three", b"four", b"five")]
_DIRECTORIES = [b"/d", b"/e", b"/d/sub", b"/e/sub"]


def workload(seed: int, request_count: int, content_bytes_max: int) -> list[Request]:
    """Return ``request_count`` requests that hold at most ``content_bytes_max`` at any time."""
    model = Model(0, ROOT_MODE)
    client = Client(model)
    requests: list[Request] = []
    for call, *arguments in _calls(seed):
        request = Request(str(call), tuple(arguments), STEP_NS * (len(requests) + 1))
        grows = request.call in ("write", "write_handle", "setxattr")
        if grows and sum(len(node.data) for node in model.nodes.values()) > content_bytes_max:
            continue
        if isinstance(client.run(request), Refused):
            continue
        requests.append(request)
        if len(requests) == request_count:
            return requests
    raise AssertionError("the random part never ends")


def _calls(seed: int) -> Iterator[Call]:
    yield from _script()
    choose = random.Random(seed)
    while True:
        yield from choose.choices(_KINDS, _WEIGHTS)[0](choose)


def _script() -> Iterator[Call]:
    """Yield one of each kind."""
    yield from (("mkdir", path, 0o755) for path in _DIRECTORIES)
    for path, length in zip(_FILES, (100, 3000, 70_000, 2_500_000, 0), strict=True):
        yield from (("create", path, REGULAR, 0), ("write", path, 0, Data(1, length)))
    yield ("sync",)
    yield ("write", b"/five", 1_000_001, Data(2, 5000))
    yield ("write", b"/four", 12_345, Data(3, 300_001))
    yield ("sync",)
    yield ("write", b"/three", 70_000, Data(4, 4096))
    yield ("sync",)
    yield ("truncate", b"/four", 999_999)
    yield ("truncate", b"/one", 2000)
    yield ("open", 0, b"/two")
    yield ("unlink", b"/two")
    yield ("write_handle", 0, 2000, Data(5, 9000))
    yield ("sync",)
    yield ("close", 0)
    yield ("rename", b"/three", b"/one", 0)
    yield ("link", b"/one", b"/d/link")
    yield ("symlink", b"/e/short", b"../one")
    yield ("symlink", b"/e/long", b"t" * 3000)
    yield ("setxattr", b"/one", b"user.small", Data(6, 20), 0)
    yield ("setxattr", b"/d", b"user.large", Data(7, 20_000), 0)
    yield ("sync",)
    yield ("removexattr", b"/d", b"user.large")
    yield ("rename", b"/d/sub", b"/e/sub", 0)
    yield ("rename", b"/d", b"/e/sub", EXCHANGE)
    yield ("create", b"/e/fifo", stat.S_IFIFO | 0o600, 0)
    yield ("create", b"/e/device", stat.S_IFCHR | 0o600, 0x0103)
    yield ("checkpoint",)
    yield ("chmod", b"/one", 0o711)
    yield ("chown", b"/one", 7, 8)
    yield ("utime", b"/one", 1)
    yield ("unlink", b"/four")
    yield ("tick", 50, True)


def _path(choose: random.Random) -> bytes:
    directory = choose.choice([b"", *_DIRECTORIES])
    return directory + b"/" + choose.choice([b"one", b"two", b"three", b"four", b"five", b"sub"])


def _make_file(choose: random.Random) -> Iterator[Call]:
    path = _path(choose)
    yield ("create", path, REGULAR, 0)
    length = choose.choice([50, 200, 900, 5000, 30_000, 120_000, 600_000])
    yield ("write", path, 0, Data(choose.randrange(1000), choose.randint(1, length)))


def _replace_file(choose: random.Random) -> Iterator[Call]:
    """Create, write, sync and rename over the old file, as careful programs do."""
    path = _path(choose)
    yield ("create", b"/new", REGULAR, 0)
    yield ("write", b"/new", 0, Data(choose.randrange(1000), choose.randint(1, 20_000)))
    yield ("sync",)
    yield ("rename", b"/new", path, 0)
    yield ("unlink", b"/new")


def _overwrite(choose: random.Random) -> Iterator[Call]:
    path = _path(choose)
    for _ in range(choose.randint(1, 3)):
        data = Data(choose.randrange(1000), choose.randint(1, choose.choice([100, 5000, 200_000])))
        yield ("write", path, choose.randrange(300_000), data)


def _remove_open(choose: random.Random) -> Iterator[Call]:
    path = _path(choose)
    yield ("open", 1, path)
    yield ("unlink", path)
    yield ("write_handle", 1, choose.randrange(9000), Data(9, choose.randint(1, 50_000)))


def _one(*parts: object) -> Callable[[random.Random], Iterator[Call]]:
    """Return a kind that makes one call; a part that is a function draws its argument."""

    def calls(choose: random.Random) -> Iterator[Call]:
        yield tuple(part(choose) if callable(part) else part for part in parts)

    return calls


def _xattr_value(choose: random.Random) -> Data:
    return Data(choose.randrange(1000), choose.choice([0, 10, 700, 9000]))


_WEIGHTED: list[tuple[int, Callable[[random.Random], Iterator[Call]]]] = [
    (6, _make_file),
    (3, _replace_file),
    (6, _overwrite),
    (2, _remove_open),
    (1, _one("close", 1)),
    (6, _one("sync")),
    (2, _one("checkpoint")),
    (3, _one("tick", lambda choose: choose.randint(1, 40), True)),
    (3, _one("unlink", _path)),
    (3, _one("truncate", _path, lambda choose: choose.randrange(400_000))),
    (2, _one("mkdir", _path, 0o750)),
    (2, _one("rmdir", _path)),
    (4, _one("rename", _path, _path, lambda choose: choose.choice([0, 0, 1, 2]))),
    (2, _one("link", _path, _path)),
    (1, _one("symlink", _path, lambda choose: b"t" * choose.randint(1, 2000))),
    (2, _one("setxattr", _path, b"user.name", _xattr_value, 0)),
    (1, _one("removexattr", _path, b"user.name")),
    (1, _one("chmod", _path, lambda choose: choose.randrange(0o1000))),
]
_WEIGHTS = [weight for weight, _ in _WEIGHTED]
_KINDS = [kind for _, kind in _WEIGHTED]
