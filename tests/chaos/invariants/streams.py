"""Each stream is one sequence: from 1, without gaps, under epochs that never go back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tests.chaos.facts import Facts, StreamEvent, Violation

SINGLE = "gapless and single sequence"


def by_stream(events: Iterable[StreamEvent]) -> dict[tuple[str, str], list[StreamEvent]]:
    """(family, stream) -> its events in the order Redis has them."""
    streams: dict[tuple[str, str], list[StreamEvent]] = defaultdict(list)
    for event in events:
        streams[event.family, event.stream].append(event)
    return streams


def gaps(facts: Facts) -> Iterator[Violation]:
    """Gaps, repeats, an epoch that went back, an entry that is not where its seq says."""
    for (family, stream), events in by_stream(facts.events).items():
        first = events[0].seq
        if first != 1 and family == "thread":
            yield Violation(SINGLE, stream, f"begins with {first}")
        for before, after in pairwise(events):
            if after.seq != before.seq + 1:
                yield Violation(
                    SINGLE, stream, f"{after.seq} ({after.name}) follows {before.seq} ({before.name})"
                )
            if after.epoch < before.epoch:
                yield Violation(SINGLE, stream, f"epoch {after.epoch} at {after.seq} after {before.epoch}")
        for event in events:
            if event.entry != event.seq:
                yield Violation(SINGLE, stream, f"entry {event.entry} holds seq {event.seq}")
        ids = Counter(event.event_id for event in events)
        yield from (
            Violation(SINGLE, stream, f"{name} is there {n} times") for name, n in ids.items() if n > 1
        )


def whole_calls(facts: Facts) -> Iterator[Violation]:
    """A call's stream begins with CALL_CREATED and ends with CALL_DELETED, each call of it created and deleted once."""
    for (family, stream), events in by_stream(facts.events).items():
        if family != "thread":
            continue
        if events[-1].name != "CALL_DELETED":
            yield Violation(
                "every call has its end", stream, f"ends with {events[-1].name} at {events[-1].seq}"
            )
        for name in ("CALL_CREATED", "CALL_DELETED"):
            counted = Counter(event.conn_id for event in events if event.name == name)
            for conn_id, count in counted.items():
                if count > 1:
                    yield Violation("every call has its end", stream, f"{count} {name} of {conn_id:016x}")
            if not counted and name == "CALL_CREATED":
                yield Violation("every call has its end", stream, "was never created")


def slot_streams(facts: Facts) -> Iterator[Violation]:
    """What is in a slot's stream is in its streams, once, in the same order: nothing lost or doubled for readers by slot."""
    there: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for event in facts.events:
        there[event.stream].add((event.stream, event.seq))
    for slot, entries in facts.slot_order.items():
        last: dict[str, int] = {}
        for stream, seq in entries:
            if stream in last and seq != last[stream] + 1:
                yield Violation(SINGLE, f"slot {slot}", f"{stream}: {seq} follows {last[stream]}")
            last[stream] = seq
        told = Counter(entries)
        for entry, count in told.items():
            if count > 1:
                yield Violation(SINGLE, f"slot {slot}", f"{entry[0]}/{entry[1]} is there {count} times")
        for stream in last:
            missing = {seq for _, seq in there[stream]} - {seq for name, seq in told if name == stream}
            if missing:
                yield Violation(SINGLE, f"slot {slot}", f"{stream}: not in the slot: {sorted(missing)}")


def told_to_clients(facts: Facts) -> Iterator[Violation]:
    """A client hears each event of a stream once and in order, and only what the stream has in the end."""
    known = {(event.stream, event.seq): event.event_id for event in facts.events}
    heard: dict[tuple[str, str], int] = {}
    for seen in facts.seen:
        key = (seen.tenant, seen.stream)
        if seen.seq <= heard.get(key, 0):
            yield Violation("told once", seen.stream, f"{seen.seq} was told after {heard[key]}")
        heard[key] = max(seen.seq, heard.get(key, 0))
        if known and known.get((seen.stream, seen.seq)) != seen.event_id:
            has = known.get((seen.stream, seen.seq), "nothing")
            yield Violation("no event lost", seen.stream, f"{seen.event_id} was told, the stream has {has}")
    told = {(seen.stream, seen.seq) for seen in facts.seen}
    subscribed = {seen.tenant for seen in facts.seen}
    for event in facts.events:
        wanted = event.family == "thread" and event.tenant in subscribed and event.name != "REQUEST"
        if wanted and (event.stream, event.seq) not in told:
            yield Violation(
                "no event lost", event.stream, f"{event.seq} ({event.name}) was never told to its client"
            )
