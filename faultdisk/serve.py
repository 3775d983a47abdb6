"""The command ``faultdisk serve``: puts a door before a fault device, until it is ended.

The process that serves opens everything itself, after the fork if it goes to
the background: locks, threads and sockets are its own from the beginning.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from faultdisk.commands import CONTROL_SUFFIX, Run, add_seed
from faultdisk.daemon.plans import read_plan
from faultdisk.daemon.served import Served, Service, serving
from faultdisk.nbd.server import NbdServer, listen, tcp_address
from lfs.command.start import Unwinding
from lfs.common.errors import UsageError
from lfs.kernel.daemon import run_in_background
from lfs.kernel.logs import configure_logging, finish_logging
from lfs.kernel.mountpoint import MountError, prepare_mount_point

SUBTYPE = "faultdisk"
_DISK_NAME = "disk"

log = logging.getLogger(__name__)

Ready = Callable[[], None]


class Ending:
    """Which signals have asked a server to end."""

    def __init__(self) -> None:
        """None has."""
        self.numbers: list[int] = []
        self.asked = threading.Event()

    def ask(self, number: int, frame: object = None) -> None:
        """Note a signal."""
        self.numbers.append(number)
        self.asked.set()


Open = Callable[[Served, Ready, Ending], None]
"""Serves a device; calls its second argument once it does, returns when it is to end."""
Load = Callable[[], Open]
"""Imports what a door needs, in the process that serves and before anything is begun there."""


def serve(parser: argparse.ArgumentParser) -> Run:
    """Serve a disk."""
    parser.usage = (
        "faultdisk serve [OPTIONS] TARGET DIR [PLAN]\n"
        "       faultdisk serve [OPTIONS] --nbd SOCKET TARGET [PLAN]"
    )
    option = parser.add_argument
    option("target", metavar="TARGET", help="image file or block device")
    option(
        "words",
        metavar="DIR PLAN",
        nargs="*",
        default=[],
        help="an empty directory, in which the file disk appears; then the fault plan "
        "(FAULTS.md), or @FILE that holds one; without one it is a good disk",
    )
    option("--nbd", metavar="SOCKET", help="speak NBD on this Unix socket, or on HOST:PORT")
    option("--log", metavar="FILE", help="write a log of all changes, for replay")
    option("--report", metavar="FILE", help="one line for each fault (default: stderr or syslog)")
    option(
        "--control",
        metavar="SOCKET",
        help=f"control socket (default: DIR{CONTROL_SUFFIX} or SOCKET{CONTROL_SUFFIX})",
    )
    add_seed(parser)
    option("--read-only", dest="read_only", action="store_true", help="refuse all changes")
    option("-f", dest="foreground", action="store_true", help="stay in the foreground")
    return _serve


def _serve(options: argparse.Namespace) -> None:
    if options.nbd is not None:
        place, words, load = _nbd_door(options)
    else:
        place, words, load = _fuse_door(options)
    service = Service(
        target=os.path.abspath(options.target),
        plan=read_plan(words, options.seed),
        control=os.path.abspath(options.control or place + CONTROL_SUFFIX),
        log=_absolute(options.log),
        report=_absolute(options.report),
        read_only=options.read_only,
    )

    def start(ready: Ready) -> None:
        configure_logging(options.foreground, False, "faultdisk", service.target, every_line=True)
        ending = Ending()
        try:
            open_door = load()
            with Unwinding():
                _run(service, open_door, ready, ending)
        except UsageError as error:
            raise MountError(str(error), 1) from error
        finally:
            finish_logging()
        if options.foreground and signal.SIGINT in ending.numbers:
            raise KeyboardInterrupt

    if options.foreground:
        start(lambda: None)
    else:
        run_in_background(start)


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _run(service: Service, open_door: Open, ready: Ready, ending: Ending) -> None:
    def stop() -> None:
        # Both doors leave by a signal, whoever sends it.
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.ExitStack() as last, serving(service, log.warning, stop) as served:
        # To the very end: a second signal must not keep the last writes from the medium.
        last.enter_context(_signals_taken(ending))

        def announce() -> None:
            print(f"control: {served.control_path}")
            print(f"plan: {service.plan.text}", flush=True)
            ready()

        open_door(served, announce, ending)


# ------------------------------------------------------------------------- the doors


def _fuse_door(options: argparse.Namespace) -> tuple[str, list[str], Load]:
    if not options.words:
        raise UsageError("where? Give a directory after TARGET, or --nbd SOCKET")
    directory, *words = options.words
    mount_point = prepare_mount_point(directory, f"fuse.{SUBTYPE}")
    source = os.path.abspath(options.target)

    def load() -> Open:
        # pyfuse3 and trio start threads, which do not survive a fork.
        from faultdisk.fuse.disk import DiskSession

        def open_door(served: Served, ready: Ready, ending: Ending) -> None:
            def announce() -> None:
                print(f"disk: {os.path.join(mount_point, _DISK_NAME)}")
                ready()
                if ending.asked.is_set():  # before the door itself took signals
                    os.kill(os.getpid(), signal.SIGTERM)

            session = DiskSession(served.device, mount_point, source, SUBTYPE)
            ended_by = session.serve(announce, served.release)
            if ended_by is not None:
                ending.ask(ended_by)

        return open_door

    return os.path.abspath(directory), words, load


def _nbd_door(options: argparse.Namespace) -> tuple[str, list[str], Load]:
    tcp = tcp_address(options.nbd)
    if tcp is not None and options.control is None:
        raise UsageError("with a port, say where the control socket is to be: --control SOCKET")
    address = options.nbd if tcp else os.path.abspath(options.nbd)
    uri = f"nbd://{address}" if tcp else f"nbd+unix:///?socket={address}"
    description = f"{os.path.basename(options.target)} through faultdisk"

    def open_door(served: Served, ready: Ready, ending: Ending) -> None:
        server = NbdServer(listen(address), served.device, description)
        server.start()
        try:
            print(f"disk: {uri}")
            ready()
            ending.asked.wait()
        finally:
            served.release()
            server.close()

    return address, options.words, lambda: open_door


@contextlib.contextmanager
def _signals_taken(ending: Ending) -> Iterator[None]:
    """Let signals ask a server to end, and afterwards do what they did before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(number, ending.ask) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
