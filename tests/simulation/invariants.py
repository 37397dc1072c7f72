"""What has to hold whatever fails, watched while a schedule runs and looked at when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.allocation import Slot
from services.agent_state.effects import Grant
from services.agent_state.machine import Phase as AgentPhase
from services.sip_cluster.calls import Refusal, Told
from services.sip_cluster.tlib import EventType
from tests.simulation.events import THREAD
from tests.simulation.phones import CallerState
from tests.simulation.store import BUDGET
from tests.simulation.world import MS, SLOW_MS

if TYPE_CHECKING:
    from tests.simulation.platform import Platform

ONE_OWNER = "one owner of a slot acts"
ONE_GRANT = "an agent is reserved for one"
ONCE = "every request has one effect"
TRIGGER = "a route request starts one session"
EVENTS = "streams are gapless and complete"
FORGOTTEN = "no caller is forgotten"
LOST = "no established call is lost"
BUSY = "no agent is left busy"
ANSWERED = "every request is answered"
COUNTED = "every event counts once"


OVERLAP = BUDGET + int(SLOW_MS * MS)
"""How long after an heir has begun an effect of its predecessor may leave that a fenced write has let pass before."""


class Watch:
    """Looks on."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._acting: dict[tuple[str, Slot], int] = {}
        self._since: dict[tuple[str, Slot], int] = {}
        self._granted: dict[str, tuple[str, int, int, int]] = {}
        """Agent -> token, until, calls offered to the agent before, whether it was given back."""
        self._outcomes: dict[str, int] = {}
        self._over: set[str] = set()
        self._attached: dict[str, bool] = {}
        """Requests for user data -> whether they were granted."""
        self.asked: dict[str, bool] = {}
        """Requests of clients -> whether they were answered."""

    # -- while it runs ----------------------------------------------------------------------------------------

    def acts(self, service: str, slot: Slot, epoch: int) -> None:
        """An owner begins: what it reads now is the truth from now on."""
        known = self._acting.get((service, slot), 0)
        if epoch > known:
            self._acting[service, slot] = epoch
            self._since[service, slot] = self._platform.world.now
        self._platform.world.trace(service, f"slot {slot} is owned under {epoch}")
        if service == "sip_cluster":
            self._unprotected(slot)

    def _unprotected(self, slot: Slot) -> None:
        """A call that went on because Redis did not answer in time, and whose node was lost before Redis did: it is
        counted, not kept (design §6)."""
        for node in self._platform.wire.nodes.values():
            for entry in node.threads.values():
                if entry.thread.slot == slot and entry.unprotected and not entry.closed:
                    self._platform.world.excused = f"{entry.thread.id} was unprotected when its node was lost"

    def acted(self, service: str, slot: Slot, epoch: int, what: object) -> None:
        """An effect left for a slot. One that a fenced write has let pass may leave while the write's answer is on its way,
        which is as long as a write may take: so much both owners may overlap."""
        acting = self._acting.get((service, slot), 0)
        if epoch < acting and self._platform.world.now - self._since[service, slot] > OVERLAP:
            self._platform.world.violated(
                ONE_OWNER, f"{service} slot {slot}: {what} under epoch {epoch}, the owner has {acting}"
            )

    def outcome(self, request: str, outcome: Told | Refusal) -> None:
        """A request was carried out."""
        if not isinstance(outcome, Told):
            return
        before = self._outcomes.setdefault(request, outcome.seq)
        if before != outcome.seq:
            self._platform.world.violated(
                ONCE, f"{request} told by event {before} and by event {outcome.seq}"
            )

    def granted(self, agent_id: str, grant: Grant) -> None:
        """A client learnt that it has an agent."""
        offered = len(self._platform.wire.phones[f"sip:{agent_id[1:]}"].offered)
        known = self._granted.get(agent_id)
        now = self._platform.world.now
        if known is not None and known[0] != grant.token:
            token, until, before, given = known
            if until > now and not given and before == offered:
                self._platform.world.violated(
                    ONE_GRANT, f"{agent_id} has {token} until {until}, and {grant.token}"
                )
        if known is None or known[0] != grant.token:
            self._granted[agent_id] = (grant.token, grant.until_us, offered, 0)

    def attached(self, request: str, granted: bool) -> None:
        """A client learnt what became of its user data."""
        self._attached[request] = granted

    def given_back(self, agent_id: str, token: str) -> None:
        """A reservation was given back."""
        known = self._granted.get(agent_id)
        if known is not None and known[0] == token:
            self._granted[agent_id] = (*known[:3], 1)

    def put(self, name: str, key: str, there: bool) -> None:
        """A field was stored or removed."""
        if name != "sessions":
            return
        if not there:
            self._over.add(key)
        elif key in self._over:
            self._platform.world.violated(TRIGGER, f"session {key} lives again")

    # -- when it is over --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Looks at everything that should have come to rest."""
        for check in (
            self._callers,
            self._phones,
            self._streams,
            self._threads,
            self._agents,
            self._sessions,
            self._asked,
        ):
            if not self._platform.world.violations:
                check()

    def _say(self, invariant: str, text: str) -> None:
        self._platform.world.violated(invariant, text)

    def _callers(self) -> None:
        for caller in self._platform.wire.callers.values():
            if caller.state is not CallerState.DONE:
                self._say(FORGOTTEN, f"{caller.call_id} is still {caller.state.name}, dialog {caller.key}")
            elif caller.outcome not in ("talked", "cancelled"):
                self._say(FORGOTTEN, f"{caller.call_id} was turned away with {caller.outcome}")

    def _phones(self) -> None:
        for phone in self._platform.wire.phones.values():
            for talk in phone.active:
                self._say(LOST, f"{phone.uri} is still {talk.life.name} in call {talk.conn_id}")

    def _streams(self) -> None:
        streams = self._platform.streams
        for key, stream in streams.by_key.items():
            seqs = [entry.envelope.seq for entry in stream.entries]
            if seqs != list(range(1, len(seqs) + 1)):
                self._say(EVENTS, f"stream {key}: {seqs}")
        for _, (thread, _, call_id) in self._platform.known_calls.items():
            found = streams.by_key.get(thread)
            if found is None or not found.entries:
                continue  # it died before anything was told
            if found.entries[-1].envelope.event.event_type != int(EventType.CALL_DELETED):
                self._say(EVENTS, f"the stream of {thread} ({call_id}) does not end with CallDeleted")

    def _threads(self) -> None:
        for slot in range(self._platform.THREAD_SLOTS):
            node = self._platform.node(self._platform.owner("call_state", slot)[0])
            state = node.states.get(slot) if node is not None else None
            if state is None:
                self._say(ONE_OWNER, f"nobody serves slot {slot} of call_state")
                return
            journal = self._platform.streams.journal(THREAD, slot)
            last: dict[str, int] = {}
            for entry in journal.items:
                last[entry.envelope.stream_key] = entry.envelope.seq
            for key, seq in last.items():
                thread = state.threads.get(key)
                if thread is None or thread.last_seq != seq or not thread.ended_us or thread.missing:
                    self._say(COUNTED, f"thread {key}: folded {thread and thread.last_seq} of {seq}")

    def _agents(self) -> None:
        platform = self._platform
        now = platform.world.now
        desk = self._desk()
        for phone in platform.wire.phones.values():
            slot = platform.agent_slot(f"agent:{phone.agent}")
            node = platform.node(platform.owner("agent_state", slot)[0])
            held = node.held.get(slot) if node is not None else None
            agent = held.state.agents.get(f"{platform.TENANT}:{phone.agent}") if held is not None else None
            if agent is None:
                self._say(BUSY, f"agent {phone.agent} is not known")
                return
            session = agent.session
            if session.calls or session.phase is not AgentPhase.READY:
                self._say(BUSY, f"agent {phone.agent}: {session.phase.name}, calls {sorted(session.calls)}")
            reserved = agent.reservation.held
            if reserved is not None and reserved.until_us > now + 600_000_000:
                self._say(BUSY, f"agent {phone.agent} is reserved until {reserved.until_us}")
            if desk is None:
                self._say(ONE_OWNER, "nobody serves the tenant")
                return
            view = desk.router.roster.agents.get(phone.agent)
            why = view.why_not(now) if view is not None else "unknown"
            if why:
                self._say(BUSY, f"the tenant takes agent {phone.agent} for {why}")

    def _desk(self) -> Any:
        node = self._platform.node(self._platform.owner("tenant", self._platform.TENANT)[0])
        return node.desks.get(self._platform.TENANT) if node is not None else None

    def _sessions(self) -> None:
        store, queues = self._platform.store, self._platform.queues
        for slot in range(self._platform.THREAD_SLOTS):
            left = store.data("orchestration", slot).hashes.get("sessions")
            if left:
                self._say(ANSWERED, f"sessions are left: {sorted(left)}")
        for queue, entries in queues.entries.items():
            if entries and queue.startswith("route_requests"):
                self._say(ANSWERED, f"queue {queue} has {sorted(entries)}")

    def _asked(self) -> None:
        found: dict[str, int] = {}
        for stream in self._platform.streams.by_key.values():
            for entry in stream.entries:
                if entry.envelope.WhichOneof("body") == "request":
                    ident = entry.envelope.requester.request_id
                    found[ident] = found.get(ident, 0) + 1
        for request, granted in self._attached.items():
            if found.get(request, 0) != 1 and (granted or request in found):
                self._say(
                    ONCE,
                    f"{request} was {'granted' if granted else 'refused'} and is told {found.get(request, 0)} times",
                )
        for request, answered in self.asked.items():
            if not answered:
                self._say(ANSWERED, f"request {request} has no outcome")
