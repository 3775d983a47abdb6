"""A canary: a function that takes one safeguard out of the filesystem by patching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Patch = Callable[[Any, str, Any], None]
Canary = Callable[[Patch], None]


class Canaries(dict[str, Canary]):
    """Canaries by the name of the safeguard that they lack."""

    def without(self, name: str) -> Callable[[Canary], Canary]:
        """Return what adds a function as the canary that lacks the safeguard called ``name``."""

        def add(canary: Canary) -> Canary:
            self[name] = canary
            return canary

        return add
