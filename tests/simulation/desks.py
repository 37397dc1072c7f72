"""A Tenant node: the real router and the real reading of events, requests and answers; what `services/tenant/desk.py` does with tasks
is done here with virtual time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from voice.tenant.v1.routing_pb2 import RouteRequest
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.allocation import Slot
from services.agent_state.effects import Grant
from services.agent_state.record import message
from services.agent_state.reservation import Ask
from services.tenant import facts
from services.tenant.agents import Change
from services.tenant.asking import RESERVATION_MS, RESERVE_TIMEOUT_S
from services.tenant.desk import LIST_TIMEOUT_S, RETRY_S
from services.tenant.effects import Found, GiveBack, NotFound, Reserve
from services.tenant.inputs import (
    AgentChanged,
    AgentSeen,
    Cancel,
    Denied,
    Granted,
    Input,
    Rebuilt,
    Submit,
    Tick,
    Update,
)
from services.tenant.machine import Router
from services.tenant.targets import Matcher
from tests.simulation.events import AGENT, THREAD, Entry, QueueReader, Reader
from tests.simulation.slots import Slots
from tests.simulation.store import Line, SlotData
from tests.simulation.world import MS, SECOND, Process

if TYPE_CHECKING:
    from tests.simulation.platform import Platform

LIST_TIMEOUT = int(LIST_TIMEOUT_S * SECOND)
RETRY = int(RETRY_S * SECOND)
RESERVE_TIMEOUT = int(RESERVE_TIMEOUT_S * SECOND)
RESERVATION = RESERVATION_MS * MS


class People:
    """Everybody is called by login code and has one skill."""

    def levels(self, agent_id: str) -> dict[str, int]:
        """See targets.People."""
        return {"Voice": 5}

    def logins_named(self, name: str) -> frozenset[str]:
        """See targets.People."""
        return frozenset({name})

    def group(self, name: str) -> tuple[frozenset[str], str] | None:
        """See targets.People."""
        return None

    def place_dns(self, name: str) -> frozenset[str] | None:
        """See targets.People."""
        return None


class Desk:
    """One tenant at work."""

    def __init__(self, node: TenantNode, tenant: str, epoch: int) -> None:
        self.platform = node.platform
        self.process = node.process
        self.world = node.platform.world
        self.tenant = tenant
        self.router = Router(Matcher(People()), rebuilding=True)
        self._node = node
        self._epoch = epoch
        self._queue = f"route_requests:{tenant}"
        self._open = True
        self._readers: list[Reader | QueueReader] = []
        self._early: list[Entry] | None = []
        """Events from before the agents were met."""
        self._entries: dict[str, tuple[RouteRequest, list[str]]] = {}
        self._seen_seq: dict[str, int] = defaultdict(int)
        self._on_dn: dict[str, str] = {}
        self._tick_due = 0
        self._asking = 0
        """Number of the latest question for agents."""

    # -- beginning and end ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Follows all slots from now on, meets the agents, then reads the requests."""
        streams = self.platform.streams
        for family, slots in ((AGENT, self.platform.AGENT_SLOTS), (THREAD, self.platform.THREAD_SLOTS)):
            for slot in range(slots):
                journal = streams.journal(family, slot)
                self._readers.append(journal.follow(self.process, len(journal.items), self._events))
        self._meet(set(range(self.platform.AGENT_SLOTS)))

    def end(self) -> None:
        """The tenant is somebody else's."""
        self._open = False
        for reader in self._readers:
            reader.close()

    def _meet(self, missing: set[int]) -> None:
        """ListAgents of one owner after the other, until every slot has been told of."""
        if not self._open or self._early is None:
            return
        if not missing:
            self._met()
            return
        self._asking += 1
        number = self._asking
        node = self.platform.node(self.platform.owner("agent_state", min(missing))[0])
        if node is None:
            self.process.after(RETRY, self._ask_again, number, missing)
            return
        self.world.after(
            self.world.delay(), node.process.receive, self._list, node, missing, self.process.starts, number
        )
        self.process.after(LIST_TIMEOUT, self._ask_again, number, missing)

    def _ask_again(self, number: int, missing: set[int]) -> None:
        if number == self._asking:
            self._meet(missing)

    def _list(self, node: Any, missing: set[int], life: int, number: int) -> None:
        told = [message(agent, self.world.now) for agent in node.agents() if agent.session.logged_in]
        if life == self.process.starts:
            self.process.after(self.world.delay(), self._listed, told, set(node.held), missing, number)

    def _listed(self, agents: list[Any], slots: set[int], missing: set[int], number: int) -> None:
        if not self._open or number != self._asking:
            return
        for agent in agents:
            if self.platform.agent_slot(f"agent:{agent.agent_id}") in missing & slots:
                self._seen_seq[f"{self.tenant}:{agent.agent_id}"] = agent.last_seq
                self._on_dn[agent.dn] = agent.agent_id
                self._handle(AgentSeen(facts.agent_view(agent)))
        if slots & missing:
            self._meet(missing - slots)
        else:
            self.process.after(RETRY, self._ask_again, number, missing)

    def _met(self) -> None:
        early, self._early = self._early or [], None
        self._events(early, 0)
        self._readers.append(
            self.platform.queues.read(self.process, self._queue, self._take_request, self._rebuilt)
        )

    def _rebuilt(self) -> None:
        if self.router.rebuilding:
            self._handle(Rebuilt())

    # -- what comes in ----------------------------------------------------------------------------------------

    def _events(self, entries: Sequence[Entry], cursor: int) -> None:
        if self._early is not None:
            self._early += entries
            return
        for entry in entries:
            self._event(entry.envelope)

    def _event(self, envelope: EventEnvelope) -> None:
        if envelope.WhichOneof("body") != "event":
            return
        if envelope.stream_key == envelope.call_thread_id:
            change = facts.call_change(envelope.event, self._agent_on)
        elif envelope.seq <= self._seen_seq[envelope.stream_key]:
            return
        else:
            self._seen_seq[envelope.stream_key] = envelope.seq
            change = facts.agent_change(envelope, self._agent_on)
        if change is not None:
            self._remember_dn(change)
            self._handle(AgentChanged(change))

    def _agent_on(self, dn: str) -> str:
        return self._on_dn.get(dn, "")

    def _remember_dn(self, change: Change) -> None:
        if change.dn:
            self._on_dn[change.dn] = change.agent_id

    def _take_request(self, ident: str, payload: tuple[int, RouteRequest]) -> None:
        submitted_us, request = payload
        known = self._entries.get(request.request_id)
        if request.operation == RouteRequest.OPERATION_SUBMIT:
            held = self._entries.setdefault(request.request_id, (request, []))
            if ident not in held[1]:
                held[1].append(ident)
            self._handle(Submit(facts.request_of(request, submitted_us)))
        elif known is None:
            self._pass(lambda: self.platform.queues.acknowledge(self.process, self._queue, (ident,)))
        else:
            known[1].append(ident)
            cancel = request.operation == RouteRequest.OPERATION_CANCEL
            self._handle(
                Cancel(request.request_id) if cancel else Update(request.request_id, request.priority)
            )

    # -- what is done -----------------------------------------------------------------------------------------

    def _handle(self, item: Input) -> None:
        for effect in self.router.handle(item, self.world.now):
            if isinstance(effect, Reserve):
                self._pass(lambda ask=effect: self._reserve(ask))  # type: ignore[misc]
            elif isinstance(effect, GiveBack):
                self._give_back(effect.agent_id, effect.token)
            else:
                self._answer(effect)
        due = self.router.next_us()
        if due is not None and due != self._tick_due:
            self._tick_due = due
            self.process.after(max(0, due - self.world.now), self._tick, due)

    def _tick(self, due: int) -> None:
        if self._open and self._tick_due == due:
            self._tick_due = 0
            self._handle(Tick())

    def _pass(self, act: Callable[[], None]) -> None:
        """What leaves passes the tenant's gate."""
        self._node.line.gate(self.tenant, self._epoch, lambda good: act() if good and self._open else None)

    def _reserve(self, ask: Reserve) -> None:
        self.platform.watch.acted("tenant", self.tenant, self._epoch, ask)
        request = Ask(f"{ask.request_id}:{ask.attempt}", facts.CLIENT, ask.priority, RESERVATION, True)
        self.platform.reserve(self.process, self.tenant, ask.agent_id, request, RESERVE_TIMEOUT,
                              lambda reason, grant: self._reserved(ask, reason, grant))  # fmt: skip

    def _reserved(self, ask: Reserve, reason: str, grant: Grant | None) -> None:
        if not self._open:
            return
        if grant is None:
            self._handle(Denied(ask.request_id, ask.agent_id, unknown=reason == "REASON_TIMEOUT"))
        else:
            self._handle(Granted(ask.request_id, ask.agent_id, grant.token, grant.until_us))

    def _give_back(self, agent_id: str, token: str) -> None:
        self._pass(
            lambda: self.platform.give_back(self.process, self.tenant, agent_id, token, RESERVE_TIMEOUT)
        )

    def _answer(self, answer: Found | NotFound) -> None:
        """The request leaves the queue only when its answer is in the other."""
        entry = self._entries.pop(answer.request_id, None)
        if entry is None:
            return
        request, idents = entry
        told = facts.answer_message(request, answer)
        queues, process = self.platform.queues, self.process

        def acknowledge() -> None:
            queues.acknowledge(process, self._queue, idents)

        if "answered" in self.world.mutations:
            self._pass(acknowledge)
            self.process.after(
                300 * MS, queues.enqueue, process, request.answer_queue, told.request_id, told, _nothing
            )
            return
        self._pass(lambda: queues.enqueue(process, request.answer_queue, told.request_id, told, acknowledge))


def _nothing() -> None:
    """Nothing follows."""


class TenantNode:
    """One node: a desk for each tenant it owns."""

    def __init__(self, platform: Platform, process: Process) -> None:
        self.platform = platform
        self.process = process
        self.line = Line(process, platform.store)
        self.desks: dict[Slot, Desk] = {}
        self.slots = Slots(process, platform.etcd, platform.keys("tenant"), self._acquire, self._release)

    def _acquire(self, slot: Slot, epoch: int, done: Callable[[bool], None]) -> None:
        def taken(data: SlotData | None) -> None:
            if data is None:
                done(False)
                return
            self.platform.watch.acts("tenant", slot, epoch)
            desk = self.desks[slot] = Desk(self, str(slot), epoch)
            desk.begin()
            done(True)

        self.line.take_over(slot, epoch, taken)

    def _release(self, slot: Slot, epoch: int, lost: bool, done: Callable[[], None]) -> None:
        self._end(slot)
        done()

    def _end(self, slot: Slot) -> None:
        desk = self.desks.pop(slot, None)
        if desk is not None:
            desk.end()
