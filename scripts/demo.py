"""The demonstration behind ``demo``: copy, crash, mount again, compare, check.

It makes an image in a temporary directory, copies the Python standard library
onto it and syncs, starts a second copy and kills the daemon in the middle of
it, mounts again, and compares byte by byte all that had been synced.  Where
nothing can be mounted, the same goes through the library, and the crash is to
drop the filesystem without unmounting it.

Exit status: 0 when all was there and the image is clean, 1 when not.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.demo_files import TOOLS, DemoError, Files, LibraryFiles, MountedFiles, Source

FILE_COUNT_MAX = 6000
IMAGE_BYTES = 1 << 30
SYNC_EVERY_FILES = 500
MIB = 1 << 20


# ----------------------------------------------------------------------------- output


def say(topic: str, text: str) -> None:
    """Print one line of the story, over the progress line if there is one."""
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(f"{clear}  {topic:<10} {text}", flush=True)


def show_progress(topic: str, done: int, total: int) -> None:
    """Draw a bar on the current line of a terminal; elsewhere stay silent."""
    if sys.stdout.isatty() and (done % 20 == 0 or done == total):
        filled = 30 * done // total
        bar = "#" * filled + "." * (30 - filled)
        print(f"\r  {topic:<10} {bar} {done:,} of {total:,}", end="", flush=True)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        """Start."""
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return max(time.monotonic() - self._start, 1e-6)


# ------------------------------------------------------------------------------ story


def find_sources() -> list[Source]:
    """Return the standard library, and of what is installed beside it as much as is wanted."""
    sources: list[Source] = []
    for number, root in enumerate(("stdlib", "platlib")):
        top = Path(sysconfig.get_path(root))
        for path in _walk(top):
            if len(sources) == FILE_COUNT_MAX:
                return sources
            name = f"{number}-{top.name}" / path.relative_to(top)
            sources.append(Source(path, str(name), path.lstat()))
    return sources


def _walk(top: Path) -> Iterator[Path]:
    """Yield a tree, directories before what is in them, without other copies of the second."""
    yield top
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in ("site-packages", "dist-packages"):
                yield from _walk(path)
        elif path.is_symlink() or path.is_file():
            yield path


def copy_tree(files: Files, sources: list[Source], folder: str) -> None:
    """Copy everything into a new ``folder``, sync, and tell the speed."""
    watch = Stopwatch()
    written = sum(_copy_each(files, sources, folder, len(sources)))
    copied = watch.seconds
    files.sync()
    say(
        "copy",
        f"{len(sources):,} files of Python, {written / MIB:.0f} MiB in {copied:.1f} s "
        f"({len(sources) / copied:,.0f} files/s, {written / MIB / copied:.0f} MiB/s), "
        f"synced in {watch.seconds - copied:.2f} s",
    )


def _copy_each(files: Files, sources: list[Source], folder: str, stop_after: int) -> Iterator[int]:
    top = Source(Path("/"), "", Path("/").lstat())
    files.copy(top, folder)
    for done, source in enumerate(sources[:stop_after], 1):
        yield files.copy(source, f"{folder}/{source.name}")
        show_progress("copy", done, len(sources))


def copy_and_crash(files: Files, sources: list[Source], folder: str) -> tuple[int, int]:
    """Copy a part, syncing now and then, and crash; return how many were synced and begun."""
    begun = len(sources) * 3 // 5 // SYNC_EVERY_FILES * SYNC_EVERY_FILES + SYNC_EVERY_FILES // 2
    synced = 0
    for done, _ in enumerate(_copy_each(files, sources, folder, begun), 1):
        if done % SYNC_EVERY_FILES == 0:
            files.sync()
            synced = done
    files.crash()
    say(
        "crash",
        f"{files.crash_words} after {begun:,} files of a second copy, {synced:,} of them synced",
    )
    return synced, begun


def compare(files: Files, sources: list[Source], folder: str, what: str) -> None:
    """Compare ``sources`` with their copies; raise DemoError naming those that differ."""
    watch = Stopwatch()
    wrong = []
    for done, source in enumerate(sources, 1):
        name = f"{folder}/{source.name}"
        if not (files.exists(name) and files.same(source, name)):
            wrong.append(name)
        show_progress("compare", done, len(sources))
    if wrong:
        raise DemoError(f"{len(wrong)} of {what} differ or are missing, the first is {wrong[0]}")
    say("compare", f"{what}: {len(sources):,} files, every byte the same ({watch.seconds:.1f} s)")


def count_survivors(files: Files, sources: list[Source], folder: str) -> None:
    """Tell how much of what was not synced is there; it must be the beginning, without gaps."""
    there = [files.exists(f"{folder}/{source.name}") for source in sources]
    if there != sorted(there, reverse=True):
        raise DemoError("a file is there although an earlier one is not")
    kept = f"the first {sum(there):,} of" if any(there) else "none of"
    say("compare", f"not synced: {kept} {len(there):,} files are there; a crash may take them")


def check_image(image: Path) -> None:
    """Run ``fsck.lfs``; raise DemoError when it finds anything."""
    watch = Stopwatch()
    done = subprocess.run([TOOLS / "fsck.lfs", "-f", image], capture_output=True, text=True)
    if done.returncode:
        raise DemoError(f"fsck.lfs found: {done.stdout}{done.stderr}")
    say("fsck.lfs", f"clean ({watch.seconds:.1f} s)")


def tell_story(files: Files, image: Path) -> None:
    """Run the demonstration; raises DemoError at the first thing that is wrong."""
    sources = find_sources()
    watch = Stopwatch()
    subprocess.run([TOOLS / "mkfs.lfs", "-q", image, str(IMAGE_BYTES)], check=True)
    say("mkfs.lfs", f"{image}, {IMAGE_BYTES // MIB} MiB, sparse ({watch.seconds:.1f} s)")
    watch = Stopwatch()
    files.start()
    say("mount", f"{watch.seconds:.2f} s")
    copy_tree(files, sources, "first")
    synced, begun = copy_and_crash(files, sources, "second")
    watch = Stopwatch()
    files.start()
    say("mount", f"{watch.seconds:.2f} s after the crash, without fsck")
    compare(files, sources, "first", "first copy")
    compare(files, sources[:synced], "second", "synced part of the second copy")
    count_survivors(files, sources[synced:begun], "second")
    files.stop()
    check_image(image)


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """Yield a temporary directory; a signal ends the demo as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    work = Path(tempfile.mkdtemp(prefix="lfs-demo-"))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Copy, crash, mount, compare, check.")
    parser.add_argument("--fuse-missing", default="", metavar="WHY", help=argparse.SUPPRESS)
    parser.add_argument("--library", action="store_true", help="do not mount, use the library")
    arguments = parser.parse_args()
    print("lfs: copy a tree, crash in the middle of a second copy, and compare")
    with contextlib.ExitStack() as cleaning:
        try:
            work = cleaning.enter_context(workshop())
            image = work / "disk.img"
            if arguments.library or arguments.fuse_missing:
                why = arguments.fuse_missing or "asked for"
                say("library", f"nothing is mounted ({why}): all goes through the Python library")
                tell_story(LibraryFiles(image), image)
            else:
                mounted = MountedFiles(image, work)
                cleaning.callback(mounted.abandon)
                tell_story(mounted, image)
        except (DemoError, OSError, subprocess.SubprocessError) as error:
            say("FAILED", str(error))
            return 1
        except KeyboardInterrupt:
            say("stopped", "everything is cleaned up")
            return 130
    say("result", "everything that was synced survived the crash")
    return 0


if __name__ == "__main__":
    sys.exit(main())
