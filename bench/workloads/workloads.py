"""All workloads, in the order in which they are shown."""

from __future__ import annotations

from bench.workloads.aged import AGED
from bench.workloads.contents import CONTENTS
from bench.workloads.metadata import METADATA
from bench.workloads.trees import TREES
from bench.workloads.waiting import WAITING
from bench.workloads.workload import Workload

WORKLOADS: list[Workload] = [*METADATA, *TREES, *CONTENTS, *AGED, *WAITING]
