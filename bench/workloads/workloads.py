"""All workloads, in the order in which they are shown."""

from __future__ import annotations

from bench.workloads.contents import CONTENTS
from bench.workloads.metadata import METADATA
from bench.workloads.waiting import WAITING
from bench.workloads.workload import Workload

WORKLOADS: list[Workload] = [*METADATA, *CONTENTS, *WAITING]
