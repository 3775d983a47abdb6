from __future__ import annotations

from pathlib import Path

import pytest

from mkfs.target import find_use, refuse_used


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Return a folder with a /proc and a /sys in which nothing is in use."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "21 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n"
    )
    (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n")
    (tmp_path / "sys").mkdir()
    return tmp_path


def _find_use(image: Path, system: Path) -> str | None:
    return find_use(image, system / "proc", system / "sys")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "an image"
    path.write_bytes(b"")
    return path


def test_find_use_idle_image_has_none(image: Path, system: Path) -> None:
    assert _find_use(image, system) is None
    refuse_used(image)


def test_find_use_mount_source_is_told_with_its_place(image: Path, system: Path) -> None:
    source = str(image).replace(" ", "\\040")
    with (system / "proc/self/mountinfo").open("a") as file:
        file.write(f"40 21 0:50 / /mnt/my\\040disk rw shared:9 master:2 - fuse.lfs {source} rw\n")
    assert _find_use(image, system) == "mounted on /mnt/my disk"


def test_find_use_loop_device_is_told(image: Path, system: Path) -> None:
    folder = system / "sys/block/loop3/loop"
    folder.mkdir(parents=True)
    (folder / "backing_file").write_text(f"{image}\n")
    assert _find_use(image, system) == "in use as /dev/loop3"


def test_find_use_swap_file_is_told(image: Path, system: Path) -> None:
    with (system / "proc/swaps").open("a") as file:
        file.write(str(image).replace(" ", "\\040") + " file 1024 0 -2\n")
    assert _find_use(image, system) == "in use as swap space"
