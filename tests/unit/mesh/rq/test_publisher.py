"""What the publisher remembers, sends again and lets go; its links stand still here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.redis_queue.v1.queue_service_pb2 import PublishResult
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq import publisher as module
from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import Nodes
from mesh.rq.publish_link import Pending
from mesh.rq.publisher import AppendRefused, Publisher
from mesh.rq.route import THREAD
from mesh.telemetry import Metrics

GOOD = PublishResult(last_seq=1, epoch=1)


class StillLink:
    """Keeps what it is given."""

    made: list[StillLink]

    def __init__(self, *_: Any) -> None:
        self.incarnation = "redis_queue-0.00000001"
        self.given: list[Pending] = []
        StillLink.made.append(self)

    def send(self, pending: Pending) -> None:
        pending.sent = True
        self.given.append(pending)

    def take(self) -> list[Pending]:
        """What has to be sent, in order: as a link does when it starts again."""
        self.given.clear()
        return self.publisher.waiting_for(self)  # type: ignore[arg-type]

    publisher: Publisher


class OneNode:
    def nodes(self) -> list[NodeRecord]:
        return [
            NodeRecord(
                node="redis_queue-0",
                incarnation="redis_queue-0.00000001",
                state=NodeState.NODE_STATE_SERVING,
            )
        ]

    def on_change(self, callback: Any) -> Any:
        return lambda: None

    def channel(self, record: NodeRecord) -> Any:
        raise AssertionError("nothing is called")


@pytest.fixture
async def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setattr(module, "PublishLink", StillLink)
    StillLink.made = []
    nodes = Nodes(OneNode())
    nodes.start()
    made = Publisher(nodes, THREAD, 1000, ClientMetrics(Metrics("test")))
    StillLink.publisher = made
    return made


def event(key: str, seq: int, epoch: int = 1) -> EventEnvelope:
    return EventEnvelope(event_id=f"{key}/{seq}", stream_key=key, seq=seq, epoch=epoch)


def append(publisher: Publisher, key: str, *seqs: int, epoch: int = 1) -> list[asyncio.Future[None]]:
    return [publisher.append(event(key, seq, epoch)) for seq in seqs]


def settle(publisher: Publisher, result: PublishResult = GOOD) -> list[bool]:
    """Answers everything that waits."""
    link = StillLink.made[0]
    return [publisher.settle(link, pending, result) for pending in link.take()]  # type: ignore[arg-type]


def order(publisher: Publisher) -> list[str]:
    return [pending.envelope.event_id for pending in StillLink.made[0].take()]


async def test_acknowledged_events_go_before_what_waits(publisher: Publisher) -> None:
    append(publisher, "a", 1, 2)
    append(publisher, "b", 1)
    settle(publisher)
    append(publisher, "a", 3)
    publisher.recall()
    assert order(publisher) == ["a/1", "a/2", "a/3", "b/1"]
    assert publisher.pending == 4
    settle(publisher)
    assert publisher.pending == 0
    publisher.recall()  # the order of remembering stays
    assert order(publisher) == ["a/1", "a/2", "a/3", "b/1"]


async def test_an_event_that_was_repeated_is_sent_again_once(publisher: Publisher) -> None:
    for _ in range(3):
        append(publisher, "a", 1)
        settle(publisher)
    publisher.recall()
    assert order(publisher) == ["a/1"]
    settle(publisher)
    assert publisher.pending == 0
    assert await publisher.flush(0.1)


async def test_a_gap_is_filled_with_what_is_remembered_or_passed(publisher: Publisher) -> None:
    gap = PublishResult(reason="REASON_SEQUENCE_GAP", last_seq=1, epoch=1)
    append(publisher, "a", 1, 2, 3)
    settle(publisher)
    append(publisher, "a", 4)
    assert settle(publisher, gap) == [False]
    assert order(publisher) == ["a/1", "a/2", "a/3", "a/4"]
    assert not publisher.resumes(StillLink.made[0].take())
    settle(publisher)
    heirs = append(publisher, "b", 7)
    assert settle(publisher, gap) == [False]
    assert publisher.resumes(StillLink.made[0].take())  # nothing is remembered: it may go on behind the gap
    assert settle(publisher, gap) == [True]
    with pytest.raises(AppendRefused, match="SEQUENCE_GAP"):  # no store has changed: a mistake
        await heirs[0]
    assert publisher.pending == 0


async def test_what_was_given_away_is_let_go(publisher: Publisher) -> None:
    append(publisher, "a", 1)
    settle(publisher)
    (lost,) = append(publisher, "a", 2)
    late = StillLink.made[0].take()
    append(publisher, "b", 1)
    publisher.forget(["a"])
    assert lost.cancelled()
    publisher.settle(StillLink.made[0], late[0], GOOD)  # type: ignore[arg-type]
    publisher.recall()
    assert order(publisher) == ["b/1"]
    assert publisher.pending == 1


async def test_a_higher_epoch_takes_the_place_of_what_waits(publisher: Publisher) -> None:
    old = append(publisher, "a", 1, 2, 3)
    with pytest.raises(ValueError, match="waits for acknowledgement already"):
        append(publisher, "a", 2)
    append(publisher, "a", 2, epoch=4)
    assert [done.cancelled() for done in old] == [False, True, True]
    assert order(publisher) == ["a/1", "a/2"]
    assert publisher.pending == 2


async def test_a_recalled_event_that_an_heir_has_replaced_is_nobodys_error(publisher: Publisher) -> None:
    append(publisher, "a", 1)
    settle(publisher)
    publisher.recall()
    stale = PublishResult(reason="REASON_STALE_EPOCH", last_seq=3, epoch=9)
    assert settle(publisher, stale) == [True]
    assert publisher.pending == 0
