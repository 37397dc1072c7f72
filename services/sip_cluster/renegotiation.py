"""Offers inside an established call: a re-INVITE is passed to the other side and its answer back. Pure.

One at a time for a thread: what crosses it is refused with 491, and its sender tries again (RFC 3261 §14.1, §14.2).
"""

from __future__ import annotations

from services.sip_cluster import effects as do
from services.sip_cluster import inputs, release
from services.sip_cluster.calls import Leg, LegState, Renegotiation
from services.sip_cluster.legs import check
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallState


def offered(step: Step, leg: Leg, fact: inputs.Offered) -> None:
    """A re-INVITE."""
    check(leg, "Offered")
    other = partner(step, leg)
    if step.thread.renegotiation is not None or other is None or other.state is not LegState.ESTABLISHED:
        step.do(do.RefuseOffer(leg.id, 491))
        return
    step.save = True
    step.thread.renegotiation = Renegotiation(leg.id, other.id)
    step.do(do.PassOffer(other.id, fact.body, fact.body_type))


def answered(step: Step, leg: Leg, fact: inputs.OfferAnswered) -> None:
    """The 2xx to our re-INVITE. With an offer in it the ACK waits for the origin's."""
    check(leg, "OfferAnswered")
    offer = step.thread.renegotiation
    origin = step.thread.legs.get(offer.origin) if offer is not None and offer.target == leg.id else None
    if offer is None or origin is None or leg.state is not LegState.ESTABLISHED:
        step.do(do.AckOffer(leg.id))
        return
    step.save = True
    offer.answered = True
    step.do(do.AcceptOffer(origin.id, fact.body, fact.body_type))


def refused(step: Step, leg: Leg, status: int) -> None:
    """Our re-INVITE failed; 408 and 481 say that the dialog is gone (RFC 3261 §12.2.1.2)."""
    check(leg, "OfferRefused")
    offer = step.thread.renegotiation
    if offer is None or offer.target != leg.id:
        return
    if status in (408, 481):
        found = step.thread.party_of(leg)
        if found is not None:
            release.clear(step, *found, CallState.REMOTE_RELEASE)
        return
    step.thread.renegotiation = None
    step.do(do.RefuseOffer(offer.origin, status))


def acked(step: Step, leg: Leg, fact: inputs.Acked) -> None:
    """The origin acknowledged the answer: so does the other side's ACK go out."""
    offer = step.thread.renegotiation
    if offer is not None and offer.answered and offer.origin == leg.id:
        step.thread.renegotiation = None
        step.do(do.AckOffer(offer.target, fact.body, fact.body_type))


def informed(step: Step, leg: Leg, fact: inputs.InfoReceived) -> None:
    """INFO (digits of older phones) goes to the other side."""
    check(leg, "InfoReceived")
    other = partner(step, leg)
    if other is not None and other.state is LegState.ESTABLISHED:
        step.do(do.PassInfo(other.id, fact.body, fact.body_type))


def partner(step: Step, leg: Leg) -> Leg | None:
    """The leg of the other established party."""
    found = step.thread.party_of(leg)
    if found is None:
        return None
    call, party = found
    for other in call.parties.values():
        if other.id != party.id and other.legs:
            return step.thread.legs.get(other.legs[0])
    return None
