"""One slot at a time: acquire, serve, release, in this order and never overlapping, whatever the claims do
meanwhile.

A slot whose claim ended with our own lease is an *orphan* while nobody else has it, when the service can renew:
it is served on (every effect behind a fenced write) until it is claimed again, and then carries on under its new
epoch, or is another's, and then it is lost (docs/decisions/0077).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum

import structlog
from prometheus_client import Counter

from mesh.allocation import Slot

Acquire = Callable[[Slot, int], Awaitable[None]]
Renew = Callable[[Slot, int, int], Awaitable[bool]]
"""(slot, epoch it was served under, epoch it is claimed under now) -> whether its state is still the newest."""
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses after failed acquisitions, the last one for ever, seconds."""

SLOW_S = 5.0
"""A release that takes longer is told in the log, seconds: the node takes no new lease meanwhile."""

log = structlog.get_logger("mesh.slots")


class ReleaseReason(Enum):
    """Why a slot is released."""

    HANDED_OVER = "handed over"
    """The claim is about to be given to another node: what is not written yet must be written before
    returning."""
    LOST = "lost"
    """The claim is gone (lease ended, store replaced): drop the slot's state, write nothing, cause no
    effect."""


Release = Callable[[Slot, int, ReleaseReason], Awaitable[None]]


class Holdings:
    """Follows what the claims say is mine (`claimed`, `lost`) with calls of acquire and release, a task a
    slot."""

    def __init__(
        self,
        family: str,
        acquire: Acquire,
        release: Release,
        changed: Callable[[], None],
        renew: Renew | None = None,
    ) -> None:
        """`changed` is called whenever `owned` has changed or a task has ended."""
        self._family = family
        self._acquire, self._release, self._changed, self._renew = acquire, release, changed, renew
        self.owned: dict[Slot, int] = {}
        """Slot -> epoch of what is served now."""
        self.claimed_epochs: dict[Slot, int] = {}
        """Slot -> epoch of what is claimed for me, served or not."""
        self._acquired: dict[Slot, int] = {}
        self._orphans: dict[Slot, int] = {}
        self._parting: dict[Slot, int] = {}
        self._followers: dict[Slot, asyncio.Task[None]] = {}
        self._acquiring: dict[Slot, asyncio.Future[None]] = {}
        self._released: Counter | None = None

    def count(self, released: Counter) -> None:
        """Counts releases by reason from now on."""
        self._released = released

    def claimed(self, slot: Slot, epoch: int) -> None:
        """The claim on `slot` is mine since `epoch`."""
        if self.claimed_epochs.get(slot) != epoch:
            self.claimed_epochs[slot] = epoch
            self._follow(slot)

    def lost(self, slot: Slot) -> None:
        """The claim on `slot` is not mine (any more): it is served no longer from this moment."""
        orphan = self._orphans.pop(slot, None)
        if self.claimed_epochs.pop(slot, None) is not None or orphan is not None:
            self._follow(slot)

    def orphaned(self, slot: Slot) -> None:
        """The claim on `slot` has ended with my lease and nobody else has it: served on until `claimed` or
        `lost` follows. Lost at once when it cannot be renewed, or was not served."""
        if self._renew is None or slot not in self.owned:
            self.lost(slot)
            return
        self.claimed_epochs.pop(slot, None)
        self._orphans[slot] = self.owned[slot]
        self._changed()

    @property
    def orphans(self) -> list[Slot]:
        """Orphans that are not claimed again."""
        return [slot for slot in self._orphans if slot not in self.claimed_epochs]

    def certain(self, slot: Slot) -> bool:
        """Whether the slot is served under the epoch it is claimed with."""
        epoch = self.owned.get(slot)
        return epoch is not None and self.claimed_epochs.get(slot) == epoch

    def serves(self, slot: Slot) -> bool:
        """Whether the slot is served and not being parted with."""
        return slot in self.owned

    async def part(self, slot: Slot, epoch: int) -> bool:
        """Stops serving, for a hand-over; True when the slot was served under `epoch`, has been released
        and the claim is still the same. Then either `lost` follows, or `keep` takes it back."""
        if self.owned.get(slot) != epoch or slot in self._followers or slot in self._orphans:
            return False
        self._parting[slot] = epoch
        del self.owned[slot]
        task = asyncio.create_task(self._part_with(slot, epoch), name=f"{self._family} slot {slot}")
        self._followers[slot] = task
        self._changed()
        await asyncio.wait([task])
        return self._parting.get(slot) == epoch

    def keep(self, slot: Slot, epoch: int) -> None:
        """The hand-over of a slot parted with did not take place: acquire it again, if it is still mine."""
        if self._parting.get(slot) == epoch:
            del self._parting[slot]
            self._follow(slot)

    async def idle(self) -> None:
        """Returns when every acquire and release under way has ended."""
        while self._followers:
            await asyncio.wait(list(self._followers.values()))

    async def stop(self) -> None:
        """Everything is lost; returns when it is released."""
        for slot in [*self.claimed_epochs, *self.orphans]:
            self.lost(slot)
        await self.idle()

    def _follow(self, slot: Slot) -> None:
        wanted = self.claimed_epochs.get(slot, 0)
        if self.owned.get(slot, wanted) != wanted and slot not in self._orphans:
            del self.owned[slot]
        if self._parting.get(slot, wanted) != wanted:
            del self._parting[slot]
        if slot in self._acquiring:
            self._acquiring[slot].cancel()  # for a claim that is no longer the one we have
        if slot not in self._followers:
            task = asyncio.create_task(self._catch_up(slot), name=f"{self._family} slot {slot}")
            self._followers[slot] = task
        self._changed()

    async def _catch_up(self, slot: Slot) -> None:
        failures = 0
        try:
            while (wanted := self.claimed_epochs.get(slot, 0)) != self._acquired.get(slot, 0):
                if slot in self._parting and self._parting[slot] == wanted:
                    return  # `lost` or `keep` calls again
                if slot in self._orphans and not wanted:
                    return  # `claimed` or `lost` calls again
                if slot in self._acquired and slot not in self._orphans:
                    await self._let_go(slot, self._acquired[slot], ReleaseReason.LOST)
                elif await (self._carry_on if slot in self._orphans else self._take_up)(slot, wanted):
                    failures = 0
                else:
                    await self._pause(slot, wanted, BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                    failures += 1
        finally:
            del self._followers[slot]
            self._changed()

    async def _part_with(self, slot: Slot, epoch: int) -> None:
        try:
            await self._let_go(slot, epoch, ReleaseReason.HANDED_OVER)
        finally:
            del self._followers[slot]
            if self._parting.get(slot) != epoch:
                self._follow(slot)  # the claim changed meanwhile

    async def _take_up(self, slot: Slot, epoch: int) -> bool:
        """Acquires; False when that failed or the claim went meanwhile."""
        acquiring = self._acquiring[slot] = asyncio.ensure_future(self._acquire(slot, epoch))
        try:
            await asyncio.wait([acquiring])
        finally:
            acquiring.cancel()
            del self._acquiring[slot]
        if acquiring.cancelled():
            return False
        if (error := acquiring.exception()) is not None:
            log.error("slot not acquired", family=self._family, slot=slot, epoch=epoch, exc_info=error)
            return False
        self._acquired[slot] = epoch
        if self.claimed_epochs.get(slot) == epoch:
            self.owned[slot] = epoch
        return True

    async def _carry_on(self, slot: Slot, epoch: int) -> bool:
        """Renews an orphan that is claimed again; False when that has to be tried again."""
        assert self._renew is not None
        try:
            newest = await self._renew(slot, self._orphans[slot], epoch)
        except Exception as error:
            log.error("slot not renewed", family=self._family, slot=slot, epoch=epoch, exc_info=error)
            return False
        if slot not in self._orphans:
            return True  # lost meanwhile
        if not newest:
            log.warning("slot had another owner in between", family=self._family, slot=slot, epoch=epoch)
            del self._orphans[slot], self.owned[slot]
            return True
        self._acquired[slot] = self.owned[slot] = self._orphans[slot] = epoch
        if self.claimed_epochs.get(slot) == epoch:
            del self._orphans[slot]
        return True

    async def _let_go(self, slot: Slot, epoch: int, reason: ReleaseReason) -> None:
        self._acquired.pop(slot, None)
        if self._released is not None:
            self._released.labels(reason.name.lower()).inc()
        releasing = asyncio.ensure_future(self._release(slot, epoch, reason))
        try:
            while not (await asyncio.wait([releasing], timeout=SLOW_S))[0]:
                log.error("slot is not released yet", family=self._family, slot=slot, reason=reason.value)
            await releasing
        except Exception:
            log.exception("slot not released cleanly", family=self._family, slot=slot, reason=reason.value)
        finally:
            releasing.cancel()

    async def _pause(self, slot: Slot, epoch: int, seconds: float) -> None:
        """Waits after a failure; not longer than the claim stays the same."""
        step = BACKOFF_S[0]
        while seconds > 0 and self.claimed_epochs.get(slot) == epoch:
            await asyncio.sleep(step)
            seconds -= step
