"""Handing slots over, few at a time: the next ones are let go when the heir says that it serves those before
(docs/decisions/0101)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from mesh.allocation import Slot
from mesh.claims import GIVE_BATCH, Claims
from mesh.etcd import EtcdUnavailable, LeaseNotFound
from mesh.handover import Give
from mesh.holdings import Holdings

GIFTS = 2
"""Hand-overs at once: all other slots are served here until it is their turn."""
TAKEN_UP_S = 0.5
"""How long the heir is waited for after each, until it says that it serves what it was given, seconds."""
RETRY_S = 0.1
"""Pause after a transaction that failed, seconds."""

log = structlog.get_logger("mesh.slots")


class Giving:
    """Carries `Give` out."""

    def __init__(
        self,
        family: str,
        claims: Claims,
        holdings: Holdings,
        *,
        seen: Callable[[], None],
        failed: Callable[[], None],
        changed_before: Callable[[float], Awaitable[bool]],
    ) -> None:
        """`seen` is called when `claims` shows something new, `failed` for each transaction that etcd did not answer;
        `changed_before(monotonic seconds)` waits for news, False when there was none in time."""
        self._family, self._claims, self._holdings = family, claims, holdings
        self._seen, self._failed, self._changed_before = seen, failed, changed_before
        self._under_way: set[Slot] = set()
        self._room = asyncio.Semaphore(GIFTS)

    def gifts(self, wanted: Give) -> list[Give]:
        """What of it is not under way yet, in parts for `give`: each has to be given."""
        left = [item for item in wanted.slots if item[0] not in self._under_way]
        self._under_way.update(slot for slot, _ in left)
        parts = (left[start : start + GIVE_BATCH] for start in range(0, len(left), GIVE_BATCH))
        return [Give(wanted.target, tuple(part)) for part in parts]

    async def give(self, gift: Give) -> None:
        """Releases the slots, hands them over and waits for the heir to serve them."""
        try:
            async with self._room:
                if gift.target.incarnation in self._claims.view.peers:
                    await self._part_with(gift)
        finally:
            self._under_way.difference_update(slot for slot, _ in gift.slots)

    async def _part_with(self, gift: Give) -> None:
        parted = await asyncio.gather(*(self._holdings.part(slot, epoch) for slot, epoch in gift.slots))
        left = [item for item, done in zip(gift.slots, parted, strict=True) if done]
        try:
            while left and not await self._given(left, gift):
                mine = self._holdings.claimed_epochs
                left = [(slot, epoch) for slot, epoch in left if mine.get(slot) == epoch]
            await self._taken_up(gift)
        except LeaseNotFound:
            log.info("heir has gone before the hand-over", family=self._family, heir=gift.target.incarnation)
            await asyncio.sleep(RETRY_S)
        finally:
            self._seen()
            for slot, epoch in left:
                self._holdings.keep(slot, epoch)

    async def _given(self, slots: Sequence[tuple[Slot, int]], gift: Give) -> bool:
        """Tries once; afterwards the view knows. False when it has to be tried again with what is still
        mine."""
        try:
            return await self._claims.give(slots, gift.target)
        except EtcdUnavailable as error:
            self._failed()
            log.warning("hand-over not answered", family=self._family, slots=len(slots), problem=str(error))
            await asyncio.sleep(RETRY_S)
            return False
        finally:
            self._seen()

    async def _taken_up(self, gift: Give) -> None:
        """Waits until the heir serves these slots, or has gone, or takes too long; one that does not tell is not waited
        for."""
        heir, claims = gift.target.incarnation, self._claims
        theirs = (claims.view.claims.get(slot) for slot, _ in gift.slots)
        newest = max((claim.epoch for claim in theirs if claim is not None and claim.node == heir), default=0)
        deadline = time.monotonic() + TAKEN_UP_S
        while (record := claims.records.get(heir)) and 0 < record.served_revision < newest:
            if not await self._changed_before(deadline):
                return
