from __future__ import annotations

from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from mkfs.target import refuse_swap


def test_swap_file_is_refused_by_whatever_name(tmp_path: Path) -> None:
    swaps = tmp_path / "swaps"
    swap, link, other = tmp_path / "a swap", tmp_path / "link", tmp_path / "other"
    link.symlink_to(swap)
    shown = str(swap).replace(" ", "\\040")
    swaps.write_text(f"Filename Type Size Used Priority\n{shown} file 1024 0 -2\n")
    for path in (swap, link):
        with pytest.raises(UsageError, match=f"^{path} is in use as swap space$"):
            refuse_swap(path, swaps)
    refuse_swap(other, swaps)
    refuse_swap(other, tmp_path / "missing")
