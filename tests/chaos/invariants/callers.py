"""No caller is forgotten: everybody who called got an answer, and nothing waits or is left when all have gone."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.facts import Facts, Violation


def forgotten(facts: Facts) -> Iterator[Violation]:
    """Callers who were neither answered nor refused."""
    for call in facts.calls:
        if call.answered_at is None and not call.refused:
            how = "no final response while the caller had patience" if call.forgotten else "no final response"
            ringing = ", had heard ringing" if call.ringing_at is not None else ""
            yield Violation(
                "no caller forgotten", call.call_id, f"{call.kind} call of {call.tenant}: {how}{ringing}"
            )


def left_waiting(facts: Facts) -> Iterator[Violation]:
    """Queues in which something waits that nobody takes: a routing request, an answer, an outcome."""
    for queue in facts.queues:
        if queue.depth:
            yield Violation("no caller forgotten", queue.queue, f"{queue.depth} entries wait")


def records_left(facts: Facts) -> Iterator[Violation]:
    """Calls and sessions whose snapshots are kept although they are over: an heir would bring them back to life."""
    for record in facts.records:
        names = ", ".join(record.names[:3])
        yield Violation("nothing left of what is over", record.key, f"{len(record.names)} left: {names}")
