"""What an heir does first with a call thread that it has read: what the states of its legs say is due. Pure.

INVITEs of ours without an answer are no effects here: they are sent again under their old branch when the transaction of
their leg is restored (`takeover.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from services.sip_cluster import effects as do
from services.sip_cluster.calls import CallThread, LegState


def due(thread: CallThread) -> Iterable[do.Effect]:
    """Effects that follow from the state alone. Each may have been carried out before by who died: all can be repeated."""
    for ask in thread.asks:
        yield do.AskDialPlan(ask)
    for leg in thread.legs.values():
        match leg.state:
            case LegState.INVITED:
                yield do.Trying(leg.id)
            case LegState.CANCELLING:
                yield do.CancelInvite(leg.id)
            case LegState.RELEASING:
                yield do.SendBye(leg.id)
            case _:
                pass
    if thread.finished:
        yield do.Forget(True)
