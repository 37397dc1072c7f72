"""etcd as the platform uses it: leases, records of nodes, claims of slots with revisions, watches that tell late.

The decisions are those of `mesh.handover.decide`; what mesh does around it with asyncio (`mesh/slots.py`, `mesh/holdings.py`)
is modelled by `Slots`: one slot at a time is acquired, served, released, and what the watch shows is followed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.allocation import Slot, allocate
from mesh.handover import Claim, Give, Peer, Take, View, decide
from tests.simulation.world import KEEP_ALIVE, LEASE_TTL, MS, SECOND, Process, World

if TYPE_CHECKING:
    Told = Callable[["View"], None]

PACE = 20 * MS
"""Between two looks at what is to be done."""
RETRY = 200 * MS
SETTLE = 300 * MS
RESETTLE = SECOND
"""How long a node that joined, or has lost its lease, leaves free slots alone."""
Acquire = Callable[[Slot, int, Callable[[bool], None]], None]
Release = Callable[[Slot, int, bool, Callable[[], None]], None]
Renew = Callable[[Slot, int, int, Callable[[bool | None], None]], None]


@lru_cache(maxsize=4096)
def settled(keys: tuple[Slot, ...], nodes: tuple[str, ...]) -> dict[Slot, str]:
    """Who has which slot when all nodes have been there for long."""
    return allocate(keys, nodes)


class Watcher:
    """One process looking at one service: its view lags behind, never out of order."""

    def __init__(self, etcd: Etcd, process: Process, service: str, told: Callable[[], None]) -> None:
        self.view = View()
        self.service = service
        self._etcd = etcd
        self._process = process
        self._told = told
        self._life = process.starts
        self._last = 0

    @property
    def current(self) -> bool:
        """Whether its process still lives the life it was made in."""
        return self._process.alive and self._process.starts == self._life

    def tell(
        self, revision: int, node: str, peer: Peer | None, slot: Slot | None, claim: Claim | None
    ) -> None:
        """A change arrives after a while, behind those before it."""
        world = self._etcd.world
        when = max(self._last, world.now + world.delay(), self._etcd.silent_until)
        if self._process.cut_off:
            when = max(when, self._etcd.reachable_at(self._process) + world.delay())
        self._last = when
        self._process.after(when - world.now, self._take, revision, node, peer, slot, claim)

    def _take(
        self, revision: int, node: str, peer: Peer | None, slot: Slot | None, claim: Claim | None
    ) -> None:
        view = self.view
        if slot is not None:
            known = view.claims.get(slot)
            if known is None or known.epoch < revision:
                if claim is not None:
                    view.claims[slot] = claim
                else:
                    view.claims.pop(slot, None)
        elif peer is not None:
            view.peers[node] = peer
        else:
            view.peers.pop(node, None)
        view.revision = max(view.revision, revision)
        self._told()


class Etcd:
    """The truth about nodes and claims."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.revision = 100
        self.silent_until = 0
        """Until when etcd answers nobody."""
        self.peers: dict[str, dict[str, Peer]] = {}
        self.claims: dict[str, dict[Slot, Claim]] = {}
        self.leases: dict[int, tuple[str, str]] = {}
        """Lease -> (service, node)."""
        self._next_lease = 1
        self._watchers: list[Watcher] = []
        self._cuts: dict[str, int] = {}
        self._away: dict[str, tuple[int, int]] = {}
        """Node -> (lease, when etcd ends it unless it is kept alive before)."""

    # -- watching ---------------------------------------------------------------------------------------------

    def watch(self, process: Process, service: str, told: Callable[[], None]) -> Watcher:
        """A view of a service that follows the truth; complete at once."""
        watcher = Watcher(self, process, service, told)
        watcher.view.peers.update(self.peers.get(service, {}))
        watcher.view.claims.update(self.claims.get(service, {}))
        watcher.view.revision = self.revision
        self._watchers = [known for known in self._watchers if known.current]
        self._watchers.append(watcher)
        return watcher

    def _tell(
        self,
        service: str,
        node: str,
        peer: Peer | None = None,
        slot: Slot | None = None,
        claim: Claim | None = None,
    ) -> None:
        for watcher in self._watchers:
            if watcher.service == service and watcher.current:
                watcher.tell(self.revision, node, peer, slot, claim)

    def reachable_at(self, process: Process) -> int:
        """When a process that is cut off reaches etcd again."""
        return max(self._cuts.get(process.name, 0), self.silent_until)

    def reaches(self, process: Process) -> bool:
        """Whether a process reaches etcd now."""
        return self.world.now >= self.reachable_at(process)

    # -- leases -----------------------------------------------------------------------------------------------

    def join(self, process: Process, *, counts: bool = True) -> None:
        """A lease and a record under it. Unless it `counts`, the process may not act on it yet."""
        lease = self._next_lease
        self._next_lease += 1
        process.lease = lease
        if counts:
            process.deadline_us = 0
        self.leases[lease] = (process.service, process.incarnation)
        self.revision += 1
        peer = Peer(process.incarnation, lease)
        self.peers.setdefault(process.service, {})[process.incarnation] = peer
        self._tell(process.service, process.incarnation, peer)

    def silence(self, process: Process) -> None:
        """Nobody keeps the lease of a process alive from now on: it has been kept alive up to half a second ago."""
        world = self.world
        if process.name in self._away or not process.lease:
            return
        since = world.now - int(world.rng.random() * KEEP_ALIVE)
        process.deadline_us = since + LEASE_TTL
        ends = process.deadline_us + world.between(0, 500)
        self._away[process.name] = (process.lease, ends)
        world.after(ends - world.now, self._expire, process.name, process.lease)

    def heard(self, process: Process) -> bool:
        """The process keeps its lease alive again. False when that has ended meanwhile."""
        self._away.pop(process.name, None)
        if process.lease in self.leases:
            process.deadline_us = 0
            return True
        return False

    def forget(self, process: Process) -> None:
        """The process has started again: what its last life left ends by itself."""
        away = self._away.pop(process.name, None)
        if away is not None:
            lease, ends = away
            self.world.after(max(0, ends - self.world.now), self._expire_lease, lease)

    def _expire_lease(self, lease: int) -> None:
        if self.world.now < self.silent_until:
            self.world.after(self.silent_until + LEASE_TTL - self.world.now, self._expire_lease, lease)
            return
        self.revoke(lease)

    def drain(self, process: Process) -> None:
        """The process takes no more slots and gives away what it has."""
        self.revision += 1
        peer = Peer(process.incarnation, process.lease, takes=False)
        self.peers[process.service][process.incarnation] = peer
        self._tell(process.service, process.incarnation, peer)

    def revoke(self, lease: int) -> None:
        """The lease ends, and everything under it."""
        found = self.leases.pop(lease, None)
        if found is None:
            return
        service, node = found
        self.revision += 1
        peer = self.peers[service].get(node)
        if peer is not None and peer.lease == lease:
            del self.peers[service][node]
            self._tell(service, node)
        claims = self.claims.get(service, {})
        for slot in [slot for slot, claim in claims.items() if claim.lease == lease]:
            del claims[slot]
            self._tell(service, node, slot=slot)

    def _expire(self, name: str, lease: int) -> None:
        away = self._away.get(name)
        if away is None or away[0] != lease:
            return
        if (
            self.world.now < self.silent_until
        ):  # a cluster that comes back gives every lease its whole time again
            self.world.after(self.silent_until + LEASE_TTL - self.world.now, self._expire, name, lease)
            return
        self.revoke(lease)

    def cut(self, process: Process, until: int) -> None:
        """A process does not reach etcd for a while."""
        self._cuts[process.name] = until
        process.cut_off = True
        self.silence(process)

    def fall_silent(self, until: int, processes: list[Process]) -> None:
        """etcd answers nobody for a while; leases go on when it is back."""
        self.silent_until = until
        for process in processes:
            if process.alive and process.name not in self._away:
                since = self.world.now - int(self.world.rng.random() * KEEP_ALIVE)
                process.deadline_us = since + LEASE_TTL

    # -- claims -----------------------------------------------------------------------------------------------

    def put(self, service: str, slot: Slot, node: str, lease: int) -> Claim:
        """The claim, whatever was there."""
        self.revision += 1
        claim = Claim(node, self.revision, lease)
        self.claims.setdefault(service, {})[slot] = claim
        self._tell(service, node, slot=slot, claim=claim)
        return claim

    def take(self, service: str, slots: tuple[Slot, ...], node: str, lease: int) -> bool:
        """Claims slots that nobody has: all or none."""
        claims = self.claims.setdefault(service, {})
        if lease not in self.leases or any(slot in claims for slot in slots):
            return False
        for slot in slots:
            self.put(service, slot, node, lease)
        return True

    def give(self, service: str, slots: tuple[tuple[Slot, int], ...], target: Peer) -> bool:
        """Hands slots over: all or none."""
        claims = self.claims.setdefault(service, {})
        if target.lease not in self.leases:
            return False
        if any(slot not in claims or claims[slot].epoch != epoch for slot, epoch in slots):
            return False
        for slot, _ in slots:
            self.put(service, slot, target.incarnation, target.lease)
        return True


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
            lambda: self._etcd.take(service, (slot,), me, lease), lambda _: self._regained(slot)
        )

    def _regained(self, slot: Slot) -> None:
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
        for slot in [s for s in self._acquired if s not in self._orphans and not self._mine(s, me, lease)]:
            self.owned.pop(slot, None)
            self._let_go(slot)
        for slot, claim in list(claims.items()):
            if (
                claim.node == me
                and claim.lease == lease
                and slot not in self._busy
                and slot not in self._orphans
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
        if slot in self._busy:
            return
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
            lambda: self._etcd.take(service, effect.slots, me, lease), lambda _: self._took(effect.slots)
        )

    def _took(self, slots: tuple[Slot, ...]) -> None:
        self._taking = False
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
            if slot in self._busy or self.owned.get(slot) != epoch:
                continue
            del self.owned[slot]
            self._acquired.pop(slot)
            self._busy.add(slot)
            self._release(slot, epoch, False, lambda s=slot, e=epoch: self._parted(s, e, effect.target))  # type: ignore[misc]

    def _parted(self, slot: Slot, epoch: int, target: Peer) -> None:
        service = self._process.service

        def given(_: bool) -> None:
            self._learn((slot,))
            self._again(slot)

        self._transaction(lambda: self._etcd.give(service, ((slot, epoch),), target), given)

    def _transaction(self, work: Callable[[], bool], done: Callable[[bool], None]) -> None:
        """A transaction that may not be answered; then the watch tells what became of it."""
        world, process = self._world, self._process
        if not self._etcd.reaches(process):
            process.after(SECOND, done, False)
            return
        world.after(world.delay(), self._carried_out, process.starts, work, done)

    def _carried_out(self, life: int, work: Callable[[], bool], done: Callable[[bool], None]) -> None:
        if self._process.starts != life:
            return
        result = work()
        self._process.after(SECOND if self._world.lost() else self._world.delay(), done, result)
