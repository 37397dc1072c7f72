"""What events and snapshots say about agents."""

from __future__ import annotations

import pytest
from voice.agent_state.v1.agent_pb2 import Agent, AgentPhase, Reservation
from voice.tenant.v1.routing_pb2 import RouteRequest, Target, TargetType
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from services.tenant.agents import Change, Presence
from services.tenant.facts import agent_change, agent_view, call_change, request_of
from services.tenant.targets import TargetError


def event(name: str, **fields: object) -> Event:
    number = MessageType.Value(f"MESSAGE_TYPE_EVENT_{name}")
    return Event(event_type=number, this_dn="1001", conn_id=5, **fields)  # type: ignore[arg-type]


def on_dn(dn: str) -> str:
    return "a1" if dn == "1001" else ""


@pytest.mark.parametrize(
    ("told", "change"),
    [
        (event("RINGING"), Change("a1", call_joined=5)),
        (event("RELEASED", agent_id="a2"), Change("a2", call_left=5)),
        (event("DIVERTED"), Change("a1", call_left=5)),
        (event("PARTY_CHANGED", previous_conn_id=4), Change("a1", call_joined=5, call_left=4)),
        (event("PARTY_CHANGED", previous_conn_id=5), None),
        (event("PARTY_CHANGED"), None),
        (event("HELD"), None),
    ],
)
def test_call_events(told: Event, change: Change | None) -> None:
    assert call_change(told, on_dn) == change


def test_a_call_of_a_dn_without_an_agent_says_nothing() -> None:
    told = event("RINGING")
    told.this_dn = "1999"
    assert call_change(told, on_dn) is None


def test_an_agents_own_events_and_copies_of_ends_count_and_copies_of_beginnings_do_not() -> None:
    ready = EventEnvelope(event=event("AGENT_READY", agent_id="a1"))
    assert agent_change(ready, on_dn) == Change("a1", presence=Presence.READY, dn="1001")
    for name, change in (("RELEASED", Change("a1", call_left=5)), ("RINGING", None)):
        copy = EventEnvelope(cause="call:thread/4", event=event(name, agent_id="a1"))
        assert agent_change(copy, on_dn) == change, name


@pytest.mark.parametrize(("client", "by"), [("tenant", "r1:2"), ("desk", "")])
def test_only_reservations_of_routers_are_taken_up(client: str, by: str) -> None:
    held = Reservation(token="t", client=client, until_us=9, request_id="r1:2")
    agent = Agent(agent_id="a1", phase=AgentPhase.AGENT_PHASE_READY, reservation=held)
    assert (agent_view(agent).reserved_by, agent_view(agent).reserved_until_us) == (by, 9)


def test_a_request_whose_id_no_ask_can_have_is_refused() -> None:
    target = Target(type=TargetType.TARGET_TYPE_AGENT, expression="a1")
    assert request_of(RouteRequest(request_id="s.5.1:2", targets=[target]), 7).request_id == "s.5.1:2"
    for wrong in ("", "a b", "x" * 117):
        with pytest.raises(TargetError, match="request_id"):
            request_of(RouteRequest(request_id=wrong, targets=[target]), 7)
