"""Each invariant holds for a run in which all went well, and finds the history that breaks it: a check that cannot fail is
no check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mesh.identifiers import agent_slot, new_call_uuid
from tests.chaos.facts import (
    AgentAtEnd,
    CallerCall,
    Claim,
    ClientRequest,
    Facts,
    PhoneCall,
    QueueAtEnd,
    RecordsAtEnd,
    SeenEvent,
    SlotAtEnd,
    StreamEvent,
)
from tests.chaos.invariants import CHECKS, violations

FIRST, HEIR = "sip_cluster-0.aaaaaaaa", "sip_cluster-1.bbbbbbbb"
AGENT_OWNER = "agent_state-0.cccccccc"
SLOT = 7
THREAD, OTHER = (new_call_uuid(1, SLOT, 1_800_000_000_000, number) for number in (1, 2))
NAMES = ("CALL_CREATED", "QUEUED", "RINGING", "REQUEST", "ESTABLISHED", "RELEASED", "CALL_DELETED")
AGENT_STREAM = "t1:A1001"


def thread(stream: str, conn_id: int, begins: float) -> list[StreamEvent]:
    """A routed call's events: the heir's from ESTABLISHED on."""
    return [
        StreamEvent(
            stream=stream, family="thread", entry=seq, seq=seq, epoch=20 if seq > 4 else 10, node=HEIR if seq > 4 else FIRST,
            tenant="t1", name=name, at=begins + seq, event_id=f"{stream}/{seq}", conn_id=conn_id,
            agent_id="A1001" if name in ("RINGING", "ESTABLISHED", "RELEASED") else "",
            this_dn="1001", request_id="r1" if name == "REQUEST" and stream == THREAD else "",
        )
        for seq, name in enumerate(NAMES, 1)
    ]  # fmt: skip


def agent_event(seq: int) -> StreamEvent:
    return StreamEvent(
        stream=AGENT_STREAM, family="agent", entry=seq, seq=seq, epoch=5, node=AGENT_OWNER, tenant="t1", name="AGENT_READY",
        at=1.0, event_id=f"{AGENT_STREAM}/{seq}", agent_id="A1001",
    )  # fmt: skip


def good() -> Facts:
    """Two calls one after the other, a SIP node that died between, a request, an agent at rest."""
    events = [*thread(THREAD, 1, 100.0), *thread(OTHER, 2, 200.0), agent_event(1), agent_event(2)]
    agent_home = str(agent_slot("t1", "agent:A1001"))
    return Facts(
        calls=[CallerCall("c1", "t1", "routed", 100.0, 103.0, 105.0, 106.0), CallerCall("c2", "t1", "direct", 200.0, refused=503)],
        phones=[PhoneCall("p1", "t1", "1001", 103.0, 105.0, 106.0), PhoneCall("p2", "t1", "1001", 203.0, 205.0, 206.0)],
        claims=[
            Claim("sip_cluster", str(SLOT), FIRST, 10, 10),
            Claim("sip_cluster", str(SLOT), "", 15),
            Claim("sip_cluster", str(SLOT), HEIR, 20, 20),
            Claim("agent_state", agent_home, AGENT_OWNER, 5, 5),
        ],
        events=events,
        slot_order={"thread/1": [(e.stream, e.seq) for e in events if e.stream == THREAD]},
        seen=[SeenEvent("t1", e.stream, e.seq, e.event_id, e.at) for e in events if e.name != "REQUEST"],
        agents=[AgentAtEnd("t1", "A1001", "READY"), AgentAtEnd("t1", "A1011", "NOT_READY", expected="NOT_READY")],
        slots=[SlotAtEnd("sip_cluster", str(SLOT), HEIR, 20)],
        queues=[QueueAtEnd("route_requests:t1", 0)],
        requests=[ClientRequest("r1", "AttachUserData", 103.0, 103.2, "ok", 2, ("UNAVAILABLE",))],
        slot_counts={"sip_cluster": 1},
    )  # fmt: skip


def event(facts: Facts, seq: int, **changes: object) -> None:
    """Changes the event of that seq in the first thread."""
    index = next(i for i, e in enumerate(facts.events) if (e.stream, e.seq) == (THREAD, seq))
    facts.events[index] = replace(facts.events[index], **changes)  # type: ignore[arg-type]


def without(facts: Facts, seq: int) -> None:
    facts.events = [e for e in facts.events if (e.stream, e.seq) != (THREAD, seq)]


def call(**changes: object) -> Callable[[Facts], None]:
    def change(facts: Facts) -> None:
        facts.calls[0] = replace(facts.calls[0], **changes)  # type: ignore[arg-type]

    return change


def phone(**changes: object) -> Callable[[Facts], None]:
    def change(facts: Facts) -> None:
        facts.phones[0] = replace(facts.phones[0], **changes)  # type: ignore[arg-type]

    return change


def agent(**changes: object) -> Callable[[Facts], None]:
    def change(facts: Facts) -> None:
        facts.agents[0] = replace(facts.agents[0], **changes)  # type: ignore[arg-type]

    return change


def request(**changes: object) -> Callable[[Facts], None]:
    def change(facts: Facts) -> None:
        facts.requests[0] = replace(facts.requests[0], **changes)  # type: ignore[arg-type]

    return change


def told_again(facts: Facts) -> None:
    facts.seen.append(facts.seen[2])


def doubled_in_the_slot(facts: Facts) -> None:
    facts.slot_order["thread/1"].insert(2, (THREAD, 2))


def effect_twice(facts: Facts) -> None:
    event(facts, 5, name="REQUEST", request_id="r1")


BROKEN: dict[str, tuple[str, Callable[[Facts], object]]] = {
    "an established call is dropped": ("lost_calls", call(ended_at=None, lost="its BYE got 481")),
    "a BYE without an answer": ("lost_calls", call(ended_at=None)),
    "a phone that nobody told": ("legs_left_behind", phone(ended_at=None)),
    "a phone that rings for ever": ("legs_left_behind", phone(ended_at=None, established_at=None)),
    "an event is missing": ("gaps", lambda f: without(f, 3)),
    "the beginning is missing": ("gaps", lambda f: without(f, 1)),
    "an old owner published late": ("gaps", lambda f: event(f, 6, epoch=10, node=FIRST)),
    "an entry under another number": ("gaps", lambda f: event(f, 6, entry=9)),
    "an event twice under two numbers": ("gaps", lambda f: event(f, 6, event_id=f"{THREAD}/5")),
    "a call without its end": ("whole_calls", lambda f: without(f, 7)),
    "a call deleted twice": ("whole_calls", lambda f: event(f, 6, name="CALL_DELETED")),
    "a call that was never created": ("whole_calls", lambda f: event(f, 1, name="QUEUED")),
    "an event twice in its slot": ("slot_streams", doubled_in_the_slot),
    "an event not in its slot": ("slot_streams", lambda f: f.slot_order["thread/1"].pop()),
    "a client hears an event twice": ("told_to_clients", told_again),
    "a client never hears an event": ("told_to_clients", lambda f: f.seen.pop(1)),
    "a client heard what is not there": ("told_to_clients", lambda f: event(f, 2, event_id="another")),
    "a slot taken while another had it": ("claims", lambda f: f.claims.pop(1)),
    "a claim put over one's own": ("claims", lambda f: f.claims.append(Claim("sip_cluster", str(SLOT), HEIR, 30, 20))),
    "an epoch nobody has claimed": ("publishers", lambda f: event(f, 2, epoch=11)),
    "a publisher who did not own the slot": ("publishers", lambda f: event(f, 2, node=HEIR)),
    "two owners at the end": ("owners_at_the_end", lambda f: f.slots.append(SlotAtEnd("sip_cluster", str(SLOT), FIRST, 10))),
    "a slot without an owner": ("owners_at_the_end", lambda f: f.slots.clear()),
    "a node that never came back": ("everybody_back", lambda f: f.missing.update({"tenant-1": "has not joined"})),
    "two calls at one phone": ("two_calls_at_once", phone(ended_at=204.5)),
    "two calls at one agent by the events": ("two_calls_at_once", lambda f: event(f, 6, at=204.0)),
    "an agent with a call for ever": ("left_busy", agent(calls=(1,))),
    "an agent reserved for ever": ("left_busy", agent(reserved=True)),
    "an agent who never got ready again": ("left_busy", agent(phase="BUSY_READY")),
    "a caller without any answer": ("forgotten", call(answered_at=None, ended_at=None, forgotten=True)),
    "a routing request that waits": ("left_waiting", lambda f: f.queues.append(QueueAtEnd("route_requests:t2", 1))),
    "a call's snapshot that is left": ("records_left", lambda f: f.records.append(RecordsAtEnd("{sip_cluster:7}:calls", (THREAD,)))),
    "a request without an answer": ("unanswered", request(answered_at=None, outcome="")),
    "a request that acted twice": ("done_twice", effect_twice),
    "a granted request without effect": ("done_twice", lambda f: event(f, 4, request_id="")),
}  # fmt: skip


def test_a_run_in_which_all_went_well_breaks_nothing() -> None:
    assert violations(good()) == []


@pytest.mark.parametrize("story", BROKEN)
def test_a_broken_history_is_found_by_its_check(story: str) -> None:
    name, breaks = BROKEN[story]
    facts = good()
    breaks(facts)
    check = next(check for check in CHECKS if check.__name__ == name)
    assert list(check(facts)), story


def test_every_check_has_a_history_that_breaks_it() -> None:
    assert {name for name, _ in BROKEN.values()} == {check.__name__ for check in CHECKS}


def test_an_heir_may_publish_in_its_predecessors_words() -> None:
    facts = good()
    event(facts, 5, node=FIRST)  # made by the first owner, published by the heir under the heir's epoch
    assert violations(facts) == []


def test_a_phone_may_have_an_old_and_a_new_leg_of_a_call_for_a_moment() -> None:
    facts = good()
    phone(ended_at=203.4)(facts)
    assert violations(facts) == []
