"""A slot's calls are let go when what was under way has ended, and not before what has changed is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from services.sip_cluster import handing_over
from services.sip_cluster.calls import CallThread, Identity
from services.sip_cluster.entry import Entry
from services.sip_cluster.handing_over import HandingOver

SLOT = 17


class Around:
    """The node, its snapshots and its signalling, as far as handing over knows them."""

    def __init__(self, *entries: Entry) -> None:
        self.by_slot = {SLOT: set(entries)}
        self.log: list[tuple[str, Entry]] = []
        self.ends: list[asyncio.Task[None]] = []

    def freeze(self, entry: Entry) -> None:
        entry.frozen = True
        entry.calm = asyncio.get_running_loop().create_future()
        if not entry.saving:
            entry.calm.set_result(None)

    def turn_away(self, entry: Entry) -> None:
        self.log.append(("turned away", entry))

    async def settle(self, entries: Iterable[Entry]) -> None:
        self.log += [("settled", entry) for entry in entries]

    def deleting(self, slot: int) -> list[asyncio.Task[None]]:
        return self.ends

    def let_go(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.closed = True
            self.by_slot[SLOT].discard(entry)
            self.log.append(("let go", entry))


def entry(*, saved: bool = True, saving: bool = False) -> Entry:
    thread = CallThread("uuid", SLOT, 1, "", Identity(1, "uuid", 1), saved=saved)
    return Entry(thread, saving=saving)


def made(around: Around) -> HandingOver:
    fake: Any = around
    return HandingOver(fake, fake, fake)


async def test_what_is_under_way_ends_first() -> None:
    busy = entry(saving=True)
    around = Around(busy)
    letting = asyncio.create_task(made(around).let_go(SLOT))
    await asyncio.sleep(0)
    assert busy.frozen and around.log == []
    assert busy.calm is not None
    busy.told = asyncio.get_running_loop().create_future()
    busy.calm.set_result(None)
    await asyncio.sleep(0.01)
    assert around.log == [("settled", busy)], "its last event is not stored yet"
    busy.told.set_result(None)
    assert await letting == 1
    assert around.log == [("settled", busy), ("let go", busy)]


async def test_nothing_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_over, "FINISH_S", 0.01)
    busy = entry(saving=True)
    around = Around(busy)
    async with asyncio.timeout(5):
        assert await made(around).let_go(SLOT) == 1
    assert busy.closed


async def test_a_call_that_has_not_begun_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_over, "NEWBORN_S", 0.05)
    newborn = entry(saved=False)
    around = Around(newborn)
    hand_over = made(around)
    async with asyncio.timeout(5):
        await hand_over.newborn(SLOT)
    assert await hand_over.let_go(SLOT) == 1
    assert around.log == [("turned away", newborn), ("let go", newborn)]


async def test_newborn_calls_are_waited_for() -> None:
    newborn = entry(saved=False)
    waiting = asyncio.create_task(made(Around(newborn)).newborn(SLOT))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    newborn.thread.saved = True
    async with asyncio.timeout(5):
        await waiting


async def test_lost_calls_are_dropped_at_once() -> None:
    one, two = entry(saving=True), entry()
    around = Around(one, two)
    assert made(around).drop(SLOT) == 2
    assert {kind for kind, _ in around.log} == {"let go"}
    assert made(around).drop(SLOT) == 0
