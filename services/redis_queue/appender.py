"""Appending: what arrives in one turn of the loop, from all publishers, goes to Redis in one round trip."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import PublishResult, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.telemetry import Metrics, logger
from services.redis_queue import entry_id, scripts
from services.redis_queue.entry_id import EntryId
from services.redis_queue.follower import Follower
from services.redis_queue.store import Item, Outcome, Store, slot_key

Slot = tuple[StreamFamily.ValueType, int]

FLUSH_EVENTS = 2000
"""Events of one round trip at most: bounds how long Redis is busy for one script batch."""
BACKLOG_EVENTS = 50_000
"""Events waiting for Redis at most; beyond that they are refused with QUEUE_FULL."""

_REASONS = {
    scripts.STALE: Reason.REASON_STALE_EPOCH,
    scripts.GAP: Reason.REASON_SEQUENCE_GAP,
    scripts.DIFFERENT: Reason.REASON_ALREADY_EXISTS,
}


@dataclass(frozen=True, slots=True)
class Submission:
    """An event that passed validation."""

    slot: Slot
    item: Item
    envelope: EventEnvelope


@dataclass(slots=True)
class _Batch:
    submissions: Sequence[Submission]
    done: asyncio.Future[list[PublishResult]]
    submitted: float = field(default_factory=time.monotonic)


def refusal(reason: Reason.ValueType, last_seq: int = 0, epoch: int = 0, message: str = "") -> PublishResult:
    """The result of an event that is not in its stream."""
    return PublishResult(reason=Reason.Name(reason), last_seq=last_seq, epoch=epoch, message=message)


class Appender:
    """The one writer of event streams in this process: batches are carried out in the order they came."""

    def __init__(self, store: Store, follower: Follower, metrics: Metrics) -> None:
        self._store = store
        self._follower = follower
        self._log = logger("appender")
        self._waiting: deque[_Batch] = deque()
        self._backlog = 0
        self._wake = asyncio.Event()
        metrics.queue("append_backlog", lambda: self._backlog, "Events waiting for Redis")
        self._appended = metrics.counter("events_appended_total", "Events that became part of a stream")
        self._duplicates = metrics.counter("events_duplicate_total", "Events that were there already")
        self._resumed = metrics.counter("streams_resumed_total", "Streams that went on behind a gap")
        self._lost = metrics.counter("events_lost_total", "Events in such gaps: Redis had acknowledged them")
        self._refused = metrics.counter("events_refused_total", "Events refused", ["reason"])
        self._size = metrics.histogram(
            "append_batch_events", "Events of one round trip", buckets=(1, 2, 5, 10, 20, 50, 100, 500, 2000)
        )
        self._latency = metrics.histogram("append_seconds", "From arrival to the answer of Redis")

    def submit(self, submissions: Sequence[Submission]) -> asyncio.Future[list[PublishResult]]:
        """Takes a batch; the future gets its results in order. Futures are done in the order of the calls."""
        done: asyncio.Future[list[PublishResult]] = asyncio.get_running_loop().create_future()
        if self._backlog and self._backlog + len(submissions) > BACKLOG_EVENTS:
            self._refused.labels("REASON_QUEUE_FULL").inc(len(submissions))
            done.set_result([refusal(Reason.REASON_QUEUE_FULL) for _ in submissions])
            return done
        self._waiting.append(_Batch(submissions, done))
        self._backlog += len(submissions)
        self._wake.set()
        return done

    async def run(self) -> None:
        """Flushes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if batches := self._take():
                    await self._flush(batches)

    def _take(self) -> list[_Batch]:
        """The next round trip, without what publishers that have gone had left."""
        batches: list[_Batch] = []
        size = 0
        while self._waiting and (not size or size + len(self._waiting[0].submissions) <= FLUSH_EVENTS):
            batch = self._waiting.popleft()
            if batch.done.cancelled():
                self._backlog -= len(batch.submissions)
                continue
            batches.append(batch)
            size += len(batch.submissions)
        return batches

    async def _flush(self, batches: list[_Batch]) -> None:
        everything = [submission for batch in batches for submission in batch.submissions]
        groups: dict[Slot, list[Submission]] = defaultdict(list)
        for submission in everything:
            groups[submission.slot].append(submission)
        self._size.observe(len(everything))
        results = await self._append(groups)
        self._backlog -= len(everything)
        streams = {slot: iter(found) for slot, found in results.items()}
        now = time.monotonic()
        for batch in batches:
            self._latency.observe(now - batch.submitted)
            if not batch.done.done():
                batch.done.set_result([next(streams[s.slot]) for s in batch.submissions])
            else:  # the publisher has gone; its events are stored all the same
                for submission in batch.submissions:
                    next(streams[submission.slot])

    async def _append(self, groups: dict[Slot, list[Submission]]) -> dict[Slot, list[PublishResult]]:
        replies = await self._store.append({slot: [s.item for s in g] for slot, g in groups.items()})
        results: dict[Slot, list[PublishResult]] = {}
        for slot, reply in replies.items():
            if isinstance(reply, Exception):
                self._log.warning("redis does not take events", error=str(reply), slot=slot[1])
                results[slot] = self._unavailable(len(groups[slot]))
            else:
                results[slot] = self._settle(slot, groups[slot], *reply)
        return results

    def _unavailable(self, count: int) -> list[PublishResult]:
        self._refused.labels("REASON_DEPENDENCY_UNAVAILABLE").inc(count)
        return [refusal(Reason.REASON_DEPENDENCY_UNAVAILABLE) for _ in range(count)]

    def _settle(
        self, slot: Slot, group: list[Submission], before: EntryId, outcomes: list[Outcome]
    ) -> list[PublishResult]:
        results: list[PublishResult] = []
        appended: list[tuple[EntryId, EventEnvelope]] = []
        for submission, outcome in zip(group, outcomes, strict=True):
            if outcome.code == scripts.RESUMED:
                self._resumed.inc()
                self._lost.inc(outcome.missing)
                self._log.error(
                    "redis has lost events",
                    stream=submission.item.key,
                    before_seq=submission.item.seq,
                    lost=outcome.missing,
                )
            if outcome.code in (scripts.APPENDED, scripts.RESUMED):
                appended.append((entry_id.of_redis(outcome.entry), submission.envelope))
            results.append(self._result(submission, outcome))
        if appended:
            self._appended.inc(len(appended))
            self._follower.push(slot_key(*slot), before, appended)
        return results

    def _result(self, submission: Submission, outcome: Outcome) -> PublishResult:
        code = outcome.code
        if code == scripts.DIFFERENT and same_event(submission.envelope, outcome.entry):
            code = scripts.DUPLICATE
        if code == scripts.DUPLICATE:
            self._duplicates.inc()
        if code in _REASONS:
            self._refused.labels(Reason.Name(_REASONS[code])).inc()
            return refusal(_REASONS[code], outcome.last_seq, outcome.epoch)
        return PublishResult(last_seq=outcome.last_seq, epoch=outcome.epoch)


def same_event(envelope: EventEnvelope, stored: bytes) -> bool:
    """Whether two envelopes tell the same event: an heir that sends an event again from a snapshot does so
    under its own epoch and name."""
    there = EventEnvelope.FromString(stored)
    mine = EventEnvelope()
    mine.CopyFrom(envelope)
    for one in (mine, there):
        for field_name in ("epoch", "node", "region", "traceparent"):
            one.ClearField(field_name)
        if one.WhichOneof("body") == "event":
            one.event.ClearField("server")
    return mine == there
