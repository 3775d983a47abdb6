"""What all tests share: the hypothesis profile, which core runs, skips with their reasons."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from lfs.common.compiled import core_name, is_compiled
from tests.support.needs import reason_to_skip

pytest_plugins = ["tests.support.mounts"]

# No deadline: a shared machine may stall any single example.  A failure prints
# the blob that replays it.
settings.register_profile(
    "lfs", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lfs")


def pytest_report_header() -> str:
    """Say which core is tested."""
    return f"lfs: {core_name()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes the core apart while that is compiled: ``./check`` runs it, too."""
    if not is_compiled():
        return
    apart = [item for item in items if item.get_closest_marker("pure_core")]
    if apart:
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in {*apart}]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test where what it needs can't be had, before its fixtures are made."""
    things = [thing for marker in item.iter_markers("needs") for thing in marker.args]
    reason = reason_to_skip(things, item.get_closest_marker("fuse") is not None)
    if reason is not None:
        pytest.skip(reason)
