"""Filters and ReferenceIDs."""

from __future__ import annotations

import pytest
from voice.tlib.v1.envelope_pb2 import EventEnvelope, Requester
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.event_service_pb2 import SubscribeRequest
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import Request

from mesh.rates import Rates
from services.front_end.subscription import Filter, for_client

RINGING = MessageType.MESSAGE_TYPE_EVENT_RINGING
EVENT = EventEnvelope(
    call_thread_id="thread-1",
    requester=Requester(client="agent:a1", reference_id=7, request_id="agent:a1/q7"),
    event=Event(event_type=RINGING, this_dn="1001", agent_id="a1", conn_id=5),
)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (SubscribeRequest(), True),
        (SubscribeRequest(types=[RINGING]), True),
        (SubscribeRequest(types=[MessageType.MESSAGE_TYPE_EVENT_HELD]), False),
        (SubscribeRequest(dns=["1001"]), True),
        (SubscribeRequest(dns=["1002"]), False),
        (SubscribeRequest(agents=["a1"]), True),
        (SubscribeRequest(agents=["a2"]), False),
        (SubscribeRequest(call_threads=["thread-1"]), True),
        (SubscribeRequest(call_threads=["thread-2"]), False),
        (SubscribeRequest(types=[RINGING], dns=["1002"]), False),
    ],
)
def test_filters(wanted: SubscribeRequest, passes: bool) -> None:
    assert Filter.of(wanted).passes(EVENT) is passes


def test_user_data_requests_are_not_for_clients() -> None:
    assert not Filter.of(SubscribeRequest()).passes(EventEnvelope(request=Request(client="x")))


def test_copies_in_an_agents_stream_are_not_for_clients() -> None:
    copy = EventEnvelope(call_thread_id="thread-1", cause="call:thread-1/4", event=EVENT.event)
    assert not Filter.of(SubscribeRequest()).passes(copy)


def test_a_client_sees_only_its_own_reference_ids() -> None:
    own = for_client(EVENT, "agent:a1")
    assert (own.event.reference_id, own.requester.request_id) == (7, "q7")
    foreign = for_client(EVENT, "agent:a2")
    assert foreign.event.reference_id == 0
    assert not foreign.HasField("requester")
    assert foreign.event.conn_id == 5


def test_a_tenant_gets_its_rate_and_no_more() -> None:
    rates = Rates()
    assert sum(rates.take("t1", 10, 0.0) for _ in range(30)) == 10
    assert sum(rates.take("t1", 10, 0.5) for _ in range(30)) == 5
    assert sum(rates.take("t2", 10, 0.5) for _ in range(30)) == 10
    assert all(rates.take("t3", 0, 0.5) for _ in range(30))
    assert sum(rates.take("t4", 0.5, 0.0) for _ in range(3)) == 1
    assert not rates.take("t4", 0.5, 1.0)
    assert rates.take("t4", 0.5, 2.0)
