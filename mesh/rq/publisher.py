"""Publishing: events go out in batches, are acknowledged in order, and are sent again until they are.

Redis acknowledges before its replica has an event, so the last ones may be lost with a primary. The publisher keeps what was
acknowledged in the last seconds and sends it again when the store has changed, or when a stream turns out to end earlier than
it should; what is there already is acknowledged as a duplicate. Where even that reaches not back far enough, the stream goes on
behind a gap: counted by Redis Queue as `events_lost_total` (docs/decisions/0071).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence

from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import PublishResult, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import Nodes
from mesh.rq.publish_link import Pending, PublishLink
from mesh.rq.recent import Recent
from mesh.rq.route import stream_slot
from mesh.telemetry import logger

RETRY_REASONS = frozenset({"REASON_DEPENDENCY_UNAVAILABLE", "REASON_QUEUE_FULL"})
"""Results after which everything that waits for the node is sent again a little later."""
RECALL_S = 1.0
"""What is remembered is sent again at most so often, seconds."""


class PublisherFull(Exception):
    """Too many events or entries wait for acknowledgement. Nothing was taken; the caller sheds load."""


class AppendRefused(Exception):
    """The stream does not take the event, now or later: REASON_STALE_EPOCH, REASON_SEQUENCE_GAP,
    REASON_ALREADY_EXISTS (another event has its place) or REASON_INVALID_ATTRIBUTE."""

    def __init__(
        self, event_id: str, reason: Reason.ValueType, last_seq: int, epoch: int, message: str = ""
    ) -> None:
        where = message or f"stream is at seq {last_seq}, epoch {epoch}"
        super().__init__(f"{event_id}: {Reason.Name(reason)}, {where}")
        self.event_id = event_id
        self.reason = reason
        self.last_seq = last_seq
        """Last sequence number of the stream."""
        self.epoch = epoch
        """Epoch of the stream."""


class Publisher:
    """One family's events. Not to be made directly: `Rq.publisher`."""

    def __init__(
        self, nodes: Nodes, family: StreamFamily.ValueType, limit: int, metrics: ClientMetrics
    ) -> None:
        self._nodes = nodes
        self._family = family
        self._limit = limit
        self._metrics = metrics
        self._log = logger("publisher")
        self._streams: dict[str, dict[int, Pending]] = {}
        self._pending = 0
        self._recent: Recent[EventEnvelope] = Recent()
        self._recalled = float("-inf")
        self._resuming: set[str] = set()
        self._links: dict[str, PublishLink] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        nodes.listen(self._reroute)
        metrics.metrics.queue(
            f"rq_{'thread' if family == StreamFamily.STREAM_FAMILY_THREAD else 'agent'}_unacknowledged",
            lambda: self._pending,
            "Events not known to be stored",
        )

    def append(self, envelope: EventEnvelope) -> asyncio.Future[None]:
        """Takes an event: the next of its stream, epoch filled in by the caller. Returns at once.

        The future is done when the event is in the stream, or fails with AppendRefused; it may be left alone.
        Events of a stream are sent in the order of the calls. The envelope is not to be changed afterwards.
        Raises PublisherFull, ValueError for one that waits already.
        """
        if self._pending >= self._limit:
            raise PublisherFull(f"{self._pending} events wait for acknowledgement")
        stream = self._streams.setdefault(envelope.stream_key, {})
        waiting = stream.get(envelope.seq)
        if waiting is not None and waiting.envelope.epoch < envelope.epoch:
            self._supersede(stream, envelope)
        elif waiting is not None:
            if waiting.again:
                return waiting.done
            raise ValueError(f"{envelope.event_id} waits for acknowledgement already")
        pending = self._pend(envelope)
        stream[envelope.seq] = pending
        self._assign(pending)
        return pending.done

    def forget(self, stream_keys: Collection[str]) -> None:
        """The streams are another node's now: nothing of them is sent any more, not even again. Futures are cancelled."""
        for key in stream_keys:
            for pending in self._streams.pop(key, {}).values():
                self._drop(pending)
            self._resuming.discard(key)
        keys = frozenset(stream_keys)
        self._recent.remove(lambda envelope: envelope.stream_key in keys)

    def recall(self) -> None:
        """The store has changed: what was acknowledged in the last seconds is sent again."""
        self._recalled = time.monotonic()
        by_stream: dict[str, list[EventEnvelope]] = {}
        for envelope in self._recent:
            by_stream.setdefault(envelope.stream_key, []).append(envelope)
        count = sum(self._put_before(key, envelopes) for key, envelopes in by_stream.items())
        self._log.warning("acknowledged events are sent again", events=count, streams=len(by_stream))

    def unacknowledged(self, stream_key: str) -> list[EventEnvelope]:
        """Events of a stream that are not known to be stored, in order: what a snapshot keeps."""
        return [pending.envelope for pending in self._streams.get(stream_key, {}).values()]

    @property
    def pending(self) -> int:
        """Events of all streams that are not known to be stored."""
        return self._pending

    async def flush(self, timeout: float) -> bool:
        """Waits until nothing is pending; False when `timeout` seconds passed before."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends the links; what is pending stays unacknowledged and its futures are cancelled."""
        self._nodes.unlisten(self._reroute)
        await asyncio.gather(*(link.close() for link in self._links.values()))
        self._links.clear()
        for stream in self._streams.values():
            for pending in stream.values():
                pending.done.cancel()

    # -- what links call ---------------------------------------------------------------------------------------

    def settle(self, link: PublishLink, pending: Pending, result: PublishResult) -> bool:
        """A node's answer for one event. False when the link has to start again: what was sent after the
        event cannot have been taken either."""
        if not result.reason:
            if not (pending.again or pending.settled):
                self._recent.add(pending.envelope, time.monotonic())
            self._finish(pending)
            return True
        if pending.link is not link or pending.done.done():
            return True  # the event has gone another way in the meantime; that way's answer counts
        if result.reason in RETRY_REASONS or self._follows_pending(pending, result):
            return False
        if self._is_gap(result) and self._fill(pending.envelope, result.last_seq):
            return False
        self._refuse(pending, result)
        return True

    def resumes(self, batch: Iterable[Pending]) -> bool:
        """Whether streams of a batch are to go on although what lies before is lost."""
        return bool(self._resuming) and any(p.envelope.stream_key in self._resuming for p in batch)

    def answered(self, batch: Sequence[Pending]) -> None:
        """A node has answered a batch: how long its first event waited stands for all."""
        if not batch[0].again:
            self._metrics.append.observe(time.monotonic() - batch[0].since)

    def waiting_for(self, link: PublishLink) -> list[Pending]:
        """Everything that the link has to send, in order: after a new start it sends all of it again."""
        return [p for stream in self._streams.values() for p in stream.values() if p.link is link]

    def resent(self, count: int) -> None:
        """Counts events sent again."""
        self._metrics.resent.inc(count)

    def failed(self, link: PublishLink) -> None:
        """The link lost its node: others take over if they can."""
        self._metrics.failures.inc()
        self._nodes.suspect(link.incarnation)

    # -- inside ------------------------------------------------------------------------------------------------

    def _follows_pending(self, pending: Pending, result: PublishResult) -> bool:
        """Whether a gap is only that of an event before it, which is still on its way."""
        first = next(iter(self._streams[pending.envelope.stream_key]))
        return self._is_gap(result) and first != pending.envelope.seq

    @staticmethod
    def _is_gap(result: PublishResult) -> bool:
        return result.reason == Reason.Name(Reason.REASON_SEQUENCE_GAP)

    def _fill(self, envelope: EventEnvelope, last_seq: int) -> bool:
        """The stream ends earlier than it should: sends what is remembered again, and lets the stream go on behind what is
        not. False when that was tried before."""
        key = envelope.stream_key
        if key in self._resuming:
            return False
        if time.monotonic() - self._recalled > RECALL_S:
            self.recall()
        had = next(iter(self._streams[key])) != envelope.seq
        if not had:
            self._resuming.add(key)
        self._metrics.gaps.labels("yes" if had else "no").inc()
        self._log.warning(
            "a stream has lost its end", stream=key, last_seq=last_seq, seq=envelope.seq, had=had
        )
        return True

    def _put_before(self, key: str, envelopes: Iterable[EventEnvelope]) -> int:
        """Sends acknowledged events again, before what waits of their stream; tells how many."""
        waiting = self._streams.get(key, {})
        first = next(iter(waiting), 1 << 63)
        wanted = {e.seq: e for e in envelopes if e.seq < first}  # one that was repeated is remembered twice
        again = {seq: self._pend(wanted[seq], again=True) for seq in sorted(wanted)}
        if again:
            self._streams[key] = {**again, **waiting}
            self._metrics.recalled.labels("event").inc(len(again))
        for pending in again.values():
            self._assign(pending)
        return len(again)

    def _supersede(self, stream: dict[int, Pending], envelope: EventEnvelope) -> None:
        """The owner has lost the stream and got it back: from this event on its history is another."""
        for seq in [
            seq for seq, p in stream.items() if seq >= envelope.seq and p.envelope.epoch < envelope.epoch
        ]:
            self._drop(stream.pop(seq))

    def _drop(self, pending: Pending) -> None:
        pending.settled = True
        pending.done.cancel()
        self._pending -= 1
        if not self._pending:
            self._empty.set()

    def _pend(self, envelope: EventEnvelope, *, again: bool = False) -> Pending:
        number = stream_slot(self._family, envelope.stream_key)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending += 1
        self._empty.clear()
        return Pending(envelope, number, done, time.monotonic(), again=again)

    def _finish(self, pending: Pending) -> None:
        if pending.settled:
            return
        key = pending.envelope.stream_key
        stream = self._streams[key]
        pending.settled = True
        del stream[pending.envelope.seq]
        if not stream:
            del self._streams[key]
        self._resuming.discard(key)
        self._pending -= 1
        if not self._pending:
            self._empty.set()
        if not pending.done.done():
            pending.done.set_result(None)

    def _refuse(self, pending: Pending, result: PublishResult) -> None:
        reason = Reason.Value(result.reason)
        envelope = pending.envelope
        if pending.again:  # its stream has gone on without us: an heir's to see to
            self._log.info("event not taken again", event_id=envelope.event_id, reason=result.reason)
            self._finish(pending)
            return
        self._log.error(
            "event refused",
            event_id=envelope.event_id,
            reason=result.reason,
            epoch=envelope.epoch,
            last_seq=result.last_seq,
            stream_epoch=result.epoch,
            message=result.message,
        )
        self._metrics.refused.labels(result.reason).inc()
        if not pending.done.done():
            pending.done.set_exception(
                AppendRefused(envelope.event_id, reason, result.last_seq, result.epoch, result.message)
            )
            pending.done.exception()  # it may be left alone: no complaint that nobody looked
        self._finish(pending)

    def _reroute(self) -> None:
        """Nodes came, went or became suspect: events change over, each stream's in order."""
        moved = [
            pending
            for stream in self._streams.values()
            for pending in stream.values()
            if self._assign(pending) and pending.sent
        ]
        if moved:
            self.resent(len(moved))
        for incarnation, link in list(self._links.items()):
            if not self._nodes.alive(incarnation) and not self.waiting_for(link):
                del self._links[incarnation]
                link.abandon()

    def _assign(self, pending: Pending) -> bool:
        """Gives an event to the link of its slot's node; whether that is another than before."""
        record = self._nodes.first(self._family, pending.slot)
        if record is None:
            return False  # kept until a node comes
        link = self._links.get(record.incarnation)
        if link is None:
            link = self._links[record.incarnation] = PublishLink(self, self._nodes, self._family, record)
        if pending.link is link:
            return False
        pending.link = link
        link.send(pending)
        return True
