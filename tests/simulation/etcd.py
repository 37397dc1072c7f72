"""etcd as the platform uses it: leases, records of nodes, claims of slots with revisions, watches that tell late.

The decisions are those of `mesh.handover.decide`; what mesh does around it with asyncio (`mesh/slots.py`, `mesh/holdings.py`)
is modelled by `Slots`: one slot at a time is acquired, served, released, and what the watch shows is followed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.allocation import Slot, allocate
from mesh.handover import Claim, Peer, View
from tests.simulation.world import KEEP_ALIVE, LEASE_TTL, Process, World

if TYPE_CHECKING:
    Told = Callable[["View"], None]


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
