"""The feed of changes: bounded, in order, never splitting a revision."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from services.config.feed import CHUNK, Entry, Feed


def entry(revision: int, number: int = 0) -> Entry:
    return Entry(revision, "t1", "dn", str(number), None)


def test_a_reader_goes_on_after_its_revision() -> None:
    feed = Feed(1000)
    feed.reset(10)
    feed.add([entry(11), entry(12, 1), entry(12, 2)], 12)
    assert feed.position_after(9) is None
    assert feed.position_after(13) is None
    for after, wanted in ((10, [11, 12, 12]), (11, [12, 12]), (12, [])):
        position = feed.position_after(after)
        assert position is not None
        read = feed.read(position)
        assert read is not None
        assert [e.revision for e in read[0]] == wanted


def test_a_reader_that_falls_behind_is_told_so() -> None:
    feed = Feed(1000)
    feed.reset(0)
    start = feed.position_after(0)
    assert start is not None
    for revision in range(1, 2102):
        feed.add([entry(revision)], revision)
    assert len(feed) <= 2000
    assert feed.read(start) is None
    assert feed.position_after(feed.floor) is not None
    assert feed.position_after(feed.floor - 1) is None


def test_a_new_snapshot_ends_every_position() -> None:
    feed = Feed(1000)
    feed.reset(5)
    position = feed.position_after(5)
    assert position is not None
    feed.reset(3)
    assert feed.read(position) is None
    assert feed.revision == 3


@settings(deadline=None)
@given(st.lists(st.integers(1, 128), min_size=1, max_size=60))
def test_a_revision_is_never_split(sizes: list[int]) -> None:
    feed = Feed(100_000)
    feed.reset(0)
    for revision, size in enumerate(sizes, 1):
        feed.add([entry(revision, n) for n in range(size)], revision)
    position, found = feed.position_after(0), list[list[int]]()
    while position is not None:
        read = feed.read(position)
        assert read is not None
        if not read[0]:
            break
        found.append([e.revision for e in read[0]])
        position = read[1]
    assert sum(map(len, found)) == sum(sizes)
    assert all(len(part) <= CHUNK + 127 for part in found)
    edges = [(one[-1], other[0]) for one, other in itertools.pairwise(found)]
    assert all(end < begin for end, begin in edges)


async def test_waiting_ends_with_news_or_with_time() -> None:
    feed = Feed(1000)
    feed.reset(0)
    position = feed.position_after(0)
    assert position is not None
    assert not await feed.wait(position, 0.01)
    waiting = asyncio.create_task(feed.wait(position, 5))
    await asyncio.sleep(0)
    feed.add([entry(1)], 1)
    assert await waiting
