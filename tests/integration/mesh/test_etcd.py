"""The client against a real etcd."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from mesh.etcd import (
    Compacted,
    Etcd,
    EtcdUnavailable,
    Guarded,
    LeaseNotFound,
    absent,
    delete_op,
    delete_prefix_op,
    exists,
    get_op,
    put_op,
    unchanged,
    value_is,
)
from tests.integration.servers import EtcdServer, free_port, loopback


async def test_a_key_is_written_read_and_deleted(etcd: Etcd, region: str) -> None:
    key = f"/{region}/a"
    assert await etcd.get(key) is None
    first = await etcd.put(key, b"1")
    second = await etcd.put(key, b"2")
    kv = await etcd.get(key)
    assert kv is not None
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.lease) == (b"2", first, second, 0)
    assert await etcd.delete(key) == 1
    assert await etcd.delete(key) == 0


async def test_a_prefix_is_read_in_pages_at_one_revision(etcd: Etcd, region: str) -> None:
    ops = [put_op(f"/{region}/{number:04}", str(number).encode()) for number in range(100)]
    await etcd.txn([], ops)
    await etcd.put(f"/{region}0-neighbour", b"not below the prefix")
    read = await etcd.get_prefix(f"/{region}/", page=7)
    assert [kv.value for kv in read.items] == [str(number).encode() for number in range(100)]
    assert {kv.mod_revision for kv in read.items} == {read.revision - 1}
    assert await etcd.delete(f"/{region}/", prefix=True) == 100


async def test_guards_decide_which_branch_is_taken(etcd: Etcd, region: str) -> None:
    key = f"/{region}/a"
    assert (await etcd.txn([absent(key)], [put_op(key, b"1")])).succeeded
    lost = await etcd.txn([absent(key)], [put_op(key, b"2")], [get_op(key)])
    assert not lost.succeeded
    [[kv]] = lost.reads
    assert kv.value == b"1"
    guards = [exists(key), value_is(key, b"1"), unchanged(key, kv.mod_revision)]
    assert (await etcd.txn(guards, [put_op(key, b"3")])).succeeded
    assert not (await etcd.txn([unchanged(key, kv.mod_revision)], [delete_op(key)])).succeeded
    assert (await etcd.txn([value_is(key, b"3")], [delete_prefix_op(f"/{region}/")])).succeeded
    assert await etcd.get(key) is None


async def test_transactions_sent_together_are_refused_one_by_one(etcd: Etcd, region: str) -> None:
    keys = [f"/{region}/{name}" for name in "abc"]
    await etcd.put(keys[1], b"there")
    each = [Guarded((absent(key),), (put_op(key, b"new"),), (get_op(key),)) for key in keys]
    results = await etcd.txns(each)
    assert [result.succeeded for result in results] == [True, False, True]
    assert len({result.revision for result in results}) == 1
    [[found]] = results[1].reads
    assert found.value == b"there"
    written = [await etcd.get(key) for key in keys]
    assert [kv.value for kv in written if kv] == [b"new", b"there", b"new"]
    assert {kv.mod_revision for kv in (written[0], written[2]) if kv} == {results[0].revision}
    watch = etcd.watch(f"/{region}/", results[0].revision)
    batch = await asyncio.wait_for(anext(watch), 5)
    assert [change.key for change in batch.changes] == [keys[0], keys[2]], "one event of a watch"
    await watch.close()
    with pytest.raises(ValueError, match="at most 128"):
        await etcd.txns(each * 43)


async def test_a_transaction_has_at_most_128_operations(etcd: Etcd) -> None:
    with pytest.raises(ValueError, match="128"):
        await etcd.txn([], [get_op("a")] * 129)


async def test_a_lease_takes_its_keys_along(etcd: Etcd, region: str) -> None:
    lease, ttl = await etcd.lease_grant(2)
    assert ttl == 2
    await etcd.put(f"/{region}/a", b"", lease=lease)
    assert 0 <= await etcd.lease_left(lease) <= 2
    await etcd.lease_revoke(lease)
    await etcd.lease_revoke(lease)
    assert await etcd.get(f"/{region}/a") is None
    assert await etcd.lease_left(lease) == -1
    with pytest.raises(LeaseNotFound):
        await etcd.put(f"/{region}/a", b"", lease=lease)
    with pytest.raises(LeaseNotFound):
        await etcd.txn([], [put_op(f"/{region}/a", b"", lease)])


async def test_the_next_endpoint_is_used_when_one_does_not_answer(
    etcd_server: EtcdServer, own_etcd: EtcdServer, region: str
) -> None:
    nobody = f"{loopback()}:{free_port()}"
    own_etcd.pause()
    client = Etcd([nobody, own_etcd.endpoint, etcd_server.endpoint])
    started = time.monotonic()
    await client.put(f"/{region}/a", b"1")
    assert time.monotonic() - started < 2.0
    started = time.monotonic()
    assert await client.get(f"/{region}/a") is not None
    assert time.monotonic() - started < 0.5
    await client.close()


async def test_every_call_ends_by_its_deadline(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint, timeout=0.5)
    await client.put("a", b"")
    own_etcd.pause()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.get("a"),
        lambda: client.get_prefix("a"),
        lambda: client.put("a", b""),
        lambda: client.delete("b"),  # it may be carried out once etcd wakes, after the put as well as before
        lambda: client.txn([], [get_op("a")]),
        lambda: client.lease_grant(2),
        lambda: client.lease_left(1),
        lambda: client.lease_revoke(1),
    ]
    started = time.monotonic()
    results = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    assert [type(result) for result in results] == [EtcdUnavailable] * len(calls)
    assert time.monotonic() - started < 3.0
    own_etcd.resume()
    assert await client.get("a", timeout=5) is not None
    await client.close()


async def test_a_compacted_revision_is_told_as_such(own_etcd: EtcdServer) -> None:
    client = Etcd(own_etcd.endpoint)
    revision = await client.put("a", b"1")
    await client.put("a", b"2")
    await client.compact(revision + 1)
    with pytest.raises(Compacted):
        await client.compact(revision)
    await client.close()


async def test_the_store_has_one_identity_however_many_ask(own_etcd: EtcdServer) -> None:
    clients = [Etcd(own_etcd.endpoint) for _ in range(4)]
    assert await clients[0].identity() == (None, 1)
    ids = await asyncio.gather(*(client.ensure_store_id() for client in clients))
    assert len(set(ids)) == 1
    assert await clients[1].identity() == (ids[0], 2)
    for client in clients:
        await client.close()


@pytest.mark.parametrize("text", ["", "host", "host:", ":x", ","])
def test_a_bad_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="etcd endpoint"):
        Etcd(text)
