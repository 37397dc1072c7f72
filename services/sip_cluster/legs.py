"""What a SIP leg may experience in which state: the table, and the check of it. Pure.

A fact that is not in the table for a leg's state is refused with `IllegalFact` and changes nothing. Names of facts are
those of `inputs.py`; names that start with a small letter are our own acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.sip_cluster.calls import Leg, LegState

_S = LegState

TABLE: Mapping[tuple[LegState, str], LegState] = MappingProxyType(
    {
        # Being called: the server side of an INVITE (RFC 3261 §13.3, §9.2).
        (_S.INVITED, "alert"): _S.ALERTED,
        (_S.INVITED, "accept"): _S.ACCEPTED,
        (_S.INVITED, "reject"): _S.ENDED,
        (_S.INVITED, "Cancelled"): _S.ENDED,
        (_S.ALERTED, "alert"): _S.ALERTED,
        (_S.ALERTED, "accept"): _S.ACCEPTED,
        (_S.ALERTED, "reject"): _S.ENDED,
        (_S.ALERTED, "Cancelled"): _S.ENDED,
        (_S.ALERTED, "ByeReceived"): _S.ENDED,  # a caller may end an early dialog so (§15)
        (_S.ACCEPTED, "Acked"): _S.ESTABLISHED,
        (_S.ACCEPTED, "AckMissing"): _S.RELEASING,
        (_S.ACCEPTED, "ByeReceived"): _S.ENDED,
        (_S.ACCEPTED, "release"): _S.ENDING,
        (_S.ACCEPTED, "Cancelled"): _S.ACCEPTED,  # too late, without effect (§9.2)
        (_S.ENDING, "Acked"): _S.RELEASING,
        (_S.ENDING, "AckMissing"): _S.RELEASING,
        (_S.ENDING, "ByeReceived"): _S.ENDED,
        (_S.ENDING, "Cancelled"): _S.ENDING,
        # Calling: the client side (§13.2, §9.1).
        (_S.CALLING, "Progressed"): _S.EARLY,
        (_S.CALLING, "Answered"): _S.ANSWERED,
        (_S.CALLING, "Failed"): _S.ENDED,
        (_S.CALLING, "cancel"): _S.CANCELLING,
        (_S.EARLY, "Progressed"): _S.EARLY,
        (_S.EARLY, "Answered"): _S.ANSWERED,
        (_S.EARLY, "Failed"): _S.ENDED,
        (_S.EARLY, "cancel"): _S.CANCELLING,
        (_S.CANCELLING, "Progressed"): _S.CANCELLING,
        (_S.CANCELLING, "Answered"): _S.ANSWERED,  # the answer crossed the CANCEL: it is released at once
        (_S.CANCELLING, "Failed"): _S.ENDED,
        (_S.ANSWERED, "acknowledge"): _S.ESTABLISHED,
        (_S.ANSWERED, "ByeReceived"): _S.ENDED,
        (_S.ANSWERED, "release"): _S.RELEASING,
        # In a confirmed dialog.
        (_S.ESTABLISHED, "ByeReceived"): _S.ENDED,
        (_S.ESTABLISHED, "release"): _S.RELEASING,
        (_S.ESTABLISHED, "Offered"): _S.ESTABLISHED,
        (_S.ESTABLISHED, "OfferAnswered"): _S.ESTABLISHED,
        (_S.ESTABLISHED, "OfferRefused"): _S.ESTABLISHED,
        (_S.ESTABLISHED, "Acked"): _S.ESTABLISHED,
        (_S.ESTABLISHED, "AckMissing"): _S.RELEASING,
        (_S.ESTABLISHED, "InfoReceived"): _S.ESTABLISHED,
        (_S.RELEASING, "ByeDone"): _S.ENDED,
        (_S.RELEASING, "ByeReceived"): _S.RELEASING,  # both hung up at once
        (_S.RELEASING, "OfferAnswered"): _S.RELEASING,
        (_S.RELEASING, "OfferRefused"): _S.RELEASING,
        (_S.RELEASING, "Acked"): _S.RELEASING,
        (_S.RELEASING, "AckMissing"): _S.RELEASING,
    }
)


class IllegalFact(Exception):
    """A fact that cannot happen to a leg in its state; nothing was changed. Has `leg`, `state`, `fact`."""

    def __init__(self, leg: int, state: LegState, fact: str) -> None:
        super().__init__(f"{fact} cannot happen to leg {leg} in state {state.name}")
        self.leg = leg
        self.state = state
        self.fact = fact


def allowed(leg: Leg, fact: str) -> bool:
    """Whether the table has the fact for the leg's state."""
    return (leg.state, fact) in TABLE


def check(leg: Leg, fact: str) -> None:
    """Raises IllegalFact unless the table has the fact for the leg's state."""
    if (leg.state, fact) not in TABLE:
        raise IllegalFact(leg.id, leg.state, fact)


def move(leg: Leg, fact: str) -> None:
    """Takes the leg to its next state. Raises IllegalFact."""
    following = TABLE.get((leg.state, fact))
    if following is None:
        raise IllegalFact(leg.id, leg.state, fact)
    leg.state = following
