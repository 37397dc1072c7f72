"""The copy and the watches over it, told by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voice.config.v1.config_service_pb2 import DnRegistrations
from voice.config.v1.registration_pb2 import Login, Registration
from voice.record.v1.config_pb2 import ConfigRecord

from mesh.errors import DomainError, Reason
from mesh.etcd import KeyValue
from mesh.watch import Batch, Change
from services.config import watching
from services.config.copy import Copy, TenantCopy
from services.config.keys import Keys
from services.config.store import MAX_BYTES, MAX_OPS, Step, _batches
from services.config.watching import Told, Wanted, Watching
from tests.unit.config.examples import good

KEYS = Keys("test")
EVERYTHING = frozenset({"dn", "skill", "registrations", "logins"})


def key_value(key: str, value: bytes, revision: int) -> KeyValue:
    return KeyValue(key, value, revision, revision, 0)


def skill(tenant: str, dbid: int) -> tuple[str, bytes]:
    record = ConfigRecord(object=good()["skill"])
    record.object.skill.name = f"S{dbid}"
    return KEYS.object(tenant, "skill", dbid), record.SerializeToString()


def put(revision: int, key: str, value: bytes) -> Change:
    return Change(key, key_value(key, value, revision), revision)


def gone(revision: int, key: str) -> Change:
    return Change(key, None, revision)


class History:
    """Stands for an etcd watch."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = list(batches)
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self._told()

    async def _told(self) -> AsyncIterator[Batch]:
        for batch in self._batches:
            yield batch
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


class Store:
    """History and revision of a store."""

    keys = KEYS

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.now = 0
        self.opened: list[History] = []

    def history(self, after: int) -> History:
        told = [b for b in self.batches if b.snapshot is not None or b.revision > after]
        self.opened.append(History(told))
        return self.opened[-1]

    async def revision(self) -> int:
        return self.now


@pytest.fixture
def copy() -> Copy:
    return Copy(None, KEYS, 1000)  # type: ignore[arg-type]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def served(copy: Copy, store: Store) -> Watching:
    """A copy whose first snapshot, of a skill of t1 and one of t2, was taken at revision 10; sign of life at 11."""
    items = [key_value(*skill("t1", 1), 5), key_value(*skill("t2", 1), 6)]
    await copy.apply(Batch(10, snapshot=tuple(items)))
    made = Watching(copy, store, "config-0")  # type: ignore[arg-type]
    made._announced = (copy.snapshots, 11)
    await copy.apply(Batch(11, changes=(put(11, KEYS.node("config-0"), b""),)))
    return made


async def told(served: Watching, after: int, count: int, tenant: str = "") -> list[Told]:
    found = list[Told]()
    async with asyncio.timeout(2):
        async for one in served.watch(Wanted(tenant, EVERYTHING), after):
            found.append(one)
            if len(found) == count:
                break
    return found


def names(parts: Sequence[Told]) -> list[tuple[str, str, bool]]:
    return [(e.tenant, f"{e.kind}/{e.id}", e.value is not None) for part in parts for e in part.entries]


async def test_the_whole_state_then_changes(served: Watching, copy: Copy) -> None:
    watch = served.watch(Wanted("", EVERYTHING), 0)
    first, second = await anext(watch), await anext(watch)
    assert (first.revision, first.synced) == (0, False)
    assert (second.revision, second.synced) == (11, True)
    assert names([first]) == [("t1", "skill/1", True), ("t2", "skill/1", True)]
    await copy.apply(Batch(12, changes=(put(12, *skill("t1", 2)), gone(12, KEYS.object("t2", "skill", 1)))))
    third = await anext(watch)
    assert names([third]) == [("t1", "skill/2", True), ("t2", "skill/1", False)]
    assert third.revision == 12


async def test_what_is_not_wanted_is_not_sent_and_moves_the_cursor_all_the_same(
    served: Watching, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.05)
    watch = served.watch(Wanted("t1", EVERYTHING), 11)
    assert (await anext(watch)) == Told((), 11)
    await copy.apply(Batch(12, changes=(put(12, *skill("t2", 2)),)))
    quiet = await anext(watch)
    assert (quiet.entries, quiet.revision) == ([], 12)


async def test_history_is_read_up_to_where_the_feed_goes_on(
    served: Watching, copy: Copy, store: Store
) -> None:
    store.batches = [
        Batch(8, changes=(put(8, *skill("t1", 7)),)),
        Batch(9, changes=(gone(9, KEYS.object("t1", "skill", 7)),)),
        Batch(11, changes=(put(11, KEYS.node("config-0"), b""),)),
        Batch(99, changes=(put(99, *skill("t1", 9)),)),
    ]
    await copy.apply(Batch(12, changes=(put(12, *skill("t1", 2)),)))
    parts = await told(served, 7, 4)
    assert names(parts) == [("t1", "skill/7", True), ("t1", "skill/7", False), ("t1", "skill/2", True)]
    assert [part.revision for part in parts] == [8, 9, 11, 12]
    assert store.opened[0].closed


async def test_compacted_history_is_said(served: Watching, store: Store) -> None:
    store.batches = [Batch(11, snapshot=())]
    with pytest.raises(DomainError) as caught:
        await told(served, 3, 1)
    assert caught.value.reason == Reason.REASON_CURSOR_EXPIRED


async def test_a_cursor_of_another_store_is_said(served: Watching, store: Store) -> None:
    store.now = 50
    with pytest.raises(DomainError) as caught:
        await told(served, 51, 1)
    assert caught.value.reason == Reason.REASON_CURSOR_EXPIRED


async def test_a_reader_that_falls_behind_is_ended(served: Watching, copy: Copy) -> None:
    watch = served.watch(Wanted("", EVERYTHING), 11)
    await anext(watch)
    for revision in range(12, 2200):
        await copy.apply(Batch(revision, changes=(put(revision, *skill("t1", 2)),)))
    with pytest.raises(DomainError) as caught:
        await anext(watch)
    assert caught.value.reason == Reason.REASON_CURSOR_EXPIRED


async def test_a_new_snapshot_ends_watches(served: Watching, copy: Copy) -> None:
    watch = served.watch(Wanted("", EVERYTHING), 11)
    await anext(watch)
    await copy.apply(Batch(5, snapshot=(), replaced=True))
    with pytest.raises(DomainError) as caught:
        await anext(watch)
    assert caught.value.reason == Reason.REASON_CURSOR_EXPIRED
    assert copy.tenants == {}


async def test_waiting_for_a_revision(copy: Copy) -> None:
    await copy.apply(Batch(10, snapshot=()))
    assert await copy.reached(10, 0.0)
    assert not await copy.reached(11, 0.01)
    waiting = asyncio.create_task(copy.reached(12, 5))
    await asyncio.sleep(0)
    await copy.apply(Batch(12, changes=(put(12, *skill("t1", 1)),)))
    assert await waiting


def state(copy: Copy) -> dict[str, object]:
    """What a copy holds, tenants that hold nothing left out."""
    nothing = TenantCopy()

    def flat(t: TenantCopy) -> tuple[object, ...]:
        objects = {kind: dict(found) for kind, found in t.model.objects.items() if found}
        return (objects, t.counter_revision, t.next_dbid, t.registrations, t.logins, t.dn_logins)

    return {name: flat(t) for name, t in copy.tenants.items() if flat(t) != flat(nothing)}


ANY_KEY = st.sampled_from(
    [
        *(KEYS.object(tenant, "skill", n) for tenant in ("t1", "t2") for n in (1, 2)),
        KEYS.counter("t1"),
        KEYS.registrations("t1", "1001"),
        KEYS.login("t1", "A1"),
        KEYS.dn_login("t1", "1001"),
        KEYS.domain("t1.example"),
        KEYS.node("config-0"),
        KEYS.prefix + "t1/novelty/5",
    ]
)


def value_for(key: str) -> bytes:
    parsed = KEYS.parse(key)
    kind = parsed.kind if parsed is not None else ""
    if kind == "skill":
        return skill("t", int(key[-2:]))[1]
    if kind == "registrations":
        return DnRegistrations(dn="1001", registrations=[Registration(contact="sip:a")]).SerializeToString()
    if kind == "logins":
        return Login(agent_id="A1", dn="1001").SerializeToString()
    return b"7"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ANY_KEY, st.booleans()), max_size=30), st.integers(0, 30))
def test_changes_lead_to_what_a_snapshot_shows(steps: list[tuple[str, bool]], cut: int) -> None:
    """Wherever the snapshot is taken: what follows it leads to the same copy."""

    async def run() -> None:
        store = dict[str, KeyValue]()
        copies = [Copy(None, KEYS, 1000), Copy(None, KEYS, 1000)]  # type: ignore[arg-type]
        await copies[0].apply(Batch(1, snapshot=()))
        for revision, (key, there) in enumerate(steps, 2):
            if revision - 2 == cut:
                await copies[1].apply(Batch(revision - 1, snapshot=tuple(store.values())))
            if there:
                store[key] = key_value(key, value_for(key), revision)
            elif store.pop(key, None) is None:
                continue
            change = Change(key, store.get(key), revision)
            await copies[0].apply(Batch(revision, changes=(change,)))
            if revision - 2 >= cut:
                await copies[1].apply(Batch(revision, changes=(change,)))
        if cut >= len(steps):
            await copies[1].apply(Batch(99, snapshot=tuple(store.values())))
        assert state(copies[0]) == state(copies[1])

    loop = asyncio.new_event_loop()  # asyncio.run would take the loop of the whole run away from fixtures
    loop.run_until_complete(run())
    loop.close()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 400_000)), max_size=40))
def test_transactions_stay_below_the_limits_of_etcd(sizes: list[tuple[int, int]]) -> None:
    class Sized(Step):
        def __init__(self, cost: int, size: int) -> None:
            super().__init__()
            self._sizes = (cost, size)

        @property
        def cost(self) -> int:
            return self._sizes[0]

        @property
        def bytes(self) -> int:
            return self._sizes[1]

    steps: list[Step] = [Sized(cost, size) for cost, size in sizes]
    batches = list(_batches(steps))
    assert [step for batch in batches for step in batch] == steps
    assert all(sum(step.cost for step in batch) <= MAX_OPS for batch in batches)
    assert all(sum(step.bytes for step in batch) <= MAX_BYTES for batch in batches)
