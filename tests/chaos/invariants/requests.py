"""Every request is answered, and acts once however often it was sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.facts import Facts, StreamEvent, Violation


def unanswered(facts: Facts) -> Iterator[Violation]:
    """Requests that got no answer although they were sent again until the client's patience ended."""
    for request in facts.requests:
        if request.answered_at is None:
            tries = f"{request.attempts} attempts: {', '.join(request.failures[-3:]) or 'no answer'}"
            yield Violation("every request answered", request.request_id, f"{request.method}: {tries}")


def done_twice(facts: Facts) -> Iterator[Violation]:
    """Requests whose effect is in the streams more than once, or never although they were granted."""
    effects: dict[str, list[StreamEvent]] = defaultdict(list)
    for event in facts.events:
        if event.request_id:
            effects[event.request_id].append(event)
    for request in facts.requests:
        found = effects[request.request_id]
        times = Counter((event.stream, event.name, event.this_dn) for event in found)
        for (stream, name, dn), count in times.items():
            if count > 1:
                yield Violation("acts once", request.request_id, f"{count} {name} at {dn or '-'} in {stream}")
        streams = {event.stream for event in found if event.name == "REQUEST"}
        if len(streams) > 1:
            yield Violation("acts once", request.request_id, f"acted on {', '.join(sorted(streams))}")
        if request.outcome == "ok" and facts.events and not found:
            yield Violation(
                "every request answered",
                request.request_id,
                f"{request.method} was granted, no event tells it",
            )
