"""How the calls of a thread end whose owner died with them: what is told in the dead node's place (docs/decisions/0083).

Pure. The same order as a SIP node's: each DN that is still there Released (a route point Abandoned), each party deleted,
then the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.call_state.machine import Call, Kind, Party, PartyState, Thread

SYSTEM_ERROR: Final = 4
"""CallState of such an end (voice.tlib.v1.CallState)."""
_WAITING: Final = frozenset({PartyState.QUEUED, PartyState.ROUTING})


@dataclass(frozen=True, slots=True)
class End:
    """An event to be told."""

    kind: Kind
    call: Call
    party: Party | None = None
    """None for the end of the call itself."""


def ends(thread: Thread) -> list[End]:
    """The events that close what is left of a thread; none when nothing is."""
    return [end for call in thread.calls if not call.deleted_us for end in _call(call)]


def _call(call: Call) -> Iterator[End]:
    for party in call.parties:
        if party.released_us:
            continue
        if party.dn_events:
            yield End(Kind.ABANDONED if party.state in _WAITING else Kind.RELEASED, call, party)
        yield End(Kind.CALL_PARTY_DELETED, call, party)
    yield End(Kind.CALL_DELETED, call)
