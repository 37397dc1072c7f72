"""The slots that one process has: what `mesh/slots.py` and `mesh/holdings.py` do, with the decisions of `mesh.handover`."""

from __future__ import annotations

from collections.abc import Callable

from mesh.allocation import Slot
from mesh.giving import RETRY_S
from mesh.handover import Give, Peer, Take, decide
from mesh.slots import RESETTLE_S, SETTLE_S
from tests.simulation.etcd import Etcd
from tests.simulation.world import MS, SECOND, Process

PACE = 20 * MS
"""Between two looks at what is to be done."""
RETRY = 200 * MS
GIVE_RETRY = int(RETRY_S * SECOND)
UNANSWERED = 2 * SECOND
"""How long a transaction is waited for (mesh.etcd.Etcd)."""
SETTLE = int(SETTLE_S * SECOND)
RESETTLE = int(RESETTLE_S * SECOND)
"""How long a node that joined, or has lost its lease, leaves free slots alone."""
Acquire = Callable[[Slot, int, Callable[[bool], None]], None]
Release = Callable[[Slot, int, bool, Callable[[], None]], None]
Renew = Callable[[Slot, int, int, Callable[[bool | None], None]], None]


class Slots:
    """The slots that one process has: what `mesh.slots.Slots` does, with the decisions of `mesh.handover`."""

    def __init__(
        self,
        process: Process,
        etcd: Etcd,
        keys: tuple[Slot, ...],
        acquire: Acquire,
        release: Release,
        renew: Renew | None = None,
    ) -> None:
        """`acquire(slot, epoch, done)` calls `done(whether it succeeded)`; `release(slot, epoch, lost, done)`;
        `renew(slot, old epoch, new epoch, done)` calls `done(whether nobody had it in between)`, None for no answer."""
        self._process = process
        self._world = process.world
        self._etcd = etcd
        self._keys = keys
        self._acquire, self._release, self._renew = acquire, release, renew
        self._orphans: dict[Slot, int] = {}
        """Slots whose claim ended with our lease and that nobody else has: served on behind fenced writes."""
        self._settle = SETTLE
        self._calm = -1
        """Revision at which everything is where it should be: there is nothing to decide."""
        self.owned: dict[Slot, int] = {}
        """Slot -> epoch of what is served."""
        self._acquired: dict[Slot, int] = {}
        self._busy: set[Slot] = set()
        self._parting: dict[Slot, int] = {}
        """Slots that are released for an heir, and whose claim may still be ours."""
        self._taking = False
        self._looking = False
        self._joined = self._world.now
        self._watcher = etcd.watch(process, process.service, self._changed)

    def start(self, *, settled_already: bool) -> None:
        """Begins to take part."""
        if settled_already:
            self._joined -= self._settle
            self._calm = self._watcher.view.revision
        self._changed()

    def may_act(self, slot: Slot) -> bool:
        """Whether an effect may leave without a fenced write."""
        return slot in self.owned and self._process.lease_good()

    @property
    def claimed(self) -> bool:
        """Whether any slot is claimed for us, served or not."""
        me = self._process.incarnation
        return any(claim.node == me for claim in self._watcher.view.claims.values())

    def lease_lost(self) -> None:
        """What nobody else has is kept when it can be renewed, all else is let go; then there is a new lease."""
        view = self._watcher.view
        me = self._process.incarnation
        for slot in [slot for slot, claim in view.claims.items() if claim.node == me]:
            del view.claims[slot]
        if self._renew is not None:
            self._orphans = {slot: epoch for slot, epoch in self.owned.items() if slot not in view.claims}
        self._settle = RESETTLE
        self._follow()
        self._rejoin()

    def _rejoin(self) -> None:
        if self._busy or any(slot not in self._orphans for slot in self._acquired):
            self._process.after(PACE, self._rejoin)
            return
        self._joined = self._world.now
        self._etcd.join(self._process, counts=not self._orphans)
        for slot in list(self._orphans):
            self._regain(slot)

    def _regain(self, slot: Slot) -> None:
        """Claims an orphan again under the new lease."""
        if slot not in self._orphans:
            return
        service, me, lease = self._process.service, self._process.incarnation, self._process.lease
        self._transaction(
            lambda: self._etcd.take(service, (slot,), me, lease),
            lambda answered: self._regained(slot, answered),
        )

    def _regained(self, slot: Slot, answered: bool) -> None:
        if answered:
            self._learn((slot,))
        if slot not in self._orphans:
            return
        claim = self._watcher.view.claims.get(slot)
        if claim is None:
            self._regain(slot)
        elif claim.node == self._process.incarnation and claim.lease == self._process.lease:
            self._carry_on(slot, claim.epoch)
        else:
            self._follow()
            self._counts()

    def _carry_on(self, slot: Slot, epoch: int) -> None:
        """Renews an orphan that is claimed again."""
        assert self._renew is not None
        self._renew(slot, self._orphans[slot], epoch, lambda newest: self._renewed(slot, epoch, newest))

    def _renewed(self, slot: Slot, epoch: int, newest: bool | None) -> None:
        if slot not in self._orphans:
            return  # lost meanwhile
        if newest is None:
            self._process.after(RETRY, self._carry_on, slot, epoch)
            return
        del self._orphans[slot]
        if newest:
            self._acquired[slot] = self.owned[slot] = epoch
        else:
            del self.owned[slot]
            self._let_go(slot)
        self._counts()
        self._changed()

    def _counts(self) -> None:
        """The new lease counts when no orphan is left."""
        if not self._orphans and self._process.lease in self._etcd.leases and self._process.deadline_us == 1:
            self._process.deadline_us = 0

    def _changed(self) -> None:
        self._follow()
        self._look()

    def _look(self) -> None:
        if not self._looking and self._watcher.view.revision != self._calm:
            self._looking = True
            self._process.after(PACE, self._act)

    def _follow(self) -> None:
        """Acquires and releases as the view says."""
        me, lease = self._process.incarnation, self._process.lease
        claims = self._watcher.view.claims
        for slot in [slot for slot in self._orphans if slot in claims and claims[slot].node != me]:
            del self._orphans[slot]
        for slot, epoch in list(self._parting.items()):
            if not self._mine(slot, me, lease) or claims[slot].epoch != epoch:
                del self._parting[slot]
        for slot in [s for s in self._acquired if s not in self._orphans and not self._mine(s, me, lease)]:
            self.owned.pop(slot, None)
            self._let_go(slot)
        for slot, claim in list(claims.items()):
            if (
                claim.node == me
                and claim.lease == lease
                and slot not in self._busy
                and slot not in self._orphans
                and slot not in self._parting
            ):
                have = self._acquired.get(slot)
                if have is None:
                    self._take_up(slot, claim.epoch)
                elif have != claim.epoch:
                    self.owned.pop(slot, None)
                    self._let_go(slot)

    def _mine(self, slot: Slot, me: str, lease: int) -> bool:
        claim = self._watcher.view.claims.get(slot)
        return claim is not None and claim.node == me and claim.lease == lease

    def _take_up(self, slot: Slot, epoch: int) -> None:
        self._busy.add(slot)
        self._acquire(slot, epoch, lambda done: self._taken_up(slot, epoch, done))

    def _taken_up(self, slot: Slot, epoch: int, done: bool) -> None:
        if not done:
            self._process.after(RETRY, self._again, slot)
            return
        self._busy.discard(slot)
        self._acquired[slot] = epoch
        claim = self._watcher.view.claims.get(slot)
        if claim is not None and claim.epoch == epoch and claim.lease == self._process.lease:
            self.owned[slot] = epoch
        self._changed()

    def _again(self, slot: Slot) -> None:
        self._busy.discard(slot)
        self._changed()

    def _let_go(self, slot: Slot) -> None:
        if slot in self._busy or slot not in self._acquired:
            return  # a release that ended at once has looked again meanwhile, and let this one go too
        epoch = self._acquired.pop(slot)
        self._busy.add(slot)
        self._release(slot, epoch, True, lambda: self._again(slot))

    # -- what is to be done -----------------------------------------------------------------------------------

    def _act(self) -> None:
        self._looking = False
        view, me = self._watcher.view, self._process.incarnation
        ready = self._world.now - self._joined >= self._settle
        if not ready:
            self._process.after(self._joined + self._settle - self._world.now, self._look)
        for effect in decide(view, me, self._keys, list(self.owned), settled=ready):
            if isinstance(effect, Take):
                self._take(effect)
            else:
                self._give(effect)

    def _take(self, effect: Take) -> None:
        if self._taking:
            return
        self._taking = True
        service, me, lease = self._process.service, self._process.incarnation, self._process.lease
        self._transaction(
            lambda: self._etcd.take(service, effect.slots, me, lease),
            lambda answered: self._took(effect.slots, answered),
        )

    def _took(self, slots: tuple[Slot, ...], answered: bool) -> None:
        self._taking = False
        if answered:
            self._learn(slots)
        self._changed()

    def _learn(self, slots: tuple[Slot, ...]) -> None:
        """What a transaction's answer showed, unless the watch has told more already."""
        truth, view = self._etcd.claims.get(self._process.service, {}), self._watcher.view
        for slot in slots:
            claim = truth.get(slot)
            known = view.claims.get(slot)
            if claim is None:
                view.claims.pop(slot, None)
            elif known is None or known.epoch < claim.epoch:
                view.claims[slot] = claim

    def _give(self, effect: Give) -> None:
        for slot, epoch in effect.slots:
            if slot in self._busy or slot in self._orphans or self.owned.get(slot) != epoch:
                continue
            del self.owned[slot]
            self._acquired.pop(slot)
            self._parting[slot] = epoch
            self._busy.add(slot)
            self._release(slot, epoch, False, lambda s=slot, e=epoch: self._parted(s, e, effect.target))  # type: ignore[misc]

    def _parted(self, slot: Slot, epoch: int, target: Peer) -> None:
        """Hands over what is released: again while nobody knows what became of it, and it is ours; who would take it back
        before that is known could have an heir."""
        self._busy.discard(slot)
        if self._parting.get(slot) == epoch:
            service = self._process.service
            self._transaction(
                lambda: self._etcd.give(service, ((slot, epoch),), target),
                lambda answered: self._given(slot, epoch, target, answered),
            )
        self._changed()

    def _given(self, slot: Slot, epoch: int, target: Peer, answered: bool) -> None:
        if answered:
            self._learn((slot,))
        self._changed()
        if self._parting.get(slot) != epoch:
            return
        if answered and target.lease not in self._etcd.leases:  # the heir has gone: we keep it
            self._process.after(GIVE_RETRY, self._keep, slot, epoch)
        else:
            self._process.after(GIVE_RETRY, self._parted, slot, epoch, target)

    def _keep(self, slot: Slot, epoch: int) -> None:
        if self._parting.get(slot) == epoch:
            del self._parting[slot]
            self._changed()

    def _transaction(self, work: Callable[[], bool], done: Callable[[bool], None]) -> None:
        """`done(whether it was answered)`: what is not, may have been carried out all the same."""
        world, process = self._world, self._process
        if not self._etcd.reaches(process):
            process.after(UNANSWERED, done, False)
            return
        world.after(world.delay(), self._carried_out, process.starts, work, done)

    def _carried_out(self, life: int, work: Callable[[], bool], done: Callable[[bool], None]) -> None:
        if self._process.starts != life:
            return
        work()
        if self._world.lost():
            self._process.after(UNANSWERED, done, False)
        else:
            self._process.after(self._world.delay(), done, True)
