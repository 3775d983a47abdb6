from __future__ import annotations

from pathlib import Path

import pytest

from bench.workloads.metadata import make_files
from bench.workloads.trees import Listing, list_attributes, list_names, make_tree, walk


@pytest.mark.parametrize("listing", [list_names, list_attributes])
def test_listing_finds_each_file_once(tmp_path: Path, listing: Listing) -> None:
    make_files(tmp_path, 230)
    assert listing(tmp_path) == 230
    (tmp_path / "0" / "5").unlink()
    assert listing(tmp_path) == 229


def test_walk_finds_each_file_of_a_deep_tree(tmp_path: Path) -> None:
    make_tree(tmp_path, 1011)
    assert walk(tmp_path) == 1011
    assert (tmp_path / "1" / "10" / "101" / "1010").read_bytes()
    (tmp_path / "0" / "0" / "0" / "7").unlink()
    assert walk(tmp_path) == 1010
