"""Filesystems that lack one safeguard, to prove that the explorer would miss it.

Every barrier of ARCHITECTURE.md's "Order of writes", every checksum that a
mount or a read looks at, and every reservation has its canary.  A canary is a
function that takes the safeguard out by patching; ``test_canaries`` names the
exploration that catches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from tests.crash.canaries.barriers import BARRIERS
from tests.crash.canaries.canary import Canary
from tests.crash.canaries.places import PLACES
from tests.crash.canaries.reading import READING
from tests.crash.canaries.reservations import RESERVATIONS

CANARIES: dict[str, Canary] = {**BARRIERS, **PLACES, **READING, **RESERVATIONS}
"""Canaries by the name of the safeguard that they lack."""


@contextmanager
def installed(name: str) -> Iterator[None]:
    """Take out the safeguard called ``name``."""
    with ExitStack() as stack:

        def patch(owner: Any, attribute: str, replacement: Any) -> None:
            stack.enter_context(mock.patch.object(owner, attribute, replacement))

        CANARIES[name](patch)
        yield
