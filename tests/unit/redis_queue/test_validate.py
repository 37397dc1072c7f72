"""What publishers and readers may send."""

from __future__ import annotations

import pytest
from voice.redis_queue.v1 import queue_service_pb2 as pb

from mesh.errors import DomainError
from services.redis_queue import entry_id, validate
from services.redis_queue.settings import RedisQueueSettings
from tests.integration.redis_queue.cluster import envelope

THREAD, AGENT = pb.StreamFamily.STREAM_FAMILY_THREAD, pb.StreamFamily.STREAM_FAMILY_AGENT


def test_a_good_event() -> None:
    assert validate.event_problem(THREAD, envelope("call-1", 1), 100) == ""
    assert validate.event_problem(AGENT, envelope("t1:1001", 1), 100) == ""


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("stream_key", "", "stream_key"),
        ("stream_key", "a b", "stream_key"),
        ("stream_key", "x" * 129, "stream_key"),
        ("seq", 0, "seq"),
        ("seq", 1 << 53, "seq"),
        ("epoch", -1, "epoch"),
        ("tenant", "", "tenant"),
        ("tenant", "T1", "tenant"),
        ("event_id", "call-1/2", "event_id"),
    ],
)
def test_a_bad_event_is_told_by_field(field: str, value: object, named: str) -> None:
    event = envelope("call-1", 1)
    setattr(event, field, value)
    assert validate.event_problem(THREAD, event, 100).startswith(named)


def test_more_that_is_wrong_with_events() -> None:
    event = envelope("call-1", 1)
    assert "bytes" in validate.event_problem(THREAD, event, 128 * 1024 + 1)
    assert validate.event_problem(AGENT, event, 100).startswith("stream_key")  # an agent's names its tenant
    event.ClearField("event")
    assert validate.event_problem(THREAD, event, 100).startswith("body")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ReadSlotsRequest(slots=[pb.SlotCursor(slot=1)]), "family"),
        (pb.ReadSlotsRequest(family=THREAD, slots=[pb.SlotCursor(slot=256)]), "slots[0].slot"),
        (pb.ReadSlotsRequest(family=THREAD, slots=[pb.SlotCursor(slot=1)] * 2), "slots"),
        (pb.ReadSlotsRequest(family=THREAD, tenant="T!"), "tenant"),
    ],
)
def test_a_bad_request_for_slots(request_: pb.ReadSlotsRequest, field: str) -> None:
    with pytest.raises(DomainError) as raised:
        validate.read_slots(request_)
    assert field in [name for name, _ in raised.value.violations]


def test_bad_queue_requests() -> None:
    for name in ("", "other:x", "outcomes:", "route_answers:" + "x" * 101, "outcomes:a b"):
        with pytest.raises(DomainError):
            validate.queue(name).done()
    with pytest.raises(DomainError) as raised:
        validate.enqueue(pb.EnqueueRequest(queue="outcomes:fe", entries=[pb.QueueEntry()]))
    assert raised.value.violations[0][0] == "entries[0].id"
    with pytest.raises(DomainError):
        validate.acknowledge(pb.AcknowledgeRequest(queue="outcomes:fe"))


@pytest.mark.parametrize("text", ["", "x", "1", "1-", "-1", "1-2-3", "18446744073709551616-0", "1-1 "])
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        entry_id.parse(text)


def test_cursors_compare_as_streams_do() -> None:
    assert entry_id.parse("0") == entry_id.ORIGIN
    assert entry_id.parse(b"12-3") == (12, 3)
    assert entry_id.show((12, 3)) == "12-3"
    assert entry_id.parse("9-1") < entry_id.parse("10-0") < entry_id.parse("10-1")


def test_all_wrong_settings_are_told_at_once() -> None:
    problems = RedisQueueSettings(stream_events=1, sweep_s=0).validate()
    assert [line.split(":")[0] for line in problems] == [
        "VOICEMESH_REDIS_QUEUE_STREAM_EVENTS",
        "VOICEMESH_REDIS_QUEUE_SWEEP_S",
    ]
