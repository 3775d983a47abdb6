"""What a device was asked, and how long it took: counts, bytes, percentiles, seeks.

Latencies go into buckets that grow by an eighth, so that a percentile is right
within 12 % whatever the times are, and hours of requests take a few hundred
numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_STEP = math.log(9 / 8)
PERCENTILES = (50, 90, 99, 99.9)


class Latencies:
    """A histogram of times."""

    def __init__(self) -> None:
        """Start empty."""
        self.count = 0
        self.max_ns = 0
        self._buckets: Counter[int] = Counter()

    def add(self, duration_ns: int) -> None:
        """Count one time."""
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)
        self._buckets[round(math.log(max(1, duration_ns)) / _STEP)] += 1

    def percentile_ns(self, percent: float) -> int:
        """Return the time within which ``percent`` of the requests were complete."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.max_ns, round(math.exp(bucket * _STEP)))
        return 0


@dataclass
class OperationStatistics:
    """The requests of one kind."""

    count: int = 0
    size_bytes: int = 0
    error_count: int = 0
    seek_count: int = 0
    """Requests that did not begin where the one before ended, of whatever kind."""
    latencies: Latencies = field(default_factory=Latencies)

    def note(self, length_bytes: int, latency_ns: int, failed: bool) -> None:
        """Count one request that is complete; bytes only when it did not fail."""
        self.count += 1
        self.error_count += failed
        self.size_bytes += 0 if failed else length_bytes
        self.latencies.add(latency_ns)

    def report(self) -> dict[str, int | dict[str, int]]:
        """Return it for people and programs; times in nanoseconds."""
        return {
            "count": self.count,
            "bytes": self.size_bytes,
            "errors": self.error_count,
            "seeks": self.seek_count,
            "latency_ns": {
                **{
                    f"p{percent:g}": self.latencies.percentile_ns(percent)
                    for percent in PERCENTILES
                },
                "max": self.latencies.max_ns,
            },
        }
