"""The connection to the kernel: how one begins, and what libfuse says when it cannot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyfuse3

from lfs.fuse.mountpoint import MountError


def connect(operations: pyfuse3.Operations, mount_point: str, options: set[str]) -> None:
    """Mount; requests wait until ``pyfuse3.main`` serves them.  Raises MountError."""
    with _captured_stderr() as said:
        try:
            pyfuse3.init(operations, mount_point, options)
        except RuntimeError as error:
            reason = said() or str(error)
            raise MountError(f"cannot mount on {mount_point}: {reason}") from error


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what libfuse prints from the terminal; yields a function that returns its last line."""
    with tempfile.TemporaryFile() as kept:

        def said() -> str:
            kept.seek(0)
            lines = kept.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")

        saved = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
