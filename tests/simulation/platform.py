"""The whole platform in one process: services of a schedule, what they share, and the calls between them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mesh.allocation import Slot
from mesh.config_objects import Dn, RoutePoint
from mesh.stable_hash import fnv1a64
from services.agent_state.effects import Grant
from services.agent_state.reservation import Ask as Reservation
from services.sip_cluster import inputs
from services.sip_cluster.calls import Ask, CallThread, Contact, DeviceType, Purpose, Resolution
from services.sip_cluster.outcomes import NO_ROUTE
from tests.simulation.agents import AgentStateNode
from tests.simulation.calls import Outcome, SipNode
from tests.simulation.desks import TenantNode
from tests.simulation.etcd import Etcd, Watcher, settled
from tests.simulation.events import AGENT, AgentLog, Queues, Streams
from tests.simulation.invariants import Watch
from tests.simulation.schedule import Schedule
from tests.simulation.sessions import OrchestrationNode
from tests.simulation.store import Store
from tests.simulation.threads import CallStateNode
from tests.simulation.wire import Key, Wire
from tests.simulation.world import MS, Process, World

NODES: dict[str, type[Any]] = {
    "sip_cluster": SipNode,
    "call_state": CallStateNode,
    "agent_state": AgentStateNode,
    "tenant": TenantNode,
    "orchestration": OrchestrationNode,
}
PAUSES = (20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS)
"""Between attempts of a call to an owner (mesh.discovery.OwnerClient)."""


@lru_cache(maxsize=4096)
def _hash(text: str) -> int:
    return fnv1a64(text) >> 7


class Config:
    """The configuration: one route point with an application."""

    def __init__(self, route_point: str) -> None:
        settings = RoutePoint("http://apps/queue.scxml", "", (), (), 300_000)
        self._dn = Dn("t1", 1, 1, {}, route_point, 4, "s1", True, "", None, settings, "")  # type: ignore[arg-type]

    def route_point(self, tenant: str, dn: str) -> Dn:
        """See mesh.config_view.ConfigView.route_point."""
        return self._dn


class Platform:
    """Everything of one schedule."""

    ROUTE_POINT = "5000"
    NOWHERE = NO_ROUTE
    TENANT = "t1"
    SIP_SLOTS = 4
    THREAD_SLOTS = 2
    AGENT_SLOTS = 2
    KEYS: dict[str, tuple[Slot, ...]] = {  # noqa: RUF012
        "sip_cluster": tuple(range(SIP_SLOTS)),
        "call_state": tuple(range(THREAD_SLOTS)),
        "orchestration": tuple(range(THREAD_SLOTS)),
        "agent_state": tuple(range(AGENT_SLOTS)),
        "tenant": (TENANT,),
    }

    def __init__(
        self, schedule: Schedule, *, tracing: bool = False, mutations: frozenset[str] = frozenset()
    ) -> None:
        self.schedule = schedule
        rng = random.Random(f"run {schedule.seed}")
        self.world = World(schedule.seed, rng, schedule.weather, tracing=tracing, mutations=mutations)
        self.watch = Watch(self)
        self.config = Config(self.ROUTE_POINT)
        self.etcd = Etcd(self.world)
        self.store = Store(self.world)
        self.store.on_put = self.watch.put
        self.streams = Streams(self.world, self._stream_slot)
        self.queues = Queues(self.world)
        self.log = AgentLog(self.world, self.agent_slot)
        self.processes: dict[str, Process] = {}
        self.nodes: dict[str, Any] = {}
        """By incarnation, those that live or stand still."""
        self.known_calls: dict[int, tuple[str, int, str]] = {}
        """ConnID -> thread, SIP slot, Call-ID: what the identifiers say by themselves."""
        self.contacts: dict[Key, str] = {}
        self.revived = 0
        self._calls = 0
        self._directories: dict[str, Watcher] = {}
        outside = Process(self.world, "outside", 0)
        outside.begin()
        self.outside = outside
        """Proxies and clients: they never fail here."""
        self._begin_all()
        self.wire = Wire(self.world, self.etcd, outside)
        for service in NODES:
            self._directories[service] = self.etcd.watch(outside, service, lambda: None)
        for process in self.processes.values():
            self.nodes[process.incarnation] = NODES[process.service](self, process)
        for node in self.nodes.values():
            node.slots.start(settled_already=True)

    def _begin_all(self) -> None:
        for service, count in self.schedule.nodes.items():
            for index in range(count):
                process = Process(self.world, service, index)
                self.processes[process.name] = process
                process.begin()
                self.etcd.join(process)
            names = tuple(self.processes[f"{service}-{index}"].incarnation for index in range(count))
            leases = {process.incarnation: process.lease for process in self.processes.values()}
            for slot, node in settled(self.KEYS[service], names).items():
                self.etcd.put(service, slot, node, leases[node])

    # -- names and numbers ------------------------------------------------------------------------------------

    def keys(self, service: str) -> tuple[Slot, ...]:
        """Slots of a service."""
        return self.KEYS[service]

    def next_call(self) -> int:
        """A number for a call: ConnID, CallUUID and thread."""
        self._calls += 1
        return self._calls

    def thread_slot(self, thread: str) -> int:
        """Slot of a call thread."""
        return _hash(thread) % self.THREAD_SLOTS

    def agent_slot(self, subject: str) -> int:
        """Slot of an agent or DN."""
        return _hash(subject) % self.AGENT_SLOTS

    def _stream_slot(self, family: str, key: str) -> int:
        return self.agent_slot(key) if family == AGENT else self.thread_slot(key)

    def call_id_of(self, thread: str) -> str:
        """Call-ID of the caller's INVITE of a thread."""
        return next(call_id for known, _, call_id in self.known_calls.values() if known == thread)

    # -- the dial plan ----------------------------------------------------------------------------------------

    def dial_plan(self, ask: Ask, thread: CallThread) -> Resolution | None:
        """What a number means."""
        if ask.purpose is Purpose.ARRIVAL:
            return Resolution(self.TENANT, DeviceType.ROUTE_POINT, self.ROUTE_POINT,
                              caller_number=thread.from_number, caller_trunk="9000", routing_timeout_ms=300_000)  # fmt: skip
        number = ask.destination.removeprefix("a")
        uri = f"sip:{number}"
        if uri not in self.wire.phones:
            return None
        agent = f"a{number}"
        return Resolution(
            self.TENANT, DeviceType.AGENT, number, contacts=(Contact(uri),), agent_id=agent, no_answer_s=8
        )

    # -- who has what -----------------------------------------------------------------------------------------

    def owner(self, service: str, slot: Slot) -> tuple[str, int]:
        """Incarnation and epoch of a slot's owner as clients see it."""
        claim = self._directories[service].view.claims.get(slot)
        return (claim.node, claim.epoch) if claim is not None else ("", 0)

    def agent_owners(self) -> dict[int, str]:
        """Owners of the agent slots that have one."""
        claims = self._directories["agent_state"].view.claims
        return {int(slot): claim.node for slot, claim in claims.items()}

    def node(self, incarnation: str) -> Any:
        """A node that can answer now; None for one that is dead, stands still or is unknown."""
        node = self.nodes.get(incarnation)
        if node is None or node.process.incarnation != incarnation:
            return None
        return node if node.process.alive and not node.process.stopped else None

    # -- requests to owners -----------------------------------------------------------------------------------

    def execute(
        self,
        process: Process,
        asked: inputs.RequestInput,
        timeout: int,
        told: Callable[[str, Outcome | None], None],
    ) -> None:
        """SipNodeService.Execute at the owner of the call's slot."""
        slot = self.known_calls[asked.request.conn_id][1]
        OwnerCall(
            self, process, "sip_cluster", slot, lambda node, reply: node.execute(asked, reply), timeout, told
        ).attempt()

    def reserve(
        self,
        process: Process,
        tenant: str,
        agent_id: str,
        ask: Reservation,
        timeout: int,
        told: Callable[[str, Grant | None], None],
    ) -> None:
        """AgentStateService.ReserveAgent at the owner of the agent's slot: a grant, or why there is none."""

        def answered(reason: str, grant: Grant | None) -> None:
            if grant is not None:
                self.watch.granted(agent_id, grant)
            told(reason, grant)

        def send(node: AgentStateNode, reply: Callable[[str, Grant | None], None]) -> None:
            node.reserve(tenant, agent_id, ask, reply)

        slot = self.agent_slot(f"agent:{agent_id}")
        OwnerCall(self, process, "agent_state", slot, send, timeout, answered).attempt()

    def give_back(self, process: Process, tenant: str, agent_id: str, token: str, timeout: int) -> None:
        """AgentStateService.CancelReservation."""

        def send(node: AgentStateNode, reply: Callable[[str, Any], None]) -> None:
            node.cancel(tenant, agent_id, token, lambda reason: reply(reason, None))

        slot = self.agent_slot(f"agent:{agent_id}")
        OwnerCall(self, process, "agent_state", slot, send, timeout, lambda reason, _: None).attempt()


class OwnerCall:
    """A request to the owner of a slot, the same again through fail-overs until its deadline (mesh.discovery.OwnerClient)."""

    def __init__(
        self,
        platform: Platform,
        process: Process,
        service: str,
        slot: Slot,
        send: Callable[[Any, Callable[[str, Any], None]], None],
        timeout: int,
        told: Callable[[str, Any], None],
    ) -> None:
        self._platform = platform
        self._world = platform.world
        self._process = process
        self._life = process.starts
        self._service = service
        self._slot = slot
        self._send = send
        self._deadline = self._world.now + timeout
        self._told = told
        self._number = 0
        self._over = False

    def attempt(self) -> None:
        """Sends the request to the present owner."""
        if self._over:
            return
        world = self._world
        if world.now >= self._deadline:
            self._finish("REASON_TIMEOUT", None)
            return
        self._number += 1
        number = self._number
        incarnation, epoch = self._platform.owner(self._service, self._slot)
        node = self._platform.nodes.get(incarnation)
        if node is None or not node.process.alive or node.process.incarnation != incarnation:
            self._again(number)
            return
        self._look(number, epoch)
        if world.lost():
            self._process.after(world.delay(), self._again, number)
            return
        world.after(world.delay(), node.process.receive, self._serve, node, number)

    def _serve(self, node: Any, number: int) -> None:
        self._send(node, lambda reason, answer: self._answer(node, number, reason, answer))

    def _answer(self, node: Any, number: int, reason: str, answer: Any) -> None:
        world = self._world
        if self._process.starts != self._life or node.process.incarnation not in self._platform.nodes:
            return
        if world.lost():
            self._process.after(world.delay(), self._again, number)
        else:
            self._process.after(world.delay(), self._answered, number, reason, answer)

    def _answered(self, number: int, reason: str, answer: Any) -> None:
        if reason == "REASON_NOT_OWNER":
            self._again(number)
        else:
            self._finish(reason, answer)

    def _look(self, number: int, epoch: int) -> None:
        """While there is no answer: whether the slot has moved."""
        if self._over or number != self._number:
            return
        if self._world.now >= self._deadline:
            self._finish("REASON_TIMEOUT", None)
        elif self._platform.owner(self._service, self._slot)[1] != epoch:
            self.attempt()
        else:
            self._process.after(min(500 * MS, self._deadline - self._world.now), self._look, number, epoch)

    def _again(self, number: int) -> None:
        if not self._over and number == self._number:
            self._process.after(PAUSES[min(number, len(PAUSES) - 1)], self.attempt)

    def _finish(self, reason: str, answer: Any) -> None:
        if not self._over:
            self._over = True
            self._told(reason, answer)
