"""The control socket: what may be asked of a fault device while it runs.

A conversation is a row of lines, each a JSON object.  A request names its
``command`` and what that needs; the answer has ``ok``, and either the result or
``error``, one line for a person.  Whatever a client sends, the server goes on.

| command | takes | answers |
|---|---|---|
| set | plan | plan |
| show | | all of ``FaultDevice.report`` |
| mark | text | powered |
| cut | survival (mode, numbers, atomic_bytes), or nothing: as the plan says | report, and more |
| restart, pause, resume | | |
| stats | | all of ``FaultDevice.report`` |
| faults | | faults: a list, the newest last |
| stop | | and the end of the connection once everything is closed |

Held by ``tests/faultdisk/test_control.py``.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from io import BufferedRWPair
from types import TracebackType
from typing import Any

from faultdisk.daemon.conversations import Conversations
from faultdisk.daemon.sockets import UnixListener, connect
from lfs.common.errors import FilesystemError, UsageError
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.power import SURVIVAL_MODES, Survival
from lfs.device.fault.plan.rule import SECTOR_BYTES

LINE_BYTES_MAX = 1 << 20

Answer = dict[str, Any]


class ControlServer:
    """Controls ``device`` through a Unix socket, in threads of its own."""

    def __init__(
        self, path: str, device: FaultDevice, stop: Callable[[], None] | None = None
    ) -> None:
        """Listen at ``path``; ``stop`` begins the end of whatever serves the device.

        Raises UsageError when the path is taken by a living server or by
        something that is no socket.  Nothing is answered before ``start``.
        """
        self.device = device
        self._stop = stop
        self._listener = UnixListener(path)
        self.path = self._listener.path
        self._conversations = Conversations(self._listener, self._converse, "control")
        self._commands: dict[str, Callable[[Answer], Answer]] = {
            "set": self._set,
            "show": self._show,
            "mark": self._mark,
            "cut": self._cut,
            "restart": self._do(device.restart),
            "pause": self._do(device.pause),
            "resume": self._do(device.resume),
            "stats": self._show,
            "faults": self._faults,
            "stop": self._end,
        }

    def start(self) -> None:
        """Begin to answer."""
        self._conversations.start()

    def close(self) -> None:
        """Stop answering, end all connections, and remove the socket; twice is allowed.

        What is being answered is answered still, also the request that led here.
        """
        self._conversations.close()

    def __enter__(self) -> ControlServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------- connections

    def _converse(self, connection: socket.socket) -> None:
        """Answer one client until it goes."""
        with contextlib.suppress(OSError), connection.makefile("rwb") as stream:
            while line := stream.readline(LINE_BYTES_MAX):
                write_line(stream, self._answer(line))
                if not line.endswith(b"\n"):
                    break

    def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise UsageError("a request is a JSON object")
            command = self._commands.get(str(request.get("command")))
            if command is None:
                raise UsageError(f"unknown command {request.get('command')!r}")
            return {"ok": True, **command(request)}
        except (ValueError, RecursionError):
            return {"ok": False, "error": "a request is one line of JSON"}
        except UsageError as error:
            return {"ok": False, "error": str(error)}
        except FilesystemError as error:
            return {"ok": False, "error": f"{error.strerror}"}
        except Exception as error:
            # A bug of this program is its client's to hear of, and no reason to stop serving.
            return {"ok": False, "error": f"unexpected {error!r}"}

    # ---------------------------------------------------------------------- commands

    @staticmethod
    def _do(act: Callable[[], None]) -> Callable[[Answer], Answer]:
        def command(_: Answer) -> Answer:
            act()
            return {}

        return command

    def _set(self, request: Answer) -> Answer:
        plan = parse_plan(_text(request, "plan"))
        self.device.set_plan(plan)
        return {"plan": plan.text}

    def _show(self, _: Answer) -> Answer:
        return self.device.report()

    def _mark(self, request: Answer) -> Answer:
        self.device.mark(_text(request, "text"))
        return {"powered": self.device.powered}

    def _cut(self, request: Answer) -> Answer:
        if not self.device.powered:
            raise UsageError("the power is off already")
        report = self.device.cut(_survival(request.get("survival")))
        return {
            "report": str(report),
            "survivors": list(report.survivors),
            "cached_count": report.cached_count,
        }

    def _faults(self, _: Answer) -> Answer:
        return {"faults": [{**fault._asdict(), "text": str(fault)} for fault in self._newest()]}

    def _newest(self) -> list[Any]:
        # One call into C: no other thread adds a fault meanwhile.
        return list(self.device.faults)

    def _end(self, _: Answer) -> Answer:
        if self._stop is None:
            raise UsageError("this cannot be stopped from here: unmount it")
        self._stop()
        return {}


def _text(request: Answer, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{request['command']} needs {key}, a text")
    return value


def _survival(value: object) -> Survival | None:
    """Return what a request to cut says of survival; None when it says nothing."""
    if value is None:
        return None
    if isinstance(value, dict):
        mode = value.get("mode", "any")
        numbers = value.get("numbers", [])
        atomic_bytes = value.get("atomic_bytes", SECTOR_BYTES)
        if (
            mode in (*SURVIVAL_MODES, "writes")
            and isinstance(numbers, list)
            and all(isinstance(number, int) and number > 0 for number in numbers)
            and isinstance(atomic_bytes, int)
            and atomic_bytes > 0
            and atomic_bytes % SECTOR_BYTES == 0
        ):
            return Survival(mode, tuple(numbers), atomic_bytes)
    raise UsageError(f"{value!r} does not say what survives")


def write_line(stream: BufferedRWPair, message: Answer) -> None:
    """Send one message; raises OSError."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def ask(path: str, command: str, **arguments: object) -> Answer:
    """Return the answer of the server at ``path``; raises UsageError with its error.

    After ``stop`` it returns when the server has closed everything.
    """
    try:
        with connect(path) as connection, connection.makefile("rwb") as stream:
            write_line(stream, {"command": command, **arguments})
            line = stream.readline()
            answer = json.loads(line or b"{}")
            if command == "stop" and answer.get("ok"):
                stream.read()
    except OSError as error:
        raise UsageError(f"nobody answers at {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a control socket") from error
    if not line:
        raise UsageError(f"{path}: the server ended before it answered")
    if not answer.get("ok"):
        raise UsageError(str(answer.get("error")))
    return dict(answer)
