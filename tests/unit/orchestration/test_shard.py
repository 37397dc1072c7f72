"""A slot over a store in memory: sessions begin, fall asleep, wake for what concerns them, and go on with heirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog
from voice.record.v1.session_pb2 import SessionRecord
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event as TlibEvent
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.rq import SlotEvents
from mesh.store import StoreUnavailable
from services.orchestration.documents import Documents, UnknownDocument
from services.orchestration.effects import Effect, Load, Run, Say, Timer
from services.orchestration.inputs import External, Input, Loaded, Stepped
from services.orchestration.record import from_record, to_record
from services.orchestration.scxml import Event, Interpreter, compile_document
from services.orchestration.scxml.compiled import COMPILER_VERSION
from services.orchestration.session import Phase, Session
from services.orchestration.shard import Shard
from services.orchestration.store import Change, Store
from services.orchestration.timers import now_us
from tests.unit.orchestration.test_machine import CALL, HEAD

COMPILED = compile_document(
    HEAD + '<state id="wait"><transition event="tell"><log expr="_event.data"/></transition>'
    '<transition event="voice.ringing"><log expr="\'ringing\'"/></transition>'
    '<transition event="later"><send event="tell" delay="1h"><content expr="\'late\'"/></send></transition>'
    '<transition event="end" target="f"/></state><final id="f"/></scxml>'
)
FREE = replace(CALL, conn_id=0, default_dns=())


class Memory:
    """The store's contract, in memory; `away` makes it unavailable so often."""

    def __init__(self) -> None:
        self.awake: dict[str, bytes] = {}
        self.asleep: dict[str, bytes] = {}
        self.cursor = "0"
        self.away = 0
        self.writes = 0

    async def take_over(self, slot: int, epoch: int) -> tuple[list[Session], str]:
        return [_read(row) for row in self.awake.values()], self.cursor

    async def write(self, slot: int, epoch: int, change: Change) -> None:
        self._asked()
        self.writes += 1
        for name, session in change.awake.items():
            if session.phase is Phase.OVER:
                self.awake.pop(name, None)
            else:
                self.awake[name] = to_record(session).SerializeToString()
        for name, session in change.asleep.items():
            self.awake.pop(name, None)
            self.asleep[name] = to_record(session).SerializeToString()
        for name in change.woken:
            self.asleep.pop(name, None)
        self.cursor = change.cursor or self.cursor

    async def sleeping(self, slot: int, session_id: str) -> Session | None:
        self._asked()
        return _read(self.asleep[session_id]) if session_id in self.asleep else None

    async def sleeping_of(self, slot: int, threads: Collection[str]) -> list[str]:
        self._asked()
        return [name for name, row in self.asleep.items() if _read(row).call.call_thread_id in threads]

    async def count_sleeping(self, slot: int) -> int:
        return len(self.asleep)

    async def first_due(self, slot: int, limit: int = 1) -> list[tuple[str, int]]:
        found = []
        for name, row in self.asleep.items():
            due = [e.due_us for e in _read(row).pending.values() if isinstance(e, Timer)]
            found += [(name, min(due))] if due else []
        return sorted(found, key=lambda entry: entry[1])[:limit]

    def _asked(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")


def _read(row: bytes) -> Session:
    return from_record(SessionRecord.FromString(row))


class Quiet:
    """A tracer that looks away."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: None


class Node:
    """A shard that runs, with the interpreter in this process."""

    def __init__(self, memory: Memory) -> None:
        self.said: list[str] = []
        self.performed: list[Effect] = []
        self.busy = False
        self.shard = Shard(
            slot=1,
            epoch=1,
            store=cast(Store, memory),
            config=cast(Any, None),
            perform=self._perform,
            busy=lambda _slot, _session: self.busy,
            log=structlog.get_logger("test"),
            started=lambda: None,
            tracer=cast(Any, Quiet()),
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Node:
        await self.shard.take_over()
        self._task = asyncio.create_task(self.shard.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shard.close()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _perform(self, shard: Shard, session: Session, effect: Effect) -> None:
        self.performed.append(effect)
        match effect:
            case Say(text=text):
                self.said.append(text)
            case Load(id=name):
                shard.post(session.id, Loaded(name, "u", COMPILED.source_hash, "1"))
            case Run():
                shard.post(session.id, self._run(session, effect))

    def _run(self, session: Session, run: Run) -> Stepped:
        if run.operation == "start":
            made = Interpreter(COMPILED, session_id=session.id, io_processors={}, now_ms=1000, seed=1)
            result = made.start(1000)
        else:
            made = Interpreter.restore(COMPILED, session.snapshot)
            assert run.event is not None
            result = made.step(run.event, 1000)
        return Stepped(result, b"" if result.finished else made.snapshot())

    async def stored(self, post: Callable[[Callable[[], None]], None]) -> None:
        """Posts something and waits until it is stored."""
        done = asyncio.Event()
        post(done.set)
        await asyncio.wait_for(done.wait(), 20)

    async def give(self, item: Input, session_id: str = FREE.session_id) -> None:
        await self.stored(lambda stored: self.shard.post(session_id, item, stored))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.005)

    async def begin(self) -> None:
        """The session is there and waits."""
        await self.stored(lambda stored: self.shard.start(Session(FREE), stored))
        await self.until(lambda: self._session() is not None and self._session().resting)  # type: ignore[union-attr]

    def _session(self) -> Session | None:
        machine = self.shard.machines.get(FREE.session_id)
        return machine.session if machine else None

    async def sleep(self, memory: Memory) -> None:
        """Everybody rests."""
        await self.until(lambda: all(m.session.resting for m in self.shard.machines.values()))
        self.shard.rest(now_us())
        await self.until(lambda: bool(memory.asleep) and not self.shard.machines)


def _ringing(seq: int, thread: str = FREE.call_thread_id) -> EventEnvelope:
    event = TlibEvent(event_type=MessageType.MESSAGE_TYPE_EVENT_RINGING, conn_id=FREE.conn_id, this_dn="1001")
    return EventEnvelope(stream_key=thread, call_thread_id=thread, seq=seq, tenant="t1", event=event)


async def test_a_request_is_stored_before_it_is_answered_and_counts_once() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        memory.away = 2
        await node.give(External(Event("tell", "a"), "r-1"))
        assert memory.away == 0
        assert b"r-1" in memory.awake[FREE.session_id]
        await node.until(lambda: node.said == ["a"])
    async with Node(memory) as heir:
        await heir.give(External(Event("tell", "a"), "r-1"))
        await heir.give(External(Event("tell", "b"), "r-2"))
        await heir.until(lambda: heir.said == ["b"])


async def test_a_session_that_begins_twice_begins_once() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        await node.sleep(memory)
        loads = len([e for e in node.performed if isinstance(e, Load)])
        await node.stored(lambda stored: node.shard.start(Session(FREE), stored))
        assert loads == len([e for e in node.performed if isinstance(e, Load)]) == 1


@pytest.mark.parametrize("heir", [False, True])
async def test_a_sleeping_session_costs_the_node_nothing_and_wakes_for_an_input(heir: bool) -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        await node.sleep(memory)
        assert (node.shard.asleep.count, memory.awake) == (1, {})
        if not heir:
            await _wakes(node, memory)
    if heir:
        async with Node(memory) as other:
            await _wakes(other, memory)


async def _wakes(node: Node, memory: Memory) -> None:
    peeked = await node.shard.peek(FREE.session_id)
    assert peeked is not None and peeked.phase is Phase.RUNNING
    memory.away = 1
    await node.give(External(Event("tell", "x")))
    await node.until(lambda: node.said == ["x"])
    assert (node.shard.asleep.count, memory.asleep) == (0, {})
    assert FREE.session_id in memory.awake


async def test_a_sleeping_session_wakes_for_an_event_of_its_thread_only() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        await node.sleep(memory)
        await node.shard.post_events(SlotEvents(1, [_ringing(1, "another")], "c1"))
        await node.until(lambda: memory.cursor == "c1")
        assert not node.shard.machines
        await node.shard.post_events(SlotEvents(1, [_ringing(7)], "c2"))
        await node.until(lambda: node.said == ["ringing"])
        assert memory.cursor == "c2"


async def test_a_sleeping_session_wakes_when_its_timer_is_due() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        await node.give(External(Event("later")))
        await node.until(lambda: b"Timer" in memory.awake[FREE.session_id])
        await node.sleep(memory)
        assert await node.shard.store.first_due(1) != []
    session = _read(memory.asleep[FREE.session_id])
    (timer,) = session.pending.values()
    assert isinstance(timer, Timer) and timer.due_us > now_us() + 3_000_000_000
    session.pending[timer.id] = replace(timer, due_us=now_us() + 1000)
    memory.asleep[FREE.session_id] = to_record(session).SerializeToString()
    async with Node(memory) as heir:
        await heir.until(lambda: heir.said == ["late"])
        assert not memory.asleep


async def test_what_is_under_way_is_not_put_to_sleep_and_an_input_on_the_way_brings_it_back() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        node.busy = True
        node.shard.rest(now_us())
        await node.give(External(Event("tell", 1)))
        await node.until(lambda: node.said == ["1"])
        node.busy = False
        # Both in one turn: on its way to sleep, and back.
        node.shard.rest(now_us())
        await node.give(External(Event("tell", 2)))
        await node.until(lambda: node.said == ["1", "2"])
        assert (memory.asleep, node.shard.asleep.count) == ({}, 0)


async def test_the_end_of_a_session_leaves_nothing() -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        await node.sleep(memory)
        await node.give(External(Event("end")))
        await node.until(lambda: not node.shard.machines)
        assert (memory.awake, memory.asleep, node.shard.asleep.count) == ({}, {}, 0)


async def test_a_session_that_breaks_its_machine_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    async with Node(memory) as node:
        await node.begin()
        other = replace(FREE, session_id="other.1", call_thread_id="other")
        await node.stored(lambda stored: node.shard.start(Session(other), stored))
        monkeypatch.setattr(node.shard.machines["other.1"], "handle", lambda *_: 1 / 0)
        node.shard.post("other.1", External(Event("tell", "never")))
        await node.give(External(Event("tell", "a")))
        await node.until(lambda: node.said == ["a"] and list(node.shard.machines) == [FREE.session_id])
        assert list(memory.awake) == [FREE.session_id]


async def test_documents_are_read_once_for_many_sessions() -> None:
    class Kept:
        reads, writes, body = 0, 0, b""

        async def keep_document(self, key: str, body: bytes) -> None:
            self.writes, self.body = self.writes + 1, body

        async def document(self, key: str) -> bytes | None:
            self.reads += 1
            await asyncio.sleep(0)
            return self.body or None

    kept = Kept()
    first = Documents(cast(Store, kept), structlog.get_logger("test"))
    await asyncio.gather(*(first.keep(COMPILED) for _ in range(20)))
    heir = Documents(cast(Store, kept), structlog.get_logger("test"))
    finds: list[Awaitable[Any]] = [heir.find(COMPILED.source_hash, COMPILER_VERSION) for _ in range(20)]
    assert all(found == COMPILED for found in await asyncio.gather(*finds))
    assert (kept.writes, kept.reads) == (1, 1)
    with pytest.raises(UnknownDocument, match="compiler version 0"):
        await heir.find(COMPILED.source_hash, "0")
    kept.body = b""
    with pytest.raises(UnknownDocument):
        await heir.find("nothing", "1")
