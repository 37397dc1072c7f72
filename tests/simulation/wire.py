"""SIP between the platform and its phones: datagrams that get lost, doubled and late, and proxies that know each slot's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.world import MS, SECOND, Process, World

if TYPE_CHECKING:
    from tests.simulation.calls import SipNode
    from tests.simulation.etcd import Etcd
    from tests.simulation.phones import Caller, Phone

T1 = 500 * MS
T2 = 4 * SECOND
GIVE_UP = 32 * SECOND
"""64·T1: how long a transaction is tried (RFC 3261 §17)."""


class Key(NamedTuple):
    """A dialog: what the tags of a leg say."""

    thread: str
    slot: int
    leg: int


class Wire:
    """What phones and nodes send each other."""

    def __init__(self, world: World, etcd: Etcd, proxy: Process) -> None:
        self.world = world
        self._proxy = proxy
        self.watcher = etcd.watch(proxy, "sip_cluster", lambda: None)
        self.nodes: dict[str, SipNode] = {}
        """By incarnation."""
        self.phones: dict[str, Phone] = {}
        """By URI."""
        self.callers: dict[str, Caller] = {}
        """By Call-ID."""
        self.ending: set[Key] = set()
        """Dialogs for which a CANCEL or BYE of the platform is on its way."""

    def owner(self, slot: int) -> str:
        """Incarnation of the slot's owner as the proxies see it; empty when there is none."""
        claim = self.watcher.view.claims.get(slot)
        return claim.node if claim is not None else ""

    def epoch(self, slot: int) -> int:
        """Epoch of that claim."""
        claim = self.watcher.view.claims.get(slot)
        return claim.epoch if claim is not None else 0

    def alive(self, incarnation: str) -> bool:
        """Whether the proxies see the node."""
        return incarnation in self.watcher.view.peers

    def choose(self) -> str:
        """A node for a new dialog."""
        peers = list(self.watcher.view.peers)
        return peers[int(self.world.rng.random() * len(peers))] if peers else ""

    # -- to nodes ---------------------------------------------------------------------------------------------

    def to_owner(self, key: Key, what: str) -> None:
        """A message in a dialog, to whoever owns its slot when the proxy has it."""
        for delay in self._arrivals():
            self.world.after(delay, self._reach_owner, key, what)

    def invite(self, node: str, caller: Caller) -> None:
        """INVITE of a caller, to a node."""
        for delay in self._arrivals():
            self.world.after(delay, self._reach_node, node, "on_invite", caller)

    def cancel(self, node: str, caller: Caller) -> None:
        """CANCEL of that INVITE."""
        for delay in self._arrivals():
            self.world.after(delay, self._reach_node, node, "on_cancel", caller)

    def _reach_owner(self, key: Key, what: str) -> None:
        node = self._living(self.owner(key.slot))
        if node is not None:
            node.process.receive(node.on_message, key, what)

    def _reach_node(self, incarnation: str, method: str, caller: Caller) -> None:
        node = self._living(incarnation)
        if node is not None:
            node.process.receive(getattr(node, method), caller)

    def _living(self, incarnation: str) -> SipNode | None:
        """The node of an incarnation; None when its process is dead or has begun another life."""
        node = self.nodes.get(incarnation)
        return node if node is not None and node.process.incarnation == incarnation else None

    # -- to phones --------------------------------------------------------------------------------------------

    def to_phone(self, uri: str, key: Key, what: str, conn_id: int) -> None:
        """A message to an agent's phone."""
        phone = self.phones[uri]
        for delay in self._arrivals():
            self.world.after(delay, phone.receive, key, what, conn_id)

    def to_caller(self, call_id: str, key: Key, what: str) -> None:
        """A message to a caller."""
        caller = self.callers[call_id]
        for delay in self._arrivals():
            self.world.after(delay, caller.receive, key, what)

    def _arrivals(self) -> tuple[int, ...]:
        world = self.world
        if world.lost():
            return ()
        if world.weather.double and world.chance(world.weather.double):
            return (world.delay(), world.delay())
        return (world.delay(),)
