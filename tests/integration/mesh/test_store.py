"""The fenced store against a real Redis: who may write, in what order, and what happens when Redis goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.store import (
    FencedStore,
    Operation,
    SequenceGap,
    StaleEpoch,
    StoreUnavailable,
    add_members,
    append,
    expire,
    offset,
    put,
    put_fields,
    remove,
    remove_fields,
    remove_members,
    trim,
)
from tests.integration.servers import RedisServer

OwnRedis = Callable[..., RedisServer]


@pytest.fixture
async def store(redis_client: redis.asyncio.Redis) -> AsyncIterator[FencedStore]:
    store = FencedStore(redis_client, "sip_cluster", "sip", budget_s=5.0)
    await store.start()
    yield store
    await store.stop()


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_only_the_highest_epoch_writes(store: FencedStore) -> None:
    await store.raise_fence(7, 10)
    await store.write(7, 10, [put("call", "first")])
    await store.raise_fence(7, 11)
    with pytest.raises(StaleEpoch) as refused:
        await store.write(7, 10, [put("call", "late")])
    assert (refused.value.slot, refused.value.epoch, refused.value.fence) == (7, 10, 11)
    with pytest.raises(StaleEpoch):
        await store.raise_fence(7, 10)
    with pytest.raises(StaleEpoch):
        await store.prove(7, 10)
    await store.prove(7, 11)
    assert await store.read(7, "call") == b"first"
    await store.write(8, 3, [put("call", "other slot")])


async def test_every_operation_does_what_it_says_and_may_be_repeated(store: FencedStore) -> None:
    operations: list[Operation] = [
        put("text", "v"),
        put("soon", b"\x00\xff", ttl_ms=60_000),
        put_fields("calls", {"1": b"one", "2": b"two", "3": b"three"}),
        remove_fields("calls", "3", "absent"),
        append("events", 1, {"e": b"first"}),
        append("events", 2, {"e": b"second"}),
        add_members("members", "a", "b"),
        remove_members("members", "b"),
        expire("members", 60_000),
        offset("thread:9", "1711-0"),
        put("gone", "x"),
        remove("gone"),
        trim("events", 1000),
    ]
    answers = await store.write("t1", 5, operations)
    assert answers == [b"OK", b"OK", 3, 1, 1, 1, 2, 1, 1, 1, b"OK", 1, 0]
    again = await store.write("t1", 5, operations)
    assert again[4:6] == [0, 0]
    assert await store.read("t1", "text") == b"v"
    assert await store.read("t1", "soon") == b"\x00\xff"
    assert await store.read("t1", "gone") is None
    assert await store.read_fields("t1", "calls") == {"1": b"one", "2": b"two"}
    assert await store.read_field("t1", "calls", "2") == b"two"
    assert (await store.count_fields("t1", "calls"), await store.count_fields("t1", "none")) == (2, 0)
    assert await store.read_members("t1", "members") == {b"a"}
    assert await store.read_stream("t1", "events") == [(1, {"e": b"first"}), (2, {"e": b"second"})]
    assert await store.read_stream("t1", "events", after_seq=1) == [(2, {"e": b"second"})]
    assert await store.read_stream("t1", "events", limit=1) == [(1, {"e": b"first"})]
    assert await store.read_offset("t1", "thread:9") == "1711-0"
    assert await store.read_offset("t1", "nothing") is None


async def test_keys_stay_within_the_slot(store: FencedStore, redis_client: redis.asyncio.Redis) -> None:
    await store.write(12, 1, [put("a", "1"), offset("s", "1")])
    keys = sorted(await redis_client.keys("*"))
    assert keys == [b"{sip_cluster:12}:a", b"{sip_cluster:12}:fence", b"{sip_cluster:12}:offsets"]


async def test_a_gap_refuses_the_whole_write(store: FencedStore) -> None:
    await store.write(1, 1, [append("s", 1, {"e": 1})])
    with pytest.raises(SequenceGap) as refused:
        await store.write(1, 1, [put("state", "2"), append("s", 2, {"e": 2}), append("s", 4, {"e": 4})])
    assert (refused.value.key, refused.value.seq, refused.value.last) == ("{sip_cluster:1}:s", 4, 2)
    assert await store.read(1, "state") is None
    assert [seq for seq, _ in await store.read_stream(1, "s")] == [1]
    with pytest.raises(SequenceGap):
        await store.write(1, 1, [append("empty", 5, {"e": 5})])


async def test_a_lost_stream_goes_on_where_its_owner_is(store: FencedStore) -> None:
    rest = [append("s", seq, {"e": seq}, first=True) for seq in (7, 8)]
    assert await store.write(1, 1, rest) == [1, 1]
    assert await store.write(1, 1, [append("s", 3, {"e": 3}, first=True)]) == [0]
    with pytest.raises(SequenceGap):
        await store.write(1, 1, [append("s", 10, {"e": 10}, first=True)])


async def test_a_trimmed_stream_remembers_its_last_seq(
    store: FencedStore, redis_client: redis.asyncio.Redis
) -> None:
    await store.write(1, 1, [append("s", seq, {"e": seq}) for seq in range(1, 6)])
    await redis_client.xtrim("{sip_cluster:1}:s", maxlen=0, approximate=False)
    assert await store.write(1, 1, [append("s", 5, {"e": 5}), append("s", 6, {"e": 6})]) == [0, 1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=20))
async def test_epochs_never_go_back(
    store: FencedStore, redis_client: redis.asyncio.Redis, writes: list[tuple[int, int]]
) -> None:
    """Whatever the order, a write takes place if and only if no higher epoch was there before."""
    await redis_client.flushall()
    fences: dict[int, int] = {}
    for slot, epoch in writes:
        fence = fences.get(slot, 0)
        expected = pytest.raises(StaleEpoch, match=f"fence {fence}") if epoch < fence else nullcontext()
        with expected:
            await store.write(slot, epoch, [put("epoch", epoch)])
        fences[slot] = max(epoch, fences.get(slot, 0))
    for slot, fence in fences.items():
        assert await store.read(slot, "epoch") == str(fence).encode()


async def test_writes_of_one_turn_go_out_together_and_in_order(
    store: FencedStore, redis_client: redis.asyncio.Redis
) -> None:
    await store.prove(1, 1)
    before = (await redis_client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    inputs = (await redis_client.info("stats"))["total_reads_processed"]
    writes = [store.write(number % 4, 1, [put("n", number)]) for number in range(400)]
    await asyncio.gather(*writes)
    stats = await redis_client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] - before == 400
    assert (await redis_client.info("stats"))["total_reads_processed"] - inputs < 40
    assert [await store.read(slot, "n") for slot in range(4)] == [b"396", b"397", b"398", b"399"]


async def test_a_flushed_script_is_loaded_again(
    store: FencedStore, redis_client: redis.asyncio.Redis
) -> None:
    await store.prove(1, 1)
    await redis_client.script_flush()
    await store.write(1, 1, [put("a", "1")])
    assert await store.read(1, "a") == b"1"


@pytest.mark.parametrize("epoch", [0, -1, 1 << 53])
async def test_an_epoch_out_of_range_is_refused(store: FencedStore, epoch: int) -> None:
    with pytest.raises(ValueError, match="epoch"):
        await store.write(1, epoch, [])


@pytest.mark.parametrize(
    "make",
    [
        lambda: put("k", "v", ttl_ms=0),
        lambda: expire("k", -1),
        lambda: append("k", 0, {"e": 1}),
        lambda: append("k", 1, {}),
        lambda: put_fields("k", {}),
        lambda: remove_fields("k"),
        lambda: add_members("k"),
        lambda: remove_members("k"),
    ],
)
def test_an_operation_that_makes_no_sense_is_refused(make: Callable[[], Operation]) -> None:
    with pytest.raises(ValueError):
        make()


async def test_a_write_has_limits(store: FencedStore) -> None:
    with pytest.raises(ValueError, match="operations"):
        await store.write(1, 1, [put("a", "1")] * 1001)
    with pytest.raises(ValueError, match="arguments"):
        await store.write(1, 1, [add_members("a", *range(2001))])


async def _elapsed(seconds: float) -> float:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - began


async def test_redis_away_costs_a_call_its_budget_and_no_more(own_redis: OwnRedis) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    store = FencedStore(client, "sip_cluster", "sip")
    unprotected: list[int | str] = []
    rewritten: list[float] = []
    forgotten: list[float] = []

    async def rewrite(slots: frozenset[int | str]) -> None:
        assert slots == {1}
        await store.write(1, 1, [put("a", "rewritten")], timeout=2)
        rewritten.append(time.monotonic())

    async def forgot() -> None:
        forgotten.append(time.monotonic())

    store.on_unprotected(unprotected.append)
    store.on_return(rewrite)
    store.on_primary_change(forgot)
    await store.start()
    await store.write(1, 1, [put("a", "before")], timeout=2)
    await _until(lambda: bool(store._primary))
    assert not rewritten
    server.pause()
    started = time.monotonic()
    budget = asyncio.create_task(_elapsed(0.25))  # as long as that takes on this machine now
    results = await asyncio.gather(
        *(store.write(1, 1, [put("a", number)]) for number in range(20)), return_exceptions=True
    )
    assert 0.2 < time.monotonic() - started < await budget + 0.3
    assert [type(result) for result in results] == [StoreUnavailable] * 20
    assert unprotected == [1] * 20
    server.resume()
    await _until(lambda: bool(rewritten))
    assert await store.read(1, "a") == b"rewritten"
    await asyncio.sleep(1.2)  # two looks later: it was told once, and a late answer is no lost memory
    assert len(rewritten) == 1
    assert not forgotten
    await store.stop()
    await client.aclose()


async def test_answers_stay_with_their_questions_over_a_pause(own_redis: OwnRedis) -> None:
    """Given-up commands must not leave an answer behind that the next one takes for its own."""
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    store = FencedStore(client, "sip_cluster", "sip")
    await store.start()
    await store.write(0, 1, [put(str(number), number) for number in range(50)], timeout=2)
    for _ in range(3):
        server.pause()
        given_up = await asyncio.gather(
            *(store.read(0, str(number), timeout=0.1) for number in range(50)), return_exceptions=True
        )
        assert {type(result) for result in given_up} == {StoreUnavailable}
        server.resume()
        answers = await asyncio.gather(*(store.read(0, str(number)) for number in range(50)))
        assert answers == [str(number).encode() for number in range(50)]
    await store.stop()
    await client.aclose()


async def test_a_write_waits_for_a_restart_within_its_budget(own_redis: OwnRedis) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    store = FencedStore(client, "sip_cluster", "sip")
    changed: list[float] = []

    async def rewrite() -> None:
        changed.append(time.monotonic())

    store.on_primary_change(rewrite)
    await store.start()
    await store.write(1, 4, [put("a", "1")], timeout=2)
    await _until(lambda: bool(store._primary))
    server.kill()
    writing = asyncio.create_task(store.write(1, 4, [put("a", "2")], timeout=10))
    await asyncio.to_thread(server.start)
    await writing
    assert await store.read(1, "a") == b"2"
    await _until(lambda: bool(changed))
    await store.stop()
    await client.aclose()


async def test_a_replica_takes_nothing_until_it_is_promoted(own_redis: OwnRedis) -> None:
    primary = own_redis()
    replica = own_redis(replica_of=primary)
    to_replica = redis.asyncio.Redis.from_url(replica.url)
    store = FencedStore(to_replica, "sip_cluster", "sip")
    returned: list[frozenset[int | str]] = []

    async def rewrite(slots: frozenset[int | str]) -> None:
        returned.append(slots)

    store.on_return(rewrite)
    await store.start()
    with pytest.raises(StoreUnavailable):
        await store.write(1, 1, [put("a", "1")])
    assert not returned
    await to_replica.replicaof("NO", "ONE")
    await store.write(1, 1, [put("a", "1")], timeout=2)
    await _until(lambda: returned == [frozenset({1})])
    await store.stop()
    await to_replica.aclose()


async def test_another_primary_is_told_until_somebody_could_deal_with_it(own_redis: OwnRedis) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    store = FencedStore(client, "sip_cluster", "sip")
    told: list[float] = []

    async def rewrite() -> None:
        told.append(time.monotonic())
        if len(told) < 3:
            raise StoreUnavailable("not yet")

    store.on_primary_change(rewrite)
    await store.start()
    await store.write(1, 4, [put("a", "1")], timeout=2)
    await _until(lambda: bool(store._primary))
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await _until(lambda: len(told) == 3, 20)
    first, second = told[1] - told[0], told[2] - told[1]
    assert second > first > 0.9  # each time later: what is rewritten all the time keeps a slow Redis slow
    await asyncio.sleep(1.2)
    assert len(told) == 3
    await store.stop()
    await client.aclose()


async def test_a_lost_fence_is_noticed_at_the_next_write(
    store: FencedStore, redis_client: redis.asyncio.Redis
) -> None:
    changed: list[float] = []

    async def rewrite() -> None:
        changed.append(time.monotonic())

    store.on_primary_change(rewrite)
    await store.raise_fence(1, 3)
    await redis_client.flushall()
    await store.write(1, 3, [put("a", "1")])
    await _until(lambda: bool(changed))
    with pytest.raises(StaleEpoch):
        await store.write(1, 2, [])


async def test_a_full_line_refuses_at_once(own_redis: OwnRedis) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    store = FencedStore(client, "sip_cluster", "sip")
    await store.start()
    server.pause()
    writes = [asyncio.ensure_future(store.write(1, 1, [], timeout=30)) for _ in range(20_050)]
    await asyncio.sleep(0)
    refused = [write for write in writes if write.done()]
    assert 50 <= len(refused) <= 60
    assert store.depth <= 20_000
    server.resume()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, StoreUnavailable) for result in results) == len(refused)
    await store.stop()
    await client.aclose()
