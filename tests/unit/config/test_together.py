"""Writes that come together go out together; each has its own outcome, and a key is in one batch once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mesh.errors import DomainError, Reason
from mesh.etcd import Guarded, TxnResult, put_op, unchanged
from services.config import together
from services.config.together import MOST, Together


class Store:
    """Commits batches when told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def commit(self, each: Sequence[Guarded]) -> list[TxnResult]:
        keys = [one.success[0].request_put.key.decode() for one in each]
        self.batches.append(keys)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [TxnResult(not key.startswith("bad"), len(self.batches), ()) for key in keys]


def put(key: str) -> Guarded:
    return Guarded((unchanged(key, 0),), (put_op(key, b"x"),))


async def test_what_comes_in_one_turn_is_one_transaction_with_an_outcome_each() -> None:
    store = Store()
    writes = Together(store.commit)
    done = await asyncio.gather(*(writes.write(key, put(key)) for key in ("a", "bad", "c")))
    assert store.batches == [["a", "bad", "c"]]
    assert [result.succeeded for result in done] == [True, False, True]


async def test_while_one_is_under_way_the_next_gathers_and_a_key_waits_for_its_turn() -> None:
    store = Store()
    writes = Together(store.commit)
    store.open.clear()
    tasks = [asyncio.create_task(writes.write("a", put("a")))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(writes.write(key, put(key))) for key in ("a", "b", "b", "c")]
    await asyncio.sleep(0.01)
    assert writes.depth == 4
    store.open.set()
    assert [(await task).revision for task in tasks] == [1, 2, 2, 3, 2]
    assert store.batches == [["a"], ["a", "b", "c"], ["b"]]


async def test_a_batch_has_a_bound() -> None:
    store = Store()
    writes = Together(store.commit)
    await asyncio.gather(*(writes.write(f"{n}", put(f"{n}")) for n in range(2 * MOST + 1)))
    assert [len(batch) for batch in store.batches] == [MOST, MOST, 1]


async def test_a_failure_is_everybody_s_of_its_batch_and_nobody_else_s() -> None:
    store = Store()
    writes = Together(store.commit)
    store.error = DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "away", dependency="etcd")
    failed = await asyncio.gather(
        *(writes.write(key, put(key)) for key in ("a", "b")), return_exceptions=True
    )
    assert all(isinstance(error, DomainError) for error in failed)
    store.error = None
    assert (await writes.write("a", put("a"))).succeeded


async def test_who_gives_up_does_not_take_the_others_along() -> None:
    store = Store()
    writes = Together(store.commit)
    store.open.clear()
    first, second = (asyncio.create_task(writes.write(key, put(key))) for key in ("a", "b"))
    await asyncio.sleep(0.01)
    first.cancel()
    store.open.set()
    assert (await second).succeeded
    assert first.cancelled() or first.cancelling()


async def test_too_many_waiting_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "WAITING", 2)
    store = Store()
    writes = Together(store.commit)
    tasks = [asyncio.create_task(writes.write(key, put(key))) for key in ("a", "b")]
    await asyncio.sleep(0)
    with pytest.raises(DomainError) as caught:
        await writes.write("c", put("c"))
    assert caught.value.reason == Reason.REASON_QUEUE_FULL
    await asyncio.gather(*tasks)
