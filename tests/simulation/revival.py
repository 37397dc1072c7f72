"""A thread from its snapshot: record and back, the tail of its stream, and what the legs' states ask for.

The table is the one in the SIP Cluster's README ("SIP leg states, and what an heir does").
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import CallThread, LegState
from services.sip_cluster.records import from_record, to_record
from services.sip_cluster.tlib import EventType

if TYPE_CHECKING:
    from tests.simulation.calls import Entry, SipNode

_ENDS = frozenset({int(EventType.RELEASED), int(EventType.ABANDONED), int(EventType.CALL_PARTY_DELETED)})


def thread_of(raw: bytes) -> tuple[CallThread, str, list[EventEnvelope]]:
    """The thread of a snapshot as an heir gets it: through `records`."""
    thread, call_id, events = pickle.loads(raw)
    restored = from_record(type(record := to_record(thread)).FromString(record.SerializeToString()))
    return restored, call_id, [EventEnvelope.FromString(event) for event in events]


def revive(
    node: SipNode, entry: Entry, tail: Sequence[EventEnvelope], unacknowledged: Sequence[EventEnvelope]
) -> None:
    """Goes on with a thread: behind what its stream has, with what its legs wait for."""
    thread = entry.thread
    told = [event for event in tail if event.seq > thread.seq]
    if told:
        thread.seq = told[-1].seq
    kinds = {event.event.event_type for event in told}
    if int(EventType.CALL_DELETED) in kinds:
        _bury(node, entry)
        return
    if kinds & _ENDS:  # the end of the call had begun to be told
        node.feed(entry, inputs.Drop())
    for ask in list(thread.asks):
        node.take(entry, [do.AskDialPlan(ask)])
    for leg in list(thread.legs.values()):
        if leg.state in (LegState.CALLING, LegState.EARLY):
            node.dialogs.send(
                entry, do.SendInvite(leg.id, leg.contact, (), "", "", False, leg.offer, leg.offer_type)
            )
        elif leg.state is LegState.CANCELLING:
            node.dialogs.send(entry, do.CancelInvite(leg.id))
        elif leg.state in (LegState.ACCEPTED, LegState.ENDING):
            node.dialogs.send(entry, do.Accept(leg.id, b"", ""))
        elif leg.state is LegState.RELEASING:
            node.dialogs.send(entry, do.SendBye(leg.id))
    node.take(entry, [])


def _bury(node: SipNode, entry: Entry) -> None:
    """The stream says that the call is over: what is left of its legs is ended, nothing is told."""
    thread = entry.thread
    thread.calls.clear()
    thread.asks.clear()
    thread.timers.clear()
    for leg in thread.legs.values():
        leg.party = 0
    node.feed(entry, inputs.Drop())
