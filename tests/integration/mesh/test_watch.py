"""The watch against a real etcd that is compacted, paused, killed, wiped and flooded."""

import asyncio
from collections.abc import Callable

from mesh.etcd import Batch, Etcd, Watch, put_op
from tests.integration.relay import Relay
from tests.integration.servers import EtcdServer


class Follower:
    """What somebody who reads a watch believes the prefix holds."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.state: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.revisions: list[int] = []
        self._task = asyncio.create_task(self._follow())
        self._news = asyncio.Event()

    async def _follow(self) -> None:
        async for batch in self.watch:
            self.batches.append(batch)
            if batch.snapshot is not None:
                self.state = {kv.key: kv.value for kv in batch.snapshot}
            for change in batch.changes:
                self.revisions.append(change.revision)
                if change.kv is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.kv.value
            self._news.set()

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        await self.watch.close()
        await asyncio.wait_for(self._task, 2)


async def test_a_snapshot_comes_first_and_changes_follow(etcd: Etcd, region: str) -> None:
    await etcd.put(f"/{region}/a", b"1")
    follower = Follower(etcd.watch(f"/{region}/"))
    await follower.until(lambda: follower.state == {f"/{region}/a": b"1"})
    await etcd.put(f"/{region}/b", b"2")
    await etcd.delete(f"/{region}/a")
    await etcd.put(f"/{region}0", b"beside the prefix")
    await follower.until(lambda: follower.state == {f"/{region}/b": b"2"})
    assert [batch.snapshot for batch in follower.batches[1:]] == [None] * (len(follower.batches) - 1)
    assert follower.watch.alive
    await follower.close()


async def test_changes_from_a_revision_on(etcd: Etcd, region: str) -> None:
    first = await etcd.put(f"/{region}/a", b"1")
    await etcd.put(f"/{region}/a", b"2")
    follower = Follower(etcd.watch(f"/{region}/", from_revision=first + 1))
    await follower.until(lambda: follower.state == {f"/{region}/a": b"2"})
    assert follower.batches[0].snapshot is None
    assert follower.revisions == [first + 1]
    await follower.close()


async def test_one_transaction_is_one_batch(etcd: Etcd, region: str) -> None:
    follower = Follower(etcd.watch(f"/{region}/"))
    await follower.until(lambda: bool(follower.batches))
    await etcd.txn([], [put_op(f"/{region}/{number}", b"x" * 8_000) for number in range(128)])
    await follower.until(lambda: len(follower.state) == 128)
    assert len(follower.batches) == 2
    await follower.close()


async def test_a_cancelled_reader_loses_nothing(etcd: Etcd, region: str) -> None:
    watch = etcd.watch(f"/{region}/")
    await anext(watch)
    seen: list[bytes] = []
    for number in range(5):
        reading = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        seen += [] if reading.cancelled() else _put_in(reading.result())
        await etcd.put(f"/{region}/a", str(number).encode())
    assert seen + await _values(watch, 5 - len(seen)) == [b"0", b"1", b"2", b"3", b"4"]
    await watch.close()


async def test_a_slow_reader_loses_nothing(etcd: Etcd, region: str) -> None:
    watch = etcd.watch(f"/{region}/")
    await anext(watch)
    for number in range(300):
        await etcd.put(f"/{region}/a", str(number).encode())
    assert await _values(watch, 300) == [str(number).encode() for number in range(300)]
    await watch.close()


async def test_it_resumes_over_a_restart_without_a_gap(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint)
    follower = Follower(client.watch("/x/"))
    await follower.until(lambda: bool(follower.batches))
    expected = []
    for round_ in range(2):
        for number in range(20):
            expected.append(await client.put("/x/a", f"{round_}.{number}".encode()))
        own_etcd.kill()
        own_etcd.start()
    expected.append(await client.put("/x/a", b"last", timeout=10))
    await follower.until(lambda: follower.state == {"/x/a": b"last"})
    assert follower.revisions == expected
    assert sum(batch.snapshot is not None for batch in follower.batches) == 1
    await follower.close()
    await client.close()


async def test_it_resumes_over_compaction_with_a_snapshot(own_etcd: EtcdServer) -> None:
    relay = Relay(own_etcd.endpoint)
    await relay.start()
    client, writer = Etcd(relay.endpoint), Etcd(own_etcd.endpoint)
    await writer.put("/x/a", b"0")
    follower = Follower(client.watch("/x/"))
    await follower.until(lambda: bool(follower.batches))
    await relay.cut()
    await writer.put("/x/a", b"1")
    await writer.delete("/x/a")
    await writer.compact(await writer.put("/x/b", b"2"))
    await relay.start()
    await follower.until(lambda: follower.state == {"/x/b": b"2"})
    assert [batch.snapshot is not None for batch in follower.batches] == [True, True]
    assert not any(batch.replaced for batch in follower.batches)
    await writer.put("/x/c", b"3")
    await follower.until(lambda: len(follower.state) == 2)
    await follower.close()
    for each in (client, writer):
        await each.close()
    await relay.cut()


async def test_a_compacted_starting_revision_gives_a_snapshot(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint)
    first = await client.put("/x/a", b"1")
    await client.compact(await client.put("/x/a", b"2"))
    follower = Follower(client.watch("/x/", from_revision=first))
    await follower.until(lambda: follower.state == {"/x/a": b"2"})
    assert follower.batches[0].snapshot is not None
    await follower.close()
    await client.close()


async def test_a_half_open_connection_is_given_up(own_etcd: EtcdServer) -> None:
    relay = Relay(own_etcd.endpoint)
    await relay.start()
    client, writer = Etcd([relay.endpoint, own_etcd.endpoint]), Etcd(own_etcd.endpoint)
    follower = Follower(client.watch("/x/"))
    await follower.until(lambda: bool(follower.batches))
    relay.freeze()
    await writer.put("/x/a", b"1")
    await follower.until(lambda: follower.state == {"/x/a": b"1"})
    await follower.close()
    relay.thaw()
    for each in (client, writer):
        await each.close()
    await relay.cut()


async def test_a_frozen_etcd_is_outlived(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint)
    follower = Follower(client.watch("/x/"))
    await follower.until(lambda: bool(follower.batches))
    own_etcd.pause()
    await asyncio.sleep(7)  # past DEAD_S: the stream is given up and opened again
    assert not follower.watch.alive
    own_etcd.resume()
    revision = await client.put("/x/a", b"1", timeout=10)
    await follower.until(lambda: follower.state == {"/x/a": b"1"})
    assert follower.revisions == [revision]
    await follower.close()
    await client.close()


async def test_a_replaced_store_is_noticed(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint)
    await client.ensure_store_id()
    for number in range(5):
        await client.put(f"/x/{number}", b"old")
    follower = Follower(client.watch("/x/"))
    await follower.until(lambda: len(follower.state) == 5)
    own_etcd.kill()
    own_etcd.wipe()
    own_etcd.start()
    writer = Etcd(own_etcd.endpoint)
    await writer.put("/x/new", b"1")
    await follower.until(lambda: follower.state == {"/x/new": b"1"})
    assert [batch.replaced for batch in follower.batches if batch.snapshot is not None] == [False, True]
    for number in range(20):  # further than the old store had come
        await writer.put("/x/new", str(number).encode())
    await follower.until(lambda: follower.state == {"/x/new": b"19"})
    await follower.close()
    for each in (client, writer):
        await each.close()


async def test_a_closed_watch_ends_its_reader(etcd: Etcd, region: str) -> None:
    watch = etcd.watch(f"/{region}/")
    await anext(watch)
    reading = asyncio.create_task(_read_all(watch))
    await asyncio.sleep(0)
    await watch.close()
    assert await asyncio.wait_for(reading, 2) == []


async def _read_all(watch: Watch) -> list[Batch]:
    return [batch async for batch in watch]


async def _values(watch: Watch, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(10):
        while len(values) < count:
            values += _put_in(await anext(watch))
    return values


def _put_in(batch: Batch) -> list[bytes]:
    return [change.kv.value for change in batch.changes if change.kv]
