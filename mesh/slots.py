"""A node's slots: claims what it should have, hands over what others should, tells the service of both.

The watch fills the view (`claims.py`); `handover.decide` says what to do about it; transactions do it; what
the claims then say is followed by acquire and release (`holdings.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

import structlog
from prometheus_client import Counter
from voice.error.v1.reason_pb2 import Reason

from mesh.allocation import Slot as SlotKey
from mesh.claims import TAKE_BATCH, Claims, by_name, number_below
from mesh.errors import DomainError
from mesh.etcd import EtcdUnavailable, LeaseNotFound, Watch
from mesh.giving import RETRY_S, Giving
from mesh.handover import Take, complete, decide
from mesh.holdings import Acquire, Holdings, Release, ReleaseReason, Renew
from mesh.membership import Membership
from mesh.steady import steady
from mesh.telemetry.metrics import Metrics

__all__ = ["Acquire", "HasMembership", "NotOwner", "Release", "ReleaseReason", "Renew", "SlotKey", "Slots"]

T = TypeVar("T")

SETTLE_S = 0.3
"""How long a node that just joined waits for peers before it claims free slots, seconds."""
RESETTLE_S = 1.0
"""The same after a lease was lost: mostly all have lost theirs, and come back for what was theirs, seconds."""
RENEW_S = 2.0
"""How long a new lease waits for slots to be renewed; they go on being renewed then, seconds."""
PACE_S = 0.01
"""Least time between two decisions: many slots acquired one after the other are one change, seconds."""

log = structlog.get_logger("mesh.slots")


class NotOwner(DomainError):
    """This node does not own the slot."""

    def __init__(self, family: str, slot: SlotKey, owner: str = "") -> None:
        super().__init__(
            Reason.REASON_NOT_OWNER,
            f"not the owner of {family} slot {slot}",
            family=family,
            slot=str(slot),
            owner=owner,
        )
        self.family = family
        self.slot = slot


class HasMembership(Protocol):
    """What Slots needs of a process: `mesh.service.Service` has it."""

    @property
    def membership(self) -> Membership: ...


class Slots:
    """The slots of one family that this node owns. A service has one family.

    `count_or_keys`: the number of slots (fixed for good), or a callable giving the keys known now, which
    may grow (call `refresh()` when it has); a key that disappears keeps its slot until its owner ends.

    `acquire(slot, epoch)` is awaited when a claim was won: raise the fence, then read, then return; only
    then is the slot in `owned`. When it raises, it is logged and called again with backoff; it is cancelled
    when the claim goes meanwhile, and cleans up after itself in both cases. Many slots are acquired at once.

    `release(slot, epoch, reason)` is awaited after the slot has left `owned`, for every acquire that
    returned. Acquire and release of one slot never overlap. A lost lease is replaced only when all releases
    have ended, so they must not wait for anything that may not come.

    `renew(slot, old epoch, new epoch)`, when given: a slot whose claim ended with this node's lease is not
    released while nobody else has it, but served on and claimed again first of all. Then `renew` makes the new
    epoch the one that the slot's writes carry, at once, before it awaits anything, and returns
    `store.renew_fence(…)`: False when somebody else had the slot in between; it is released (LOST) and
    acquired then. Only for a service whose every effect passes `may_act` or a fenced write (`mesh/gate.py`).
    """

    def __init__(
        self,
        service: HasMembership,
        family: str,
        count_or_keys: int | Callable[[], Iterable[str]],
        *,
        acquire: Acquire,
        release: Release,
        renew: Renew | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        """`settle_s`: how long a node that just joined waits for peers before it claims free slots."""
        membership = self._membership = service.membership
        self.family = family
        if isinstance(count_or_keys, int):
            count, parse = count_or_keys, number_below(count_or_keys)
            self._keys: Callable[[], Sequence[SlotKey]] = lambda: range(count)
        else:
            names, parse = count_or_keys, by_name
            self._keys = lambda: sorted(names())
        self._claims = Claims(membership.etcd, membership.region, membership.service, parse)
        self._holdings = Holdings(family, acquire, release, self._changed, renew)
        self._failures: Counter | None = None
        if isinstance(metrics := getattr(service, "metrics", None), Metrics):
            self._measure(metrics)
        self._settle_s = settle_s
        self._joined_at: float | None = None
        self._regaining = 0
        self._taking: set[SlotKey] = set()
        self._giving = Giving(
            family,
            self._claims,
            self._holdings,
            seen=self._seen,
            failed=self._failed,
            changed_before=self._changed_before,
        )
        self._served = 0
        self._work: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._watch: Watch | None = None
        self._tasks: list[asyncio.Task[None]] = []
        membership.lease.on_lost(self._lease_lost)
        membership.lease.on_regain(self._regain)
        membership.lease.on_granted(self._lease_counts)
        membership.on_drain(self._drained)

    # -- what the service asks -------------------------------------------------------------------------------

    @property
    def owned(self) -> Mapping[SlotKey, int]:
        """Slot -> epoch of the slots this node serves now."""
        return MappingProxyType(self._holdings.owned)

    def epoch(self, slot: SlotKey) -> int:
        """Epoch of an owned slot. Raises NotOwner."""
        epoch = self._holdings.owned.get(slot)
        if epoch is None:
            raise self._not_owner(slot)
        return epoch

    def may_act(self, slot: SlotKey) -> bool:
        """Whether an effect for the slot may leave without a fenced write: owned by a claim that stands, and
        the lease deadline is ahead."""
        return self._holdings.certain(slot) and self._membership.lease.good()

    async def ready(self, slot: SlotKey, timeout: float) -> int:
        """Epoch of the slot, waiting while it is being acquired. Raises NotOwner when it is not this
        node's, or is not acquired within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while slot not in self._holdings.owned and slot in self._holdings.claimed_epochs:
            if not await self._changed_before(deadline):
                break
        return self.epoch(slot)

    async def wait_complete(self, timeout: float) -> None:
        """Returns when every slot of the family is claimed by some node and this node's are acquired. Raises
        TimeoutError."""
        deadline = time.monotonic() + timeout
        while self._joined_at is None or not self._complete():
            if not await self._changed_before(deadline):
                missing = [slot for slot in self._keys() if slot not in self._claims.view.claims]
                raise TimeoutError(f"{self.family}: {len(missing)} slots without owner after {timeout} s")

    # -- its life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to take part (after `Membership.join`): from now on others hand over to this node."""
        self._membership.announce(takes_slots=True)
        self._watch = self._membership.etcd.watch(self._claims.prefix)
        self._tasks = [
            steady(f"{self.family} watch", self._follow),
            steady(f"{self.family} slots", self._act),
        ]

    def refresh(self) -> None:
        """The callable given as `count_or_keys` has more keys now."""
        self._wake.set()

    async def stop(self) -> None:
        """Takes part no longer; hands nothing over (`Membership.drain` does), releases what is left as
        lost."""
        if self._watch is not None:
            await self._watch.close()
        for task in (*self._tasks, *self._work):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._work, return_exceptions=True)
        self._tasks = []
        await self._holdings.stop()

    def _measure(self, metrics: Metrics) -> None:
        """voicemesh_<service>_slots_owned, _slots_claimed, _slots_released_total,
        _slot_transactions_failed_total."""
        held = self._holdings
        metrics.gauge("slots_owned", "Slots served by this node").set_function(lambda: len(held.owned))
        claimed = metrics.gauge("slots_claimed", "Slots claimed for this node, served or being acquired")
        claimed.set_function(lambda: len(held.claimed_epochs))
        held.count(metrics.counter("slots_released_total", "Slots released, by reason", ["reason"]))
        self._failures = metrics.counter(
            "slot_transactions_failed_total", "Claims and hand-overs that etcd did not answer or refused"
        )

    def _failed(self) -> None:
        if self._failures is not None:
            self._failures.inc()

    # -- what happens to it ----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        assert self._watch is not None
        async for batch in self._watch:
            if batch.replaced:
                log.critical("etcd was replaced: its claims and epochs are not the ones Redis knows")
            if self._claims.told(batch):
                self._seen()
            else:
                self._news.set()

    async def _lease_lost(self) -> None:
        self._claims.forget(self._membership.incarnation)
        self._joined_at = None
        self._settle_s = max(self._settle_s, RESETTLE_S)
        self._seen()
        await self._holdings.idle()

    async def _regain(self, lease: int) -> bool:
        """Claims orphans again under a lease that does not count yet; returns when none is left unclaimed."""
        me, self._regaining = self._membership.incarnation, lease
        try:
            while orphans := self._holdings.orphans:
                try:
                    await self._claims.take(orphans[:TAKE_BATCH], me, lease)
                except EtcdUnavailable as error:
                    self._failed()
                    log.warning("slots not claimed again yet", family=self.family, problem=str(error))
                    await asyncio.sleep(RETRY_S)
                self._seen()
            async with asyncio.timeout(RENEW_S):
                await self._holdings.idle()
        except LeaseNotFound:
            return False
        except TimeoutError:
            log.warning("slots are still being renewed", family=self.family)
        finally:
            self._regaining = 0
        return True

    async def _lease_counts(self, _lease: int) -> None:
        self._seen()  # the watch may have shown our record while its lease did not count yet

    async def _drained(self) -> None:
        while self._holdings.claimed_epochs and self.heirs():
            await self._changed_before(time.monotonic() + RETRY_S)

    def _seen(self) -> None:
        """The view has changed: follow what it says is mine."""
        me, lease = self._membership.incarnation, self._membership.lease.id or self._regaining
        view, held = self._claims.view, self._holdings
        mine = {
            slot: claim.epoch
            for slot, claim in view.claims.items()
            if lease and claim.node == me and claim.lease == lease
        }
        for slot in [slot for slot in (*held.claimed_epochs, *held.orphans) if slot not in mine]:
            claim = view.claims.get(slot)
            taken = claim is not None and claim.node != me
            if taken or self._membership.lease.good():
                held.lost(slot)
            else:
                held.orphaned(slot)
        for slot, epoch in mine.items():
            held.claimed(slot, epoch)
        mine_now = view.peers.get(me)
        here = mine_now is not None and mine_now.takes and mine_now.lease == lease != 0
        if here and self._joined_at is None:
            self._joined_at = time.monotonic()
        self._changed()

    # -- what it does ----------------------------------------------------------------------------------------

    async def _act(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._joined_at is None:
                continue
            unsettled = self._joined_at + self._settle_s - time.monotonic()
            if unsettled > 0:  # timers may ring early, so look again
                asyncio.get_running_loop().call_later(unsettled, self._wake.set)
            self._tell_served()
            me, view = self._membership.incarnation, self._claims.view
            for effect in decide(view, me, self._keys(), list(self._holdings.owned), settled=unsettled <= 0):
                if isinstance(effect, Take):
                    free = [slot for slot in effect.slots if slot not in self._taking]
                    for batch in _batches(free, TAKE_BATCH):
                        self._taking.update(batch)
                        self._begin(self._take(batch))
                else:
                    for gift in self._giving.gifts(effect):
                        self._begin(self._giving.give(gift))
            await asyncio.sleep(PACE_S)

    def _tell_served(self) -> None:
        """Up to which revision I serve what was claimed for me."""
        held = self._holdings
        open_ = [epoch for slot, epoch in held.claimed_epochs.items() if held.owned.get(slot) != epoch]
        served = min(open_) - 1 if open_ else max(held.claimed_epochs.values(), default=1)
        if served > self._served:
            self._served = served
            self._membership.announce(served_revision=served)

    async def _take(self, slots: Sequence[SlotKey]) -> None:
        lease = self._membership.lease.id
        try:
            if lease:  # else it has just been lost, and a claim without a lease would never end
                await self._claims.take(slots, self._membership.incarnation, lease)
        except (EtcdUnavailable, LeaseNotFound) as error:
            self._failed()
            log.warning("claim not answered", family=self.family, slots=len(slots), problem=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            self._taking.difference_update(slots)
            self._seen()

    # -- plumbing --------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"{self.family} transaction")
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a change of slots failed", family=self.family, exc_info=error)
        self._changed()

    def _changed(self) -> None:
        self._wake.set()
        self._news.set()

    async def _changed_before(self, deadline: float) -> bool:
        """Waits for the next change; False when there was none in time."""
        self._news.clear()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _complete(self) -> bool:
        held = self._holdings
        return complete(self._claims.view, self._keys()) and held.owned.keys() == held.claimed_epochs.keys()

    def heirs(self) -> bool:
        """Whether another node takes slots: on drain they are handed over."""
        me = self._membership.incarnation
        return any(peer.takes for name, peer in self._claims.view.peers.items() if name != me)

    def _not_owner(self, slot: SlotKey) -> NotOwner:
        claim = self._claims.view.claims.get(slot)
        owner = claim.node if claim and claim.node != self._membership.incarnation else ""
        return NotOwner(self.family, slot, owner)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
