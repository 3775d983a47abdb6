"""A mount on a faulty disk: ``mount.lfs -o fault=PLAN``.

The fault device goes between the filesystem and its image.  Its faults are
lines in the daemon's log, and ``faultdisk`` controls it while it runs through
the socket that ``fault_control=`` names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from faultdisk.daemon.control import ControlServer
from faultdisk.daemon.served import Served, StoppableClock, open_log
from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.mount.options import FaultOptions

log = logging.getLogger(__name__)


@contextmanager
def faulty(device: BlockDevice, options: FaultOptions) -> Iterator[BlockDevice]:
    """Yield ``device`` as the plan of ``options`` makes it seem.

    Afterwards what the plan's cache still holds goes to ``device``, unless the
    power is off.  Raises UsageError when the log or the socket can't be made.
    """
    plan = parse_plan(options.plan)
    clock = StoppableClock()
    with ExitStack() as stack:
        append = None
        if options.log:
            append = stack.enter_context(open_log(options.log, device.size_bytes))
        disk = FaultDevice(device, plan, clock, append or (lambda _: None), log.warning)
        if options.control:
            stack.enter_context(ControlServer(options.control, disk))
        log.warning("faulty disk: %s", plan.text)
        try:
            yield disk
        finally:
            # A failure here was a failure of the last flush too, which has been told.
            with suppress(DeviceError):
                Served(disk, clock, options.control).settle()
