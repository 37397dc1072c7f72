"""Records of a slot: those that can be gone on with are, whatever the others are like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from voice.error.v1.reason_pb2 import Reason
from voice.record.v1.sip_call_pb2 import SIP_PENDING_KIND_ANSWER_BYE, SipCall, SipLeg
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import DomainError
from mesh.telemetry import Metrics
from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.entry import Entry
from services.sip_cluster.numbers import Numbers
from services.sip_cluster.records import to_record
from services.sip_cluster.remembered import Remembered
from services.sip_cluster.restoring import Restoring
from tests.unit.sip_cluster.driver import Driver, extension

EPOCH = 77


class Around:
    """The node, its snapshots, its publisher and its takeover, as far as restoring knows them."""

    def __init__(self, stored: dict[str, bytes], lost: Iterable[int] = ()) -> None:
        self.stored = stored
        self.lost = list(lost)
        self.removed: list[str] = []
        self.adopted: list[tuple[Entry, list[do.Effect]]] = []
        self.told: list[tuple[int, int]] = []
        self.fed: list[inputs.Input] = []
        self.fenced: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        """Last sequence numbers of streams."""
        self.over: dict[tuple[str, int], list[int]] = {}
        """Calls whose end the stream tells behind a sequence number."""
        self.refusal: DomainError | None = None
        self.remembered = Remembered()

    async def read(self, slot: int) -> dict[str, bytes]:
        return dict(self.stored)

    async def remove(self, slot: int, epoch: int, thread: str) -> None:
        self.removed.append(thread)

    async def fence(self, epochs: Mapping[str, int]) -> Mapping[str, int]:
        if self.refusal is not None:
            raise self.refusal
        self.fenced.update(epochs)
        return self.ends

    async def ended(self, stream: str, seq: int) -> list[int]:
        return self.over[stream, seq]

    def take(self, entry: Entry, record: SipCall) -> list[int]:
        return self.lost

    def again(self, entry: Entry, envelopes: Iterable[EventEnvelope], epoch: int) -> None:
        self.told += [(envelope.seq, epoch) for envelope in envelopes]

    def adopt(self, entry: Entry, effects: Iterable[do.Effect]) -> None:
        self.adopted.append((entry, list(effects)))

    def feed(self, entry: Entry, fact: inputs.Input) -> bool:
        self.fed.append(fact)
        return True


def restoring(around: Around) -> tuple[Restoring, Numbers]:
    numbers = Numbers(Metrics("sip_cluster", CollectorRegistry()))
    fake: Any = around
    return Restoring(fake, fake, fake, fake, numbers, around.fence, around.ended), numbers


def value(counter: Any) -> float:
    return float(counter._value.get())


def ringing() -> SipCall:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    record = to_record(driver.thread)
    record.display, record.max_forwards = "Alice", 42
    record.unacknowledged.add(seq=3, epoch=5)
    return record


async def test_calls_go_on_and_their_events_are_told_again_under_our_epoch() -> None:
    record = ringing()
    around = Around({record.id: record.SerializeToString()})
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    ((entry, effects),) = around.adopted
    assert (entry.display, entry.max_forwards, entry.thread.id) == ("Alice", 42, record.id)
    assert around.told == [(3, EPOCH)]
    assert effects == []
    assert (value(numbers.restored), value(numbers.unrestorable)) == (1, 0)


async def test_a_bye_that_was_taken_and_perhaps_not_answered_is_remembered() -> None:
    record = ringing()
    record.pending.add(kind=SIP_PENDING_KIND_ANSWER_BYE, leg=7, local_tag="v1011-gone")
    around = Around({record.id: record.SerializeToString()})
    restore, _ = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert around.remembered.has_left("v1011-gone")
    ((_, effects),) = around.adopted
    assert effects == []


async def test_a_record_that_cannot_be_read_is_counted_and_removed() -> None:
    record = ringing()
    around = Around({"broken": b"\xff\xff\xff", record.id: record.SerializeToString()})
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert around.removed == ["broken"]
    assert len(around.adopted) == 1
    assert (value(numbers.restored), value(numbers.unrestorable)) == (1, 1)


async def test_a_record_without_sense_keeps_no_other_waiting() -> None:
    record, senseless = ringing(), ringing()
    senseless.id = "senseless"
    senseless.legs.append(SipLeg(id=8, state=99))  # type: ignore[arg-type]
    around = Around({one.id: one.SerializeToString() for one in (senseless, record)})
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert [entry.thread.id for entry, _ in around.adopted] == [record.id]
    assert (value(numbers.restored), value(numbers.unrestorable)) == (1, 1)


async def test_legs_that_nothing_can_be_done_with() -> None:
    """One that is being called has failed; with any other the call ends."""
    record = ringing()
    around = Around({record.id: record.SerializeToString()}, lost=[leg.id for leg in record.legs])
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    caller, called = (leg.id for leg in record.legs)
    assert around.fed == [inputs.LegLost(caller), inputs.Failed(called, 503)]
    assert value(numbers.unrestorable) == 1


async def test_streams_are_fenced_and_numbers_that_are_taken_are_not_given_again() -> None:
    record = ringing()
    around = Around({record.id: record.SerializeToString()})
    around.ends = {record.id: record.seq + 2}
    around.over[record.id, record.seq] = []
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert around.fenced == {record.id: EPOCH}
    ((entry, _),) = around.adopted
    assert entry.thread.seq == record.seq + 2
    assert value(numbers.behind) == 1
    assert around.fed == []


async def test_a_call_whose_end_is_in_the_stream_has_ended() -> None:
    record = ringing()
    around = Around({record.id: record.SerializeToString()})
    around.ends = {record.id: record.seq + 4}
    around.over[record.id, record.seq] = [record.conn_id]
    restore, _ = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert around.fed == [inputs.CallsEnded([record.conn_id])]


async def test_a_stream_with_a_newer_owner_is_left_to_it() -> None:
    record = ringing()
    around = Around({record.id: record.SerializeToString()})
    around.refusal = DomainError(Reason.REASON_STALE_EPOCH, "below the fence")
    restore, _ = restoring(around)
    with pytest.raises(DomainError):
        await restore.read(17, EPOCH)


async def test_calls_are_taken_over_without_redis_queue() -> None:
    record = ringing()
    around = Around({record.id: record.SerializeToString()})
    around.refusal = DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "no node answers")
    restore, numbers = restoring(around)
    restore.take(await restore.read(17, EPOCH), EPOCH)
    assert (value(numbers.restored), value(numbers.behind)) == (1, 0)
