"""What was about to be sent when a snapshot was written: kept in the record, done (again) by an heir.

Every one of these may be repeated without harm: a repeated response is a retransmission, and so is a repeated ACK. What
the state of a leg says by itself (INVITE, CANCEL, BYE are due) is not kept; see `resuming.py`. INFO, NOTIFY and the answer
to a refused re-INVITE are left out: their senders ask again. So does the sender of a BYE, whose dialog is gone by then: the
heir knows it by its tag (`remembered.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from voice.record.v1 import sip_call_pb2 as rec

from services.sip_cluster import effects as do
from services.sip_cluster.entry import Entry
from services.sip_cluster.next_hop import host_port


def write(entry: Entry) -> Iterable[rec.SipPending]:
    """What the outbox holds of that kind, in order."""
    for effect in entry.outbox:
        match effect:
            case do.Alert(leg, status, body, kind):
                yield rec.SipPending(
                    kind=rec.SIP_PENDING_KIND_ALERT, leg=leg, status=status, body=body, body_type=kind
                )
            case do.Accept(leg, body, kind):
                yield rec.SipPending(kind=rec.SIP_PENDING_KIND_ACCEPT, leg=leg, body=body, body_type=kind)
            case do.SendAck(leg, body, kind):
                yield rec.SipPending(kind=rec.SIP_PENDING_KIND_ACK, leg=leg, body=body, body_type=kind)
            case do.AcceptOffer(leg, body, kind):
                yield rec.SipPending(
                    kind=rec.SIP_PENDING_KIND_ACCEPT_OFFER, leg=leg, body=body, body_type=kind
                )
            case do.Reject(leg, status):
                signal = entry.signals.get(leg)
                if signal is not None and signal.invite is not None:
                    yield rec.SipPending(
                        kind=rec.SIP_PENDING_KIND_REJECT,
                        leg=leg,
                        status=status,
                        invite=signal.invite.to_bytes(),
                        peer=host_port(signal.destination),
                        local_tag=signal.local_tag,
                    )
            case do.AnswerBye(leg) if leg in entry.signals:
                tag = entry.signals[leg].local_tag
                yield rec.SipPending(kind=rec.SIP_PENDING_KIND_ANSWER_BYE, leg=leg, local_tag=tag)
            case _:
                pass


def read(pending: rec.SipPending) -> do.Effect | None:
    """The effect; None when nothing is to be done now, or for a kind that a newer version wrote."""
    leg, body, kind = pending.leg, pending.body, pending.body_type
    match pending.kind:
        case rec.SIP_PENDING_KIND_ALERT:
            return do.Alert(leg, pending.status, body, kind)
        case rec.SIP_PENDING_KIND_ACCEPT:
            return do.Accept(leg, body, kind)
        case rec.SIP_PENDING_KIND_ACK:
            return do.SendAck(leg, body, kind)
        case rec.SIP_PENDING_KIND_ACCEPT_OFFER:
            return do.AcceptOffer(leg, body, kind)
        case rec.SIP_PENDING_KIND_REJECT:
            return do.Reject(leg, pending.status)
        case _:
            return None
