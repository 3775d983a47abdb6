"""What a plan does to each request: refusals and lies, in a fixed order.

A ``FaultyMedium`` is the disk behind ``device.FaultDevice``, without time,
power and threads: one call for each request, in the order of arrival.  Rules
of one kind all look at each request they are about, whatever the others of that
kind do.  A request that is refused is seen by none of the later kinds.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice
from lfs.device.fault.armed import ArmedPlan, ArmedRule
from lfs.device.fault.cache import WriteCache, torn_sectors
from lfs.device.fault.medium import (
    BadSectors,
    History,
    RecentWrites,
    Room,
    StuckBits,
    with_flipped_bit,
)
from lfs.device.fault.plan import faults, power
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.rule import DISCARD, SECTOR_BYTES, WRITE
from lfs.device.fault.when import Request
from lfs.device.recording import Discard, Event, Flush, Write

CUT_CACHE_BYTES = 64 << 20
"""The cache of a plan that cuts the power and does not say how large its cache is."""

Note = Callable[[str, Request, str, int, int], None]
"""Takes kind, request, detail, and the place that differs from what it should be."""


class FaultyMedium:
    """One device with one plan."""

    def __init__(
        self,
        device: BlockDevice,
        cache: WriteCache,
        plan: FaultPlan,
        log: Callable[[Event], None],
        note: Note,
    ) -> None:
        """Serve ``device`` through ``cache``, which may hold writes from under another plan.

        ``log`` gets every accepted change as it was asked for, ``note`` every fault.
        """
        self.armed = ArmedPlan(plan, device.size_bytes)
        self._device = device
        self._cache = cache
        self._log = log
        self._note_fault = note
        self._in_order = [0] * len(self.armed.all(faults.Reorder))
        self._write_count = 0
        self._repeats: list[tuple[int, int, bytes]] = []
        self._read_only = self._vanished = False
        armed = self.armed
        self._bad = [(each, BadSectors(each.rule)) for each in armed.all(faults.Bad)]
        self._stuck = [
            (each, StuckBits(each.rule, device.size_bytes, each.generator))
            for each in armed.all(faults.Stuck)
        ]
        self._rooms = [(each, Room(each.rule.size_bytes)) for each in armed.all(faults.Full)]
        self._history = History() if armed.all(faults.Stale) else None
        self._rot = [each for each in armed.all(faults.Corrupt) if each.rule.at_rest]
        self._on_the_wire = [each for each in armed.all(faults.Corrupt) if not each.rule.at_rest]
        self._recent = RecentWrites() if self._rot else None
        caches = armed.all(power.Cache)
        default_bytes = CUT_CACHE_BYTES if armed.all(power.Cut) else 0
        self._cache_bytes_max = caches[0].rule.size_bytes if caches else default_bytes

    def lose_power(self) -> None:
        """Forget what a disk without power does not remember."""
        self._repeats.clear()

    def settle(self) -> None:
        """Let the cache shrink to the size that the plan gives it."""
        self._cache.shrink(self._cache_bytes_max)

    def _note(
        self,
        kind: str,
        request: Request,
        detail: str,
        offset_bytes: int | None = None,
        length_bytes: int | None = None,
    ) -> None:
        self._note_fault(
            kind,
            request,
            detail,
            request.offset_bytes if offset_bytes is None else offset_bytes,
            request.length_bytes if length_bytes is None else length_bytes,
        )

    # ------------------------------------------------------------------ any request

    def check(self, request: Request) -> None:
        """Raise DeviceError when the device is gone or read-only; let bits at rest rot."""
        for armed in self.armed.striking(faults.Vanish, request):
            armed.spend()
            if not self._vanished:
                self._note("vanish", request, "the device is gone")
            self._vanished = True
        if self._vanished:
            raise DeviceError(errno.ENODEV, "the device is gone", request.offset_bytes)
        for read_only in self.armed.striking(faults.ReadOnly, request):
            read_only.spend()
            if not self._read_only:
                self._note("readonly", request, "changes are refused from now on")
            self._read_only = True
        if self._read_only and request.operation in (WRITE, DISCARD):
            raise DeviceError(errno.EROFS, "device is read-only", request.offset_bytes)
        for rot in self._rot:
            if rot.strikes(request):
                self._flip_at_rest(rot, request)

    def _flip_at_rest(self, rot: ArmedRule[faults.Corrupt], request: Request) -> None:
        """Flip a bit on the medium where something was written lately."""
        assert self._recent is not None
        place = self._recent.draw_byte(rot.rule.when.ranges, rot.generator)
        if place is None:
            return
        sector = place - place % SECTOR_BYTES
        if self._cache.holds(sector):
            # What is still to be written over does not rest.
            return
        bit = 8 * (place - sector) + rot.generator.randrange(8)
        raw = self._device.read(sector, SECTOR_BYTES)
        self._device.write(sector, [with_flipped_bit(raw, bit)])
        rot.spend()
        detail = f"bit {bit % 8} of byte {place} was flipped at rest"
        self._note("corrupt-rest", request, detail, sector, SECTOR_BYTES)

    def overtakes(self, request: Request) -> bool:
        """Tell whether a request jumps the queue: netem's rule of probability and gap."""
        overtakes = False
        for index, armed in enumerate(self.armed.all(faults.Reorder)):
            if not armed.applies(request):
                continue
            if self._in_order[index] < armed.rule.gap - 1 or not armed.comes_true():
                self._in_order[index] += 1
            else:
                self._in_order[index] = 0
                armed.spend()
                overtakes = True
        return overtakes

    def _errors(self, request: Request, data: bytes = b"") -> None:
        """Raise for a request that the plan lets fail."""
        for armed in self.armed.striking(faults.Error, request):
            armed.spend()
            code = armed.rule.errno
            detail = errno.errorcode[code]
            if armed.rule.partial and len(data) > SECTOR_BYTES:
                sectors = armed.generator.randrange(1, len(data) // SECTOR_BYTES)
                self._store(request.offset_bytes, data[: sectors * SECTOR_BYTES], persist=False)
                detail += f" after {sectors} sectors"
            self._note("error", request, detail)
            raise DeviceError(code, f"{request.operation} failed by plan", request.offset_bytes)

    # ---------------------------------------------------------------------- reading

    def read(self, request: Request) -> bytes:
        """Return what is read, right or wrong; raises DeviceError."""
        self._errors(request)
        offset_bytes, length_bytes = request.offset_bytes, request.length_bytes
        for armed, bad in self._bad:
            if bad.touches(offset_bytes, length_bytes) and armed.strikes(request):
                armed.spend()
                self._note("bad", request, "bad sector")
                raise DeviceError(errno.EIO, "bad sector", offset_bytes)
        data = self._cache.read(offset_bytes, length_bytes)
        if self._history is not None:
            for stale in self.armed.striking(faults.Stale, request):
                aged = self._history.aged(offset_bytes, data)
                if aged != data:
                    stale.spend()
                    self._note("stale", request, "an old version was returned")
                    data = aged
        for struck, stuck in self._stuck:
            read = stuck.apply(offset_bytes, data)
            if read != data and struck.strikes(request):
                struck.spend()
                self._note("stuck", request, "stuck bits")
                data = read
        return self._corrupted(request, data)

    def _corrupted(self, request: Request, data: bytes) -> bytes:
        """Return what passes the wire of what was sent."""
        for armed in self._on_the_wire:
            if not data or not armed.strikes(request):
                continue
            byte = armed.rule.byte
            if byte < 0:
                bit = armed.generator.randrange(8 * len(data))
                changed = with_flipped_bit(data, bit)
                byte, detail = bit // 8, f"bit {bit % 8} of byte {bit // 8} was flipped"
            elif byte < len(data):
                changed = data[:byte] + bytes([armed.rule.value]) + data[byte + 1 :]
                detail = f"byte {byte} became {armed.rule.value}"
            else:
                continue
            if changed != data:
                armed.spend()
                start = byte - byte % SECTOR_BYTES
                self._note("corrupt", request, detail, request.offset_bytes + start, SECTOR_BYTES)
                data = changed
        return data

    # ---------------------------------------------------------------------- writing

    def write(
        self, request: Request, data: bytes, force_unit_access: bool, overtakes: bool
    ) -> None:
        """Take a write, or say so; raises DeviceError."""
        offset_bytes = request.offset_bytes
        self._errors(request, data)
        self._take_room(request)
        self._log(Write(offset_bytes, data, force_unit_access))
        self._write_count += 1
        duplicates = self.armed.striking(faults.Duplicate, request)
        lost = self._lost(request)
        # As in netem, a write that is both lost and duplicated arrives once.
        if not lost or duplicates:
            self._tell_lies(request, data, force_unit_access or overtakes)
        else:
            self._note("loss", request, "acknowledged and lost")
        if not lost:
            for duplicate in duplicates:
                duplicate.spend()
                self._repeats.append((self._write_count + duplicate.rule.after, offset_bytes, data))
        self._repeat_earlier(request)
        if force_unit_access:
            self._device.flush()

    def take_in_flight(self, request: Request, data: bytes) -> None:
        """Take the write during which the power goes: it is among those that may arrive."""
        self._log(Write(request.offset_bytes, data))
        self._cache.add(request.offset_bytes, data)

    def _take_room(self, request: Request) -> None:
        """Raise when the place cannot be written, and remap bad sectors."""
        offset_bytes, length_bytes = request.offset_bytes, request.length_bytes
        for limited, room in self._rooms:
            if limited.strikes(request) and not room.take(offset_bytes, length_bytes):
                limited.spend()
                self._note("full", request, "no room for a place not written before")
                raise DeviceError(errno.ENOSPC, "the device is full", offset_bytes)
        for armed, bad in self._bad:
            if not bad.touches(offset_bytes, length_bytes) or not armed.strikes(request):
                continue
            if not bad.remap(offset_bytes, length_bytes):
                armed.spend()
                self._note("bad", request, "no spare sectors are left")
                raise DeviceError(errno.EIO, "bad sector", offset_bytes)

    def _lost(self, request: Request) -> bool:
        """Tell whether a change is to be acknowledged and not made."""
        lost = False
        for armed in self.armed.striking(faults.Loss, request):
            armed.spend()
            if armed.rule.ecn:
                self._note("ecn", request, "recovered error")
            else:
                lost = True
        return lost

    def _tell_lies(self, request: Request, data: bytes, persist: bool) -> None:
        """Store a write as the plan has it: changed, elsewhere, or in part."""
        data = self._corrupted(request, data)
        offset_bytes = request.offset_bytes
        for armed in self.armed.striking(faults.Misdirect, request):
            landed = self._elsewhere(armed.rule, request, armed.generator.random())
            if landed != offset_bytes:
                armed.spend()
                self._note("misdirect", request, f"landed at byte {landed}")
                self._note("misdirect-target", request, "", landed, len(data))
                offset_bytes = landed
        for torn in self.armed.striking(faults.Torn, request):
            first = offset_bytes // SECTOR_BYTES
            sectors = range(first, first + len(data) // SECTOR_BYTES)
            kept = self._torn(sectors, torn)
            if kept is None:
                continue
            torn.spend()
            self._note("torn", request, f"{len(sectors) - len(kept)} sectors did not arrive")
            for sector in kept:
                start = (sector - first) * SECTOR_BYTES
                piece = data[start : start + SECTOR_BYTES]
                self._store(sector * SECTOR_BYTES, piece, persist)
            return
        self._store(offset_bytes, data, persist)

    @staticmethod
    def _torn(sectors: range, torn: ArmedRule[faults.Torn]) -> list[int] | None:
        """Return the sectors that arrive, some but not all; None when they are one piece."""
        atomic_bytes = torn.rule.atomic_bytes
        size = atomic_bytes // SECTOR_BYTES
        if not sectors or sectors[0] // size == sectors[-1] // size:
            return None
        while True:
            kept = torn_sectors(sectors, atomic_bytes, torn.generator)
            if 0 < len(kept) < len(sectors):
                return kept

    def _elsewhere(self, rule: faults.Misdirect, request: Request, drawn: float) -> int:
        """Return where a misdirected write lands, aligned as it was."""
        last = self._device.size_bytes - request.length_bytes
        if rule.distance_bytes:
            landed = request.offset_bytes + rule.distance_bytes
            return landed if landed <= last else request.offset_bytes
        step = 4096 if request.offset_bytes % 4096 == 0 else SECTOR_BYTES
        return int(drawn * (last // step + 1)) * step

    def _store(self, offset_bytes: int, data: bytes, persist: bool) -> None:
        if not data:
            return
        if self._history is not None:
            self._history.keep(offset_bytes, self._cache.read(offset_bytes, len(data)))
        if self._recent is not None:
            self._recent.note(offset_bytes, len(data))
        if self._cache_bytes_max == 0 and not len(self._cache):
            self._device.write(offset_bytes, [data])
            return
        number = self._cache.add(offset_bytes, data)
        if persist:
            self._cache.persist(number)
        self._cache.shrink(self._cache_bytes_max)

    def _repeat_earlier(self, request: Request) -> None:
        """Repeat the writes whose time has come."""
        if not self._repeats:
            return
        due = [repeat for repeat in self._repeats if repeat[0] <= self._write_count]
        self._repeats = [repeat for repeat in self._repeats if repeat[0] > self._write_count]
        for _, offset_bytes, data in due:
            self._note("duplicate", request, "repeated", offset_bytes, len(data))
            self._store(offset_bytes, data, persist=False)

    # ------------------------------------------------------------ flushing, discarding

    def flush(self, request: Request) -> None:
        """Empty the cache and flush the device, or say so; raises DeviceError."""
        self._errors(request)
        ignored = self.armed.striking(faults.IgnoreFlush, request)
        for armed in ignored:
            armed.spend()
        if ignored:
            self._log(Flush())
            self._note("ignore-flush", request, "acknowledged and not done")
            return
        self._cache.shrink(0)
        self._device.flush()
        self._log(Flush())

    def discard(self, request: Request) -> None:
        """Discard, or say so; raises DeviceError."""
        self._errors(request)
        self._log(Discard(request.offset_bytes, request.length_bytes))
        if self._lost(request):
            self._note("loss", request, "acknowledged and lost")
        else:
            self._cache.discard(request.offset_bytes, request.length_bytes)
