"""Writes that Redis does not take at first: which are tried again, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from voice.record.v1.sip_call_pb2 import SipCall

from mesh.store import StaleEpoch, StoreUnavailable
from services.sip_cluster import snapshots
from services.sip_cluster.calls import CallThread, Identity
from services.sip_cluster.entry import Entry
from services.sip_cluster.snapshots import Snapshots

SLOT, EPOCH = 17, 5


class Store:
    """Fails as it is told, then takes what is written."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken: list[Sequence[object]] = []

    async def write(self, slot: int, epoch: int, operations: Sequence[object]) -> None:
        assert (slot, epoch) == (SLOT, EPOCH)
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(operations)


class Events:
    """Publishing without events."""

    async def stored(self, entry: Entry) -> None:
        await asyncio.sleep(0)

    def unacknowledged(self, entry: Entry) -> list[object]:
        return []


def made(store: Store, *, lease: bool = True) -> tuple[Snapshots, list[Entry]]:
    lost: list[Entry] = []
    fake: Any = store
    events: Any = Events()
    return Snapshots(fake, events, lambda slot: EPOCH, lost.append, lambda: lease), lost


def entry() -> Entry:
    found = Entry(CallThread("uuid", SLOT, 1, "", Identity(1, "uuid", 1), saved=True))
    found.dirty = True
    return found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "RETRY_S", 0.001)


def away(times: int) -> list[Exception]:
    return [StoreUnavailable("no answer in time") for _ in range(times)]


async def test_a_deletion_is_tried_until_redis_takes_it() -> None:
    store = Store(*away(3))
    made_, lost = made(store)
    made_.delete(entry())
    assert len(made_.deleting(SLOT)) == 1
    await made_.flush(20)
    assert (len(store.taken), len(made_.deleting(SLOT)), lost) == (1, 0, [])


async def test_a_deletion_is_left_to_the_heir() -> None:
    store = Store(*away(1), StaleEpoch(SLOT, EPOCH, EPOCH + 1))
    made_, _ = made(store)
    made_.delete(entry())
    await made_.flush(20)
    assert (store.taken, len(made_.deleting(SLOT))) == ([], 0)


async def test_the_last_write_before_a_slot_goes_is_tried_again() -> None:
    store = Store(*away(3))
    made_, _ = made(store)
    await made_.settle([entry()])
    assert (len(store.taken), made_.unprotected) == (1, 0)


@pytest.mark.parametrize("lease", [True, False])
async def test_but_a_slot_is_not_kept_for_a_redis_that_stays_away(
    lease: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SETTLE_S", 0.01)
    store = Store(*away(10_000))
    made_, _ = made(store, lease=lease)
    await made_.settle([entry()])
    assert (store.taken, made_.unprotected) == ([], 1)


def seq(operations: Sequence[object]) -> int:
    """Sequence number of the snapshot that was written."""
    written: Any = operations[0]
    return SipCall.FromString(written.args[1]).seq


async def test_a_write_that_is_tried_again_does_not_undo_one_that_was_made_meanwhile() -> None:
    """Neither lease nor Redis is there, a change that nothing waits for is tried again; meanwhile both are back, and the
    call has gone on."""
    store = Store(*away(1))
    made_, _ = made(store, lease=False)
    call = entry()
    call.thread.seq = 5
    made_.save(call, lambda _: None)
    while store.failures:
        await asyncio.sleep(0)
    call.thread.seq = 10
    made_.save(call, lambda _: None)
    await made_.flush(20)
    assert [seq(taken) for taken in store.taken] == [10, 10]


async def test_a_write_that_is_tried_again_does_not_bring_back_a_call_that_has_ended() -> None:
    store = Store(*away(1))
    made_, _ = made(store, lease=False)
    call = entry()
    made_.save(call, lambda _: None)
    while not made_.unprotected:
        await asyncio.sleep(0)
    call.closed = True
    made_.delete(call)
    await made_.flush(20)
    assert [taken[0].name for taken in store.taken] == ["HDEL"]  # type: ignore[attr-defined]
