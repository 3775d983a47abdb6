"""The check as a whole: the undamaged image is clean, and no damage crashes it."""

from __future__ import annotations

from fsck.check import check_device, check_marks
from tests.fsck.builder import ImageBuilder, sample


def test_check_undamaged_image_is_clean() -> None:
    report = check_device(sample().build())
    assert report.problems == []
    assert report.is_clean
    assert report.log_commits == 2
    assert report.statistics["inodes"] == 9
    assert report.statistics["data_blocks"] == 24


def test_check_image_without_log_is_clean() -> None:
    builder = ImageBuilder()
    builder.checkpoint()
    report = check_device(builder.build())
    assert report.problems == []
    assert report.log_commits == 0


def test_check_progress_gets_the_phases() -> None:
    lines: list[str] = []
    check_device(sample().build(), lines.append)
    assert any("data: 24 of" in line for line in lines)


def test_check_marks_says_whether_unmounted_cleanly() -> None:
    builder = ImageBuilder()
    builder.checkpoint()
    assert not check_marks(builder.build()).is_clean_unmount
    builder.checkpoint_changes = {"clean": True}
    assert check_marks(builder.build()).is_clean_unmount
    builder.commit()
    assert not check_marks(builder.build()).is_clean_unmount
