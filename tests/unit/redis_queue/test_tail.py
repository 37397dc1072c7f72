"""The ring of a followed stream: contiguous, whatever comes by push and by read."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.redis_queue.entry_id import ORIGIN, EntryId
from services.redis_queue.tail import Tail


def entries(first: int, last: int) -> list[tuple[EntryId, int]]:
    return [((n, 0), n) for n in range(first, last + 1)]


def test_a_push_that_follows_is_taken() -> None:
    tail: Tail[int] = Tail(ORIGIN, 16)
    assert tail.push(ORIGIN, entries(1, 3))
    assert tail.push((3, 0), entries(4, 4))
    assert [value for _, value in tail.after(ORIGIN, 10) or []] == [1, 2, 3, 4]
    assert [value for _, value in tail.after((2, 0), 1) or []] == [3]


def test_a_push_that_leaves_a_gap_is_not() -> None:
    tail: Tail[int] = Tail(ORIGIN, 16)
    assert not tail.push((2, 0), entries(3, 3))
    assert tail.behind
    assert tail.merge(entries(1, 3)) == 3
    assert not tail.behind


def test_what_is_known_is_ignored() -> None:
    tail: Tail[int] = Tail(ORIGIN, 16)
    tail.push(ORIGIN, entries(1, 5))
    assert tail.merge(entries(1, 5)) == 0
    assert tail.push((2, 0), entries(3, 6))
    assert [value for _, value in tail.after(ORIGIN, 10) or []] == [1, 2, 3, 4, 5, 6]


def test_an_old_cursor_is_sent_to_redis() -> None:
    tail: Tail[int] = Tail(ORIGIN, 4)
    tail.push(ORIGIN, entries(1, 9))
    assert len(tail) == 4
    assert tail.start == (5, 0)
    assert tail.after((4, 0), 10) is None
    assert [value for _, value in tail.after((5, 0), 10) or []] == [6, 7, 8, 9]


def test_listeners_hear_of_news_only() -> None:
    tail: Tail[int] = Tail(ORIGIN, 4)
    heard: list[int] = []
    listener = lambda: heard.append(1)  # noqa: E731
    tail.listen(listener)
    tail.push(ORIGIN, entries(1, 2))
    tail.merge(entries(1, 2))
    assert len(heard) == 1
    tail.unlisten(listener)
    tail.push((2, 0), entries(3, 3))
    assert len(heard) == 1
    assert tail.listeners == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_every_reader_gets_everything_once_in_order(seed: int) -> None:
    """Appends of this node (pushed) and of others (read from Redis later), and a reader of any speed."""
    rng = random.Random(seed)
    tail: Tail[int] = Tail(ORIGIN, 4)
    stored: list[tuple[EntryId, int]] = []
    cursor, got = ORIGIN, []
    for _ in range(60):
        count = rng.randint(1, 3)
        before = stored[-1][0] if stored else ORIGIN
        new = entries(len(stored) + 1, len(stored) + count)
        stored += new
        if rng.random() < 0.6:
            tail.push(before, new)
        if rng.random() < 0.5:  # a blocking read that was issued some time ago
            since = rng.randint(0, tail.position[0])
            tail.merge([entry for entry in stored if entry[0][0] > since][: rng.randint(1, 50)])
        if rng.random() < 0.4:
            held = tail.after(cursor, rng.randint(1, 5))
            if held is None:
                until = tail.start
                held = [e for e in stored if cursor < e[0] <= until][:5]
                cursor = until if len(held) < 5 else cursor
            got += [value for _, value in held]
            cursor = max(cursor, held[-1][0]) if held else cursor
    known = [value for ident, value in stored if ident <= tail.position]
    assert got == known[: len(got)]
