"""A thread from its snapshot, as `restoring.py` and `takeover.py` of the SIP Cluster go on with it: record and back, INVITEs again
under their old branch, what was to be sent, and what `resuming.due` says."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from services.sip_cluster import effects as do
from services.sip_cluster import resuming
from services.sip_cluster.calls import CallThread, LegState
from services.sip_cluster.records import from_record, to_record

if TYPE_CHECKING:
    from tests.simulation.calls import Entry, SipNode


def thread_of(raw: bytes) -> tuple[CallThread, str, list[EventEnvelope], list[do.Effect]]:
    """The thread of a snapshot as an heir gets it, through `records`; its caller, events and effects on their way."""
    thread, call_id, events, pending = pickle.loads(raw)
    stored = to_record(thread)
    record = type(stored).FromString(stored.SerializeToString())
    return from_record(record), call_id, [EventEnvelope.FromString(event) for event in events], pending


def revive(node: SipNode, entry: Entry, pending: list[do.Effect]) -> None:
    """Goes on with a thread."""
    thread = entry.thread
    for leg in list(thread.legs.values()):
        if leg.state in (LegState.CALLING, LegState.EARLY):
            node.dialogs.send(
                entry, do.SendInvite(leg.id, leg.contact, (), "", "", False, leg.offer, leg.offer_type)
            )
        elif leg.state in (LegState.ACCEPTED, LegState.ENDING):
            node.dialogs.send(entry, do.Accept(leg.id, b"", ""))
    node.adopt(entry, [*pending, *resuming.due(thread)])
