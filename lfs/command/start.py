"""How every command begins and ends, whatever happens in between.

*Ctrl-C.*  SIGINT ends the process at once: by the signal, as shells expect it (status
130), or with an exit code that callers know better.  Nothing is printed, and nothing
can be in its way: Python's KeyboardInterrupt does not pass through every import and
every destructor.  Only a command that has begun something takes it so, inside
``Unwinding``, and takes back what it began.  Who ignores SIGINT when the command
starts, as a shell does for what it runs in the background, goes on ignoring it.

*Output.*  An error of standard output ends the command like an interrupt: it says so
in one line, or nothing when the reader of a pipe has gone, and then ends by SIGPIPE
(status 141) as other programs do.  So all output is flushed here, before the end,
and what fails then counts too.  Where standard error can't be written, there is
nobody left to tell.

*Text.*  Names are bytes.  Those that are no text where the command runs come from
arguments as surrogates and go out as the bytes they were; letters that the
terminal's encoding lacks go out as escapes.

*What is not installed.*  A library that can't be imported, at whatever moment, is one
line and a failure.

*Descriptors.*  0, 1 and 2 are open, so that no image gets one of those numbers.

The modules that a command needs may be large; this one is small and is there first.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import signal
import sys

from lfs.command.parts import import_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

    from _typeshed import ReadableBuffer

    Main = Callable[[], int]

_AS_GIVEN = "lfs-as-given"


class OutputError(BaseException):
    """Standard output can't be written: ``error`` says why.

    Not an Exception, so that no command takes it for an error of its own work.
    """

    def __init__(self, error: OSError) -> None:
        """Take what writing raised."""
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.error = error


class _Output(io.FileIO):
    """Standard output as a command writes to it."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error) from error


class _Messages(io.FileIO):
    """Standard error as a command writes to it: what can't be said is dropped."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class Unwinding:
    """While it is entered, SIGINT raises KeyboardInterrupt instead of ending the process.

    No module is to be imported meanwhile.
    """

    depth = 0

    def __enter__(self) -> None:
        """Begin what has to be taken back."""
        Unwinding.depth += 1

    def __exit__(self, *_: object) -> None:
        """Nothing is left to be taken back."""
        Unwinding.depth -= 1


class Uninterrupted:
    """While it is entered, SIGINT waits: for the few writes that make something whole."""

    def __enter__(self) -> None:
        """Let SIGINT wait."""
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_: object) -> None:
        """Take SIGINT again, and one that has come meanwhile at once."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class Importing:
    """While it is entered, nobody searches for garbage.

    What is imported stays, and to search all of it again and again takes a tenth of the
    time.  It is left alone afterwards too.
    """

    def __enter__(self) -> None:
        """Search no more."""
        gc.disable()

    def __exit__(self, *_: object) -> None:
        """Search what comes from now on."""
        gc.freeze()
        gc.enable()


class _Interrupts:
    """What SIGINT does."""

    def __init__(self, exit_code: int | None) -> None:
        """End the process with ``exit_code`` from now on; None ends it by the signal."""
        self._exit_code = exit_code
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if Unwinding.depth:
            raise KeyboardInterrupt
        self.end()

    def end(self) -> NoReturn:
        """End the process as an interrupt does."""
        if self._exit_code is not None:
            os._exit(self._exit_code)
        end_by(signal.SIGINT)


def run(
    name: str, load: Callable[[], Main], *, failed: int = 1, interrupted: int | None = None
) -> NoReturn:
    """Be the command ``name``: import what ``load`` imports, run what it returns, and end.

    ``failed`` is the exit code when the output or the command itself fails, and
    ``interrupted`` that after Ctrl-C, where it is not the signal.
    """
    interrupts = _Interrupts(interrupted)
    _open_standard_descriptors()
    _take_streams()
    try:
        code = _exit_code(load)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # Before any call, and so before another signal.
        Unwinding.depth = 0
        interrupts.end()
    except OutputError as error:
        if isinstance(error.error, BrokenPipeError):
            end_by(signal.SIGPIPE)
        print(f"{name}: {error}", file=sys.stderr)
        code = failed
    except ImportError as error:
        print(f"{name}: {import_failure(error)}", file=sys.stderr)
        code = failed
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = failed
    # At once: what Python does at its end could be interrupted, and has nothing to write.
    os._exit(code)


def _exit_code(load: Callable[[], Main]) -> int:
    try:
        with Importing():
            main = load()
        return main()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
            return 1
        return leaving.code or 0


def end_by(number: signal.Signals) -> NoReturn:
    """End this process by a signal, at once, so that its caller sees which."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _open_standard_descriptors() -> None:
    """Open something harmless for those of the descriptors 0, 1 and 2 that are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest number that is free, which is this one.
            os.set_inheritable(_open_nothing(), True)


def _open_nothing() -> int:
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:  # a bare container: this can neither be read nor written
        return os.open("/", os.O_RDONLY)


def _take_streams() -> None:
    """Put streams of our own in the place of standard output and standard error."""
    codecs.register_error(_AS_GIVEN, _encode_as_given)
    encodings = [stream.encoding if stream else "utf-8" for stream in (sys.stdout, sys.stderr)]
    sys.stdout = _stream(_Output(1, "wb", closefd=False), encodings[0], os.isatty(1))
    sys.stderr = _stream(_Messages(2, "wb", closefd=False), encodings[1], True)


def _stream(raw: io.FileIO, encoding: str, by_lines: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors=_AS_GIVEN, line_buffering=by_lines
    )


def _encode_as_given(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode one character: as the byte that it stands for, or else as an escape."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)
