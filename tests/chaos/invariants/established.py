"""No established call is lost: who has heard 200 and sent ACK hangs up himself, and is answered."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.facts import Facts, Violation


def lost_calls(facts: Facts) -> Iterator[Violation]:
    """Callers whose established call ended otherwise than by their own BYE and its 200."""
    for call in facts.calls:
        if call.answered_at is not None and not call.complete:
            how = call.lost or "its BYE was never answered"
            yield Violation(
                "no established call lost", call.call_id, f"{call.kind} call of {call.tenant}: {how}"
            )


def legs_left_behind(facts: Facts) -> Iterator[Violation]:
    """Phones in a call that nobody ended, although every caller has gone."""
    for call in facts.phones:
        if call.ended_at is None:
            story = "established" if call.established_at is not None else "rang"
            yield Violation(
                "no leg left behind", call.call_id, f"{story} at {call.tenant}:{call.dn} and never ended"
            )
