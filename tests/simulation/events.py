"""Redis Queue and the agents' log: streams that take each event once, readers with cursors, queues that remember ids.

`Streams.append` follows the script APPEND of `services/redis_queue/scripts.py`, `Publisher` what `mesh/rq/publisher.py` does with its
answers, `Queues` the scripts ENQUEUE and ACKNOWLEDGE.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from services.redis_queue import scripts
from services.redis_queue.appender import same_event
from services.sip_cluster.tlib import EventType
from tests.simulation.world import MS, SECOND, Process, World

RETRY = 200 * MS
LATE_AFTER = 10 * SECOND
"""How late a batch may still be stored that a node had taken when it stood still."""
THREAD, AGENT = "thread", "agent"


class Entry:
    """An event in a stream; what readers make of it is kept with it."""

    __slots__ = ("envelope", "epoch", "told")

    def __init__(self, envelope: EventEnvelope, epoch: int) -> None:
        self.envelope = envelope
        self.epoch = epoch
        self.told: Any = None


@dataclass(slots=True)
class Stream:
    """The stream of a call thread or an agent."""

    entries: list[Entry] = field(default_factory=list)
    fence: int = 0
    """Events of lower epochs are refused."""

    @property
    def last_seq(self) -> int:
        """Sequence number of its last event."""
        return self.entries[-1].envelope.seq if self.entries else 0

    @property
    def epoch(self) -> int:
        """The epoch below which events are refused: of its last event, or its fence."""
        return max(self.entries[-1].epoch if self.entries else 0, self.fence)


class Journal:
    """A list that readers follow: the stream of a slot, or the agents' log of one."""

    def __init__(self, world: World) -> None:
        self.items: list[Any] = []
        self._world = world
        self._readers: list[Reader] = []

    def add(self, item: Any) -> None:
        """One more."""
        self.items.append(item)
        for reader in self._readers:
            reader.news()

    def follow(self, process: Process, cursor: int, take: Callable[[Sequence[Any], int], None]) -> Reader:
        """`take(items, cursor behind them)` for everything behind the cursor, in order."""
        self._readers = [reader for reader in self._readers if reader.open]
        reader = Reader(self, process, cursor, take)
        self._readers.append(reader)
        if cursor < len(self.items):
            reader.news()
        return reader


class Reader:
    """Follows a journal for a process until it is closed."""

    def __init__(
        self, journal: Journal, process: Process, cursor: int, take: Callable[[Sequence[Any], int], None]
    ) -> None:
        self._journal = journal
        self._process = process
        self._life = process.starts
        self._take = take
        self.cursor = cursor
        self._coming = False
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether it reads on."""
        return not self._closed and self._process.starts == self._life

    def close(self) -> None:
        """Reads no more."""
        self._closed = True

    def news(self) -> None:
        """There is more to read."""
        if not self._coming and self.open:
            self._coming = True
            world = self._process.world
            self._process.after(world.delay() + (RETRY if world.lost() else 0), self._deliver)

    def _deliver(self) -> None:
        self._coming = False
        if self._closed:
            return
        items = self._journal.items[self.cursor :]
        if not items:
            return
        rng = self._process.world.rng
        if len(items) > 2 and rng.random() < 0.3:  # a page ends anywhere
            items = items[: 1 + int(rng.random() * (len(items) - 1))]
        self.cursor += len(items)
        if self.cursor < len(self._journal.items):
            self.news()
        self._take(items, self.cursor)


class Streams:
    """All event streams, by key and by slot."""

    def __init__(self, world: World, slots: Callable[[str, str], int]) -> None:
        """`slots(family, key)`: the slot of a stream."""
        self.world = world
        self.by_key: dict[str, Stream] = {}
        self.by_slot: dict[tuple[str, int], Journal] = {}
        self._slot = slots
        self.silent_until = 0
        """Until when no node of Redis Queue answers."""
        self.on_append: Callable[[str, Entry], None] = lambda family, entry: None

    def journal(self, family: str, slot: int) -> Journal:
        """The stream of a slot."""
        found = self.by_slot.get((family, slot))
        if found is None:
            found = self.by_slot[family, slot] = Journal(self.world)
        return found

    def append(self, family: str, envelope: EventEnvelope) -> int:
        """The script's outcome for one event."""
        key, seq, epoch = envelope.stream_key, envelope.seq, envelope.epoch
        stream = self.by_key.get(key)
        if stream is None:
            stream = self.by_key[key] = Stream()
        last = stream.last_seq
        if seq <= last and "append" not in self.world.mutations:
            there = stream.entries[seq - 1].envelope
            if there is envelope or same_event(envelope, there.SerializeToString()):
                return scripts.DUPLICATE
            return scripts.STALE if epoch < stream.epoch else scripts.DIFFERENT
        if epoch < stream.epoch and "append" not in self.world.mutations:
            return scripts.STALE
        if seq > last + 1:
            return scripts.GAP
        entry = Entry(envelope, epoch)
        stream.entries.append(entry)
        self.on_append(family, entry)
        self.journal(family, self._slot(family, key)).add(entry)
        return scripts.APPENDED

    def fence(
        self,
        process: Process,
        epochs: dict[str, int],
        timeout: int,
        told: Callable[[dict[str, int] | None], None],
    ) -> None:
        """FenceStreams: from now on the streams take nothing of lower epochs. `told(last sequence number of each)`, or
        `told(None)` when there was no answer in time."""
        world = self.world
        deadline = world.now + timeout
        when = max(world.now + world.delay(), self.silent_until)
        if world.lost() or world.lost() or when >= deadline:
            process.after(timeout, told, None)
            return

        def carry_out(life: int) -> None:
            ends = {key: self._fence(key, epoch) for key, epoch in epochs.items()}
            if life == process.starts:
                process.after(world.delay(), lambda: told(ends if world.now < deadline else None))

        world.after(when - world.now, carry_out, process.starts)

    def calls_ended(self, key: str, behind: int) -> list[int]:
        """ConnIDs of the calls whose CallDeleted is in a stream behind a sequence number."""
        entries = self.by_key[key].entries if key in self.by_key else []
        told = [entry.envelope.event for entry in entries if entry.envelope.seq > behind]
        return [event.conn_id for event in told if event.event_type == EventType.CALL_DELETED.value]

    def _fence(self, key: str, epoch: int) -> int:
        stream = self.by_key.setdefault(key, Stream())
        stream.fence = max(stream.fence, epoch)
        return stream.last_seq


class Publisher:
    """Events of one process on their way: sent in order, again and again until they are acknowledged."""

    def __init__(self, process: Process, streams: Streams, family: str) -> None:
        self._process = process
        self._world = process.world
        self._streams = streams
        self._family = family
        self._waiting: dict[str, dict[int, tuple[EventEnvelope, Callable[[bool], None] | None]]] = {}
        self._flushing = False
        self._round = 0
        self._last = 0

    def append(self, envelope: EventEnvelope, done: Callable[[bool], None] | None = None) -> None:
        """Takes an event; `done(False)` when the stream will never take it."""
        self._waiting.setdefault(envelope.stream_key, {})[envelope.seq] = (envelope, done)
        if not self._flushing:
            self._flushing = True
            self._process.after(0, self._flush, self._round)

    def forget(self, keys: Collection[str]) -> None:
        """The streams are another node's now: nothing of them is sent any more."""
        for key in keys:
            self._waiting.pop(key, None)

    def unacknowledged(self, key: str) -> list[EventEnvelope]:
        """Events of a stream that are not known to be stored, in order."""
        return [envelope for envelope, _ in self._waiting.get(key, {}).values()]

    def _flush(self, number: int) -> None:
        if number != self._round:
            return
        batch = [envelope for stream in self._waiting.values() for envelope, _ in stream.values()]
        if not batch:
            self._flushing = False
            return
        world = self._world
        when = max(self._last, world.now + world.delay(), self._streams.silent_until)
        self._last = when
        lost, unanswered = world.lost(), world.lost()
        if lost and world.chance(0.5):  # the batch turns up late, after it was sent another way
            world.after(int(world.rng.random() * LATE_AFTER), self._append, 0, -1, batch)
        if not lost:
            answer_to = -1 if unanswered else number
            world.after(when - world.now, self._append, self._process.starts, answer_to, batch)
        if lost or unanswered:
            self._process.after(RETRY, self._again, number)

    def _again(self, number: int) -> None:
        if number == self._round:
            self._round += 1
            self._flush(self._round)

    def _append(self, life: int, number: int, batch: list[EventEnvelope]) -> None:
        results = [(envelope, self._streams.append(self._family, envelope)) for envelope in batch]
        if number >= 0 and life == self._process.starts:
            self._process.after(self._world.delay(), self._settle, number, results)

    def _settle(self, number: int, results: list[tuple[EventEnvelope, int]]) -> None:
        if number != self._round:
            return
        self._round += 1
        again = False
        for envelope, outcome in results:
            stream = self._waiting.get(envelope.stream_key)
            if stream is None or envelope.seq not in stream:
                continue
            if outcome == scripts.GAP and next(iter(stream)) != envelope.seq:
                again = True  # the gap is that of an event before it, which is still on its way
                continue
            if outcome in (scripts.STALE, scripts.GAP, scripts.DIFFERENT):
                self._world.trace(self._process.name, f"event refused {envelope.event_id}: outcome {outcome}")
            _, done = stream.pop(envelope.seq)
            if not stream:
                del self._waiting[envelope.stream_key]
            if done is not None:
                done(outcome in (scripts.APPENDED, scripts.DUPLICATE))
        if self._waiting:
            self._process.after(RETRY if again else 0, self._flush, self._round)
        else:
            self._flushing = False


class Queues:
    """Named queues: an id is taken once, an entry stays until it is acknowledged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: dict[str, dict[str, Any]] = {}
        self._done: dict[str, set[str]] = {}
        self._readers: dict[str, list[QueueReader]] = {}

    def enqueue(
        self, process: Process, queue: str, ident: str, payload: Any, told: Callable[[], None]
    ) -> None:
        """`told()` when the entry is in the queue; sent again until then."""
        self._request(process, lambda: self._put(queue, ident, payload), told)

    def acknowledge(self, process: Process, queue: str, idents: Sequence[str]) -> None:
        """Removes entries; sent again until it is done."""
        self._request(process, lambda: self._remove(queue, idents), lambda: None)

    def read(
        self,
        process: Process,
        queue: str,
        take: Callable[[str, Any], None],
        all_told: Callable[[], None] | None = None,
    ) -> QueueReader:
        """`take(id, payload)` once for each entry that is there or comes; `all_told()` behind those that were there."""
        reader = QueueReader(process, take)
        self._readers.setdefault(queue, []).append(reader)
        for ident, payload in self.entries.get(queue, {}).items():
            reader.offer(ident, payload)
        if all_told is not None:
            reader.offer_end(all_told)
        return reader

    def _request(self, process: Process, work: Callable[[], None], told: Callable[[], None]) -> None:
        world = self.world
        if world.lost():
            process.after(RETRY, self._request, process, work, told)
            return
        answered = not world.lost()
        world.after(world.delay(), self._carry_out, process, process.starts, work, told if answered else None)
        if not answered:
            process.after(RETRY, self._request, process, work, told)

    def _carry_out(
        self, process: Process, life: int, work: Callable[[], None], told: Callable[[], None] | None
    ) -> None:
        work()
        if told is not None and process.starts == life:
            process.after(self.world.delay(), told)

    def _put(self, queue: str, ident: str, payload: Any) -> None:
        entries = self.entries.setdefault(queue, {})
        if "queue" not in self.world.mutations and (ident in entries or ident in self._done.get(queue, ())):
            return
        entries[ident] = payload
        readers = [reader for reader in self._readers.get(queue, ()) if reader.open]
        self._readers[queue] = readers
        for reader in readers:
            reader.offer(ident, payload)

    def _remove(self, queue: str, idents: Sequence[str]) -> None:
        entries = self.entries.setdefault(queue, {})
        done = self._done.setdefault(queue, set())
        for ident in idents:
            if entries.pop(ident, None) is not None:
                done.add(ident)


class QueueReader:
    """Reads a queue for a process until it is closed."""

    def __init__(self, process: Process, take: Callable[[str, Any], None]) -> None:
        self._process = process
        self._life = process.starts
        self._take = take
        self._last = 0
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether it reads on."""
        return not self._closed and self._process.starts == self._life

    def close(self) -> None:
        """Reads no more."""
        self._closed = True

    def offer(self, ident: str, payload: Any) -> None:
        """An entry of the queue."""
        self._process.after(self._next(), self._deliver, ident, payload)

    def offer_end(self, told: Callable[[], None]) -> None:
        """All that waited has been offered."""
        self._process.after(self._next(), told)

    def _next(self) -> int:
        world = self._process.world
        self._last = max(self._last, world.now + world.delay())
        return self._last - world.now

    def _deliver(self, ident: str, payload: Any) -> None:
        if not self._closed:
            self._take(ident, payload)


class AgentLog:
    """The ordered log of agents' inputs, by agent slot: at least once."""

    def __init__(self, world: World, slot: Callable[[str], int]) -> None:
        self.world = world
        self._slot = slot
        self._journals: dict[int, Journal] = {}

    def journal(self, slot: int) -> Journal:
        """The log of a slot."""
        found = self._journals.get(slot)
        if found is None:
            found = self._journals[slot] = Journal(self.world)
        return found

    def append(self, process: Process, entries: Sequence[Any], done: Callable[[], None]) -> None:
        """Adds entries in order; what is not answered is added again, under the same input ids."""
        world = self.world
        if world.lost():
            process.after(RETRY, self.append, process, entries, done)
            return
        answered = not world.lost()
        world.after(world.delay(), self._add, process, process.starts, entries, done if answered else None)
        if not answered:
            process.after(RETRY, self.append, process, entries, done)

    def _add(
        self, process: Process, life: int, entries: Sequence[Any], done: Callable[[], None] | None
    ) -> None:
        for entry in entries:
            self.journal(self._slot(entry.subject)).add(entry)
        if done is not None and process.starts == life:
            process.after(self.world.delay(), done)
