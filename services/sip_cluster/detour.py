"""A request that met a proxy which is not there: it goes through another one, or again to the same one a little later.

A proxy that has just died is in the directory until its lease ends, and one that is being started is there before it listens:
ICMP says so at once (RFC 3261 §8.1.3.1 would make it a 503). For a phone that is not told of a BYE the call never ends.
"""

from __future__ import annotations

import asyncio

from services.sip_cluster import effects as do
from services.sip_cluster.entry import Entry, Signal
from services.sip_cluster.next_hop import Address, NextHop, NoNextHop
from services.sip_cluster.signalling import Signalling, Use

AGAIN_S = 0.5
"""Pause before a BYE is sent again when there is no other way, seconds: T1."""
AGAIN_MOST = 64
"""So often, 32 s in all, as long as its retransmissions would go on (RFC 3261 §17.1.2.2, timer F)."""


class Detour:
    """Finds another way for requests that could not be delivered."""

    def __init__(self, signalling: Signalling, hops: NextHop) -> None:
        self._signalling = signalling
        self._hops = hops
        self.taken = 0
        """Requests that went another way."""

    def take(self, txn: int, entry: Entry, signal: Signal, use: Use) -> bool:
        """Sends the request of a transaction that failed another way. False when there is none: it has failed."""
        went = self._went(signal, use)
        if went is None or not self._hops.is_proxy(went):
            return False
        self._hops.avoid(went)
        if use is Use.INVITE:
            return self._invite(txn, entry, signal)
        if use is Use.OFFER:
            return self._offer(txn, entry, signal)
        return use is Use.BYE and self._bye(txn, entry, signal)

    def _went(self, signal: Signal, use: Use) -> Address | None:
        if use is Use.INVITE:
            return signal.destination
        return self._way(signal)

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
        self._signalling.track(signal.invite_txn, entry, signal, Use.INVITE)
        self.taken += 1
        return True

    def _offer(self, txn: int, entry: Entry, signal: Signal) -> bool:
        other = self._way(signal)
        if signal.offer_sent is None or other is None or not self._hops.alive(other):
            return False
        self._signalling.untrack(txn, signal)
        signal.offer_txn = self._signalling.endpoint.send_prepared(signal.offer_sent, other)
        self._signalling.track(signal.offer_txn, entry, signal, Use.OFFER)
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
