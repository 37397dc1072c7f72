"""A request that met a proxy which is not there, or is silent: it goes through another one, or again to the same one later.

A proxy that has just died is in the directory until its lease ends, and one that is being started is there before it listens:
ICMP says so at once (RFC 3261 §8.1.3.1 would make it a 503). One that has frozen says nothing. For a phone that is not told of
a BYE the call never ends, and its agent, free again, would be offered the next one meanwhile.
"""

from __future__ import annotations

import asyncio

from services.sip_cluster import effects as do
from services.sip_cluster.entry import Entry, Sent, Signal, Use
from services.sip_cluster.next_hop import Address, NextHop, NoNextHop
from services.sip_cluster.signalling import Signalling

AGAIN_S = 0.5
"""Pause before a BYE is sent again when there is no other way, seconds: T1."""
AGAIN_MOST = 64
"""So often, 32 s in all, as long as its retransmissions would go on (RFC 3261 §17.1.2.2, timer F)."""

LOOK_S = 0.25
"""How often requests without an answer are looked at, seconds."""
LOOKS_BYE = 4
"""Looks after which a request counts as unanswered, 0.75 to 1 s: its first retransmission was not answered either."""
LOOKS_MOST = 128
"""Looks after which a request is not looked at any more, 32 s: it has ended (RFC 3261 §17.1.1.2 timer B, §17.1.2.2 timer F)."""


class Detour:
    """Finds another way for requests that could not be delivered, or that a proxy does not answer."""

    def __init__(self, signalling: Signalling, hops: NextHop) -> None:
        self._signalling = signalling
        self._hops = hops
        self.taken = 0
        """Requests that went another way."""

    # -- a proxy that is silent ----------------------------------------------------------------------

    def look(self) -> None:
        """Every LOOK_S: a BYE that a proxy has not answered goes through another one; any other request when the directory
        says that its proxy has gone, for a proxy that only is slow would then ask twice (an INVITE in a phone's dialog gets
        482, RFC 3261 §8.2.2.2)."""
        for txn, sent in list(self._signalling.sent.items()):
            sent.looks += 1
            if sent.looks > LOOKS_MOST:
                del self._signalling.sent[txn]
            elif sent.looks >= LOOKS_BYE and self._hops.is_proxy(sent.to):
                self._silent(txn, sent)

    def _silent(self, txn: int, sent: Sent) -> None:
        _, signal, use = self._signalling.transactions[txn]
        if self._hops.known(sent.to) and (use is not Use.BYE or sent.redirected):
            return  # with each way a transaction's time begins again: one for a phone that answers nobody would never end
        other = self._hops.choose(_call_id(signal), but=sent.to)
        if other is None or not self._hops.alive(other):
            return
        if not self._signalling.endpoint.redirect(txn, other):  # answered by something
            del self._signalling.sent[txn]
            return
        self._hops.avoid(sent.to)
        sent.to, sent.redirected = other, True
        if use is Use.INVITE:
            signal.destination = other
        self.taken += 1

    # -- a proxy that is not there -------------------------------------------------------------------

    def take(self, txn: int, entry: Entry, signal: Signal, use: Use) -> bool:
        """Sends the request of a transaction that failed another way. False when there is none: it has failed."""
        sent = self._signalling.sent.get(txn)
        if sent is None or not self._hops.is_proxy(sent.to):
            return False
        self._hops.avoid(sent.to)
        if use is Use.INVITE:
            return self._invite(txn, entry, signal)
        if use is Use.OFFER:
            return self._offer(txn, entry, signal)
        return use is Use.BYE and self._bye(txn, entry, signal)

    def _way(self, signal: Signal) -> Address | None:
        if signal.dialog is None:
            return None
        try:
            return self._hops.for_dialog(signal.dialog.id[0], signal.dialog.next_hop())
        except NoNextHop:
            return None

    def _invite(self, txn: int, entry: Entry, signal: Signal) -> bool:
        other = self._hops.choose(signal.invite.call_id) if signal.invite is not None else None
        if signal.invite is None or other is None or not self._hops.alive(other):
            return False
        self._signalling.untrack(txn, signal)
        signal.destination = other
        signal.invite_txn = self._signalling.endpoint.send_prepared(signal.invite, other)
        self._signalling.track(signal.invite_txn, entry, signal, Use.INVITE, to=other)
        self.taken += 1
        return True

    def _offer(self, txn: int, entry: Entry, signal: Signal) -> bool:
        other = self._way(signal)
        if signal.offer_sent is None or other is None or not self._hops.alive(other):
            return False
        self._signalling.untrack(txn, signal)
        signal.offer_txn = self._signalling.endpoint.send_prepared(signal.offer_sent, other)
        self._signalling.track(signal.offer_txn, entry, signal, Use.OFFER, to=other)
        self.taken += 1
        return True

    def _bye(self, txn: int, entry: Entry, signal: Signal) -> bool:
        """Another BYE: the one that was not delivered is known to nobody."""
        signal.detours += 1
        if signal.detours > AGAIN_MOST:
            return False
        self._signalling.untrack(txn, signal)
        self.taken += 1
        other = self._way(signal)
        if other is not None and self._hops.alive(other):
            self._signalling.bye(entry, do.SendBye(signal.leg))
        else:
            asyncio.get_running_loop().call_later(AGAIN_S, self._again, entry, signal)
        return True

    def _again(self, entry: Entry, signal: Signal) -> None:
        if entry.signals.get(signal.leg) is signal:  # else the leg is over, or somebody else's
            self._signalling.bye(entry, do.SendBye(signal.leg))


def _call_id(signal: Signal) -> str:
    """Of a leg that we have sent a request of: it has a dialog, or an INVITE."""
    if signal.dialog is not None:
        return signal.dialog.id[0]
    assert signal.invite is not None
    return signal.invite.call_id
