"""A call thread as its events tell it. Pure: an event in, the thread changed, an outcome out.

Every event of a thread counts once, in sequence. A repeat is a DUPLICATE and changes nothing; an event that leaves
a gap changes nothing either, the caller fetches what is missing first (or tells it lost with `skip`). So the same
events always give the same thread, however often and in whatever portions they come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from services.call_state.user_data import KvList, UserDataChange, changed

MISSING_KEPT: Final = 100
"""Missing sequence numbers remembered at most."""


class Kind(IntEnum):
    """Events that say something about a thread; historic numbers (voice.tlib.v1.MessageType)."""

    QUEUED = 57
    DIVERTED = 58
    ABANDONED = 59
    RINGING = 60
    DIALING = 61
    NETWORK_REACHED = 62
    DESTINATION_BUSY = 63
    ESTABLISHED = 64
    RELEASED = 65
    HELD = 66
    RETRIEVED = 67
    PARTY_CHANGED = 68
    PARTY_ADDED = 69
    PARTY_DELETED = 70
    ROUTE_REQUEST = 71
    ROUTE_USED = 72
    ATTACHED_DATA_CHANGED = 85
    CALL_CREATED = 160
    CALL_DATA_CHANGED = 161
    CALL_DELETED = 162
    CALL_PARTY_ADDED = 163
    CALL_PARTY_STATE = 164
    CALL_PARTY_MOVED = 165
    CALL_PARTY_DELETED = 166


OF_CALLS: Final = frozenset(kind for kind in Kind if kind.name.startswith("CALL_"))
"""Call-based events: told for every party, those outside too."""


class PartyState(IntEnum):
    """States a party gets from events of its DN (voice.tlib.v1.PartyState)."""

    INITIATED = 0x1
    QUEUED = 0x9
    ALERTING = 0xA
    BUSY = 0xB
    CONNECTED = 0xC
    HELD = 0xE
    ROUTING = 0x809
    DIALING = 0x10001


class Outcome(Enum):
    """What an event did."""

    FOLDED = "folded"
    DUPLICATE = "duplicate"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Told:
    """An event (or user-data request) of a thread, with what the fold needs of it."""

    seq: int
    time_us: int
    kind: Kind | None
    """None for an event that says nothing about the thread: it only counts."""
    conn_id: int = 0
    previous_conn_id: int = 0
    call_uuid: str = ""
    call_type: int = 0
    call_state: int = 0
    ani: str = ""
    dnis: str = ""
    this_dn: str = ""
    this_role: int = 0
    this_queue: str = ""
    agent_id: str = ""
    other_dn: str = ""
    other_role: int = 0
    party_id: int = 0
    party_state: int = 0
    user_data: KvList | None = None
    """All user data of the call after the event; None when the event does not tell."""
    change: UserDataChange | None = None
    """What a user-data request asks for."""
    epoch: int = 0
    """Epoch of the SIP slot under which it was published."""


@dataclass(slots=True)
class Party:
    """A party of a call; stays listed when it has left, until the thread ends."""

    dn: str
    role: int = 0
    state: int = 0
    agent_id: str = ""
    queue: str = ""
    since_us: int = 0
    established_us: int = 0
    released_us: int = 0
    call_state: int = 0
    party_id: int = 0
    dn_events: bool = False
    """Events of its DN were told: it is a phone or a route point, not a party outside."""


@dataclass(slots=True)
class Call:
    """A call of the thread."""

    conn_id: int
    call_uuid: str = ""
    call_type: int = 0
    ani: str = ""
    dnis: str = ""
    user_data: KvList = ()
    parties: list[Party] = field(default_factory=list)
    created_us: int = 0
    deleted_us: int = 0

    def party(self, dn: str, party_id: int = 0) -> Party | None:
        """The party on a DN: the one with the number if given, else the newest that has not left."""
        for party in reversed(self.parties):
            if party.dn == dn and not party.released_us and (not party_id or party.party_id in (0, party_id)):
                return party
        return None


@dataclass(slots=True)
class Thread:
    """A call thread."""

    call_thread_id: str
    tenant: str
    calls: list[Call] = field(default_factory=list)
    last_seq: int = 0
    created_us: int = 0
    ended_us: int = 0
    updated_us: int = 0
    missing: list[int] = field(default_factory=list)
    epoch: int = 0
    """Of the SIP slot, in the latest event: a higher one now means another owner."""

    def call(self, conn_id: int) -> Call | None:
        """The call of a ConnID."""
        return next((call for call in self.calls if call.conn_id == conn_id), None)

    def fold(self, told: Told) -> Outcome:
        """Takes the next event."""
        if told.seq <= self.last_seq:
            return Outcome.DUPLICATE
        if told.seq != self.last_seq + 1:
            return Outcome.GAP
        self.last_seq = told.seq
        self.created_us = self.created_us or told.time_us
        self.updated_us = max(self.updated_us, told.time_us)
        self.epoch = max(self.epoch, told.epoch)
        if told.kind is not None or told.change is not None:
            self._fold_call(told)
        return Outcome.FOLDED

    def skip(self, until: int) -> int:
        """Events before sequence number `until` that were not told are lost for good; how many."""
        lost = range(self.last_seq + 1, until)
        self.missing += lost[: MISSING_KEPT - len(self.missing)]
        self.last_seq += len(lost)
        return len(lost)

    def _fold_call(self, told: Told) -> None:
        call = self.call(told.conn_id)
        if call is None:
            if not told.conn_id or told.kind is Kind.CALL_DELETED:
                return  # about the thread as a whole, or about a call that nothing else was told of
            call = Call(told.conn_id, created_us=told.time_us)
            self.calls.append(call)
            self.ended_us = 0
        _describe(call, told)
        if told.change is not None:
            call.user_data = changed(call.user_data, told.change)
        if told.user_data is not None:
            call.user_data = told.user_data
        if told.kind is not None and not call.deleted_us:
            _FOLDS.get(told.kind, _nothing)(self, call, told)


def _describe(call: Call, told: Told) -> None:
    """What any event of a call says of it."""
    call.call_uuid = call.call_uuid or told.call_uuid
    call.call_type = told.call_type or call.call_type
    call.ani = told.ani or call.ani
    call.dnis = told.dnis or call.dnis


Fold = Callable[[Thread, Call, Told], None]


def _nothing(thread: Thread, call: Call, told: Told) -> None:
    """The event says no more than its common attributes."""


def _deleted(thread: Thread, call: Call, told: Told) -> None:
    call.deleted_us = told.time_us
    for party in call.parties:
        party.released_us = party.released_us or told.time_us
    if all(other.deleted_us for other in thread.calls):
        thread.ended_us = told.time_us


def _into(state: PartyState) -> Fold:
    """ThisDN is now in a state."""

    def fold(thread: Thread, call: Call, told: Told) -> None:
        party = _present(call, told)
        if party is None:
            return
        party.state = int(state)
        if state is PartyState.CONNECTED:
            party.established_us = party.established_us or told.time_us

    return fold


def _party_told(thread: Thread, call: Call, told: Told) -> None:
    """CallPartyAdded and CallPartyState name the state."""
    party = _present(call, told)
    if party is None or not told.party_state:
        return
    party.state = told.party_state
    if told.party_state & 0xF == PartyState.CONNECTED:
        party.established_us = party.established_us or told.time_us


def _left(thread: Thread, call: Call, told: Told) -> None:
    """ThisDN is no longer in the call."""
    party = call.party(told.this_dn, told.party_id)
    if party is not None:
        party.released_us, party.call_state = told.time_us, told.call_state


def _moved(thread: Thread, call: Call, told: Told) -> None:
    """PartyChanged and CallPartyMoved: ThisDN goes over from the call of PreviousConnID (domain facts §2.5)."""
    before = thread.call(told.previous_conn_id) if told.previous_conn_id != call.conn_id else None
    party = before.party(told.this_dn, told.party_id) if before is not None else None
    if before is None or party is None:
        _present(call, told)  # it is in the call already; its other party has changed
        return
    before.parties.remove(party)
    party.role = told.this_role or party.role
    call.parties.append(party)


def _joined(thread: Thread, call: Call, told: Told) -> None:
    """PartyAdded is told to those who were there: OtherDN is the new one."""
    _present(call, told)
    if told.other_dn and call.party(told.other_dn) is None:
        call.parties.append(
            Party(told.other_dn, told.other_role, int(PartyState.CONNECTED), since_us=told.time_us)
        )


def _parted(thread: Thread, call: Call, told: Told) -> None:
    """PartyDeleted is told to those who stay: OtherDN has gone."""
    party = call.party(told.other_dn)
    if party is not None:
        party.released_us, party.call_state = told.time_us, told.call_state


def _present(call: Call, told: Told) -> Party | None:
    """The party of ThisDN, added when it is new, with what the event says of it."""
    if not told.this_dn:
        return None
    party = call.party(told.this_dn, told.party_id)
    if party is None:
        party = Party(told.this_dn, since_us=told.time_us)
        call.parties.append(party)
    party.role = told.this_role or party.role
    party.agent_id = told.agent_id or party.agent_id
    party.queue = told.this_queue or party.queue
    party.party_id = told.party_id or party.party_id
    party.dn_events = party.dn_events or told.kind not in OF_CALLS
    return party


_FOLDS: Final[dict[Kind, Fold]] = {
    Kind.CALL_DELETED: _deleted,
    Kind.CALL_PARTY_ADDED: _party_told,
    Kind.CALL_PARTY_STATE: _party_told,
    Kind.CALL_PARTY_MOVED: _moved,
    Kind.CALL_PARTY_DELETED: _left,
    Kind.QUEUED: _into(PartyState.QUEUED),
    Kind.ROUTE_REQUEST: _into(PartyState.ROUTING),
    Kind.DIALING: _into(PartyState.DIALING),
    Kind.RINGING: _into(PartyState.ALERTING),
    Kind.ESTABLISHED: _into(PartyState.CONNECTED),
    Kind.RETRIEVED: _into(PartyState.CONNECTED),
    Kind.HELD: _into(PartyState.HELD),
    Kind.DESTINATION_BUSY: _into(PartyState.BUSY),
    Kind.RELEASED: _left,
    Kind.ABANDONED: _left,
    Kind.DIVERTED: _left,
    Kind.PARTY_CHANGED: _moved,
    Kind.PARTY_ADDED: _joined,
    Kind.PARTY_DELETED: _parted,
}
"""Kinds that do more than describe the call."""
