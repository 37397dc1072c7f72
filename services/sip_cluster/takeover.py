"""The SIP side of a call that is taken over: legs, dialogs and open transactions, from a record into the core.

An INVITE of ours that has no final response is sent again under its old branch: the proxy, or the phone, knows it and says
again what it has said last, to us. An INVITE from outside gets its transaction back, so that its repeats, its CANCEL and its
ACK find it, and a 2xx is repeated until the ACK. Local CSeq numbers go on 1000 higher: the dead node may have used some that
no snapshot has seen.
"""

from __future__ import annotations

import contextlib

from voice.record.v1.sip_call_pb2 import SipCall, SipDialog, SipLeg, SipPending
from voicecore.sip import Dialog, DialogState, Endpoint, Request, Response, TransactionGone, parse

from mesh.telemetry import logger
from services.sip_cluster.calls import LegState, Renegotiation
from services.sip_cluster.entry import Entry, Signal, Use
from services.sip_cluster.next_hop import Address, NextHop, NoNextHop, address_of
from services.sip_cluster.signalling import Signalling

CSEQ_GAP = 1000
"""Added to the CSeq of our requests in a dialog (design §6)."""

_ASKED = (LegState.INVITED, LegState.ALERTED, LegState.ACCEPTED, LegState.ENDING)
_CALLED = (LegState.CALLING, LegState.EARLY)


class Takeover:
    """Restores legs."""

    def __init__(self, endpoint: Endpoint, signalling: Signalling, hops: NextHop) -> None:
        self._endpoint = endpoint
        self._signalling = signalling
        self._hops = hops
        self._log = logger("takeover")

    def take(self, entry: Entry, record: SipCall) -> list[int]:
        """Legs and transactions of a record; the legs that nothing can be done with."""
        lost: list[int] = []
        for leg in record.legs:
            try:
                self._leg(entry, leg)
            except (ValueError, NoNextHop, TransactionGone) as error:
                self._log.error("leg cannot be restored", call_thread_id=entry.thread.id, problem=str(error))
                lost.append(leg.id)
        for pending in record.pending:
            if pending.invite:
                with contextlib.suppress(ValueError, TransactionGone):  # its caller has gone, or asks again
                    self._refused(entry, pending)
        return lost

    def _refused(self, entry: Entry, pending: SipPending) -> None:
        """A caller whose leg has ended and who has yet to be told."""
        signal = Signal(pending.leg, True, pending.local_tag, destination=self._peer(pending.peer))
        signal.invite = _request(pending.invite)
        self._server(entry, signal)
        self._signalling.adopt(entry, signal)

    def _leg(self, entry: Entry, leg: SipLeg) -> None:
        signal = signal_of(leg)
        if leg.inbound and leg.peer:
            signal.destination = self._peer(leg.peer)
        state = LegState(leg.state)
        if signal.invite is not None:
            if state in _ASKED:
                self._server(entry, signal)
            elif state in _CALLED:
                self._again(entry, signal)
            elif state is LegState.CANCELLING:
                self._client(entry, signal, None)
            elif signal.response is not None and not leg.inbound:
                self._client(entry, signal, signal.response)
        elif state not in (LegState.ESTABLISHED, LegState.RELEASING):
            raise ValueError(f"leg {leg.id} is {state.name} and has no INVITE")
        self._signalling.adopt(entry, signal)
        if leg.offer_invite:
            self._offer(entry, signal, leg, entry.thread.renegotiation)

    def _server(self, entry: Entry, signal: Signal) -> None:
        assert signal.invite is not None
        signal.invite_txn = self._endpoint.restore_server_invite(
            signal.invite, signal.destination, response=signal.response
        )
        self._signalling.track(signal.invite_txn, entry, signal, Use.INVITE)

    def _again(self, entry: Entry, signal: Signal) -> None:
        assert signal.invite is not None
        signal.invite_txn = self._endpoint.send_prepared(signal.invite, self._way(signal))
        to = signal.destination
        self._signalling.track(signal.invite_txn, entry, signal, Use.INVITE, to=to)

    def _client(self, entry: Entry, signal: Signal, response: Response | None) -> None:
        assert signal.invite is not None
        signal.invite_txn = self._endpoint.restore_client_invite(
            signal.invite, self._way(signal), response=response
        )
        self._signalling.track(signal.invite_txn, entry, signal, Use.INVITE)

    def _offer(self, entry: Entry, signal: Signal, leg: SipLeg, open_: Renegotiation | None) -> None:
        """The re-INVITE that is on its way between two legs."""
        if open_ is None or signal.dialog is None:
            return
        offer = _request(leg.offer_invite)
        response = _response(leg.offer_response) if open_.answered else None
        signal.offer_response = response
        to: Address | None = None
        if open_.origin == leg.id:
            signal.offer = offer
            txn = self._endpoint.restore_server_invite(offer, signal.destination, response=response)
        elif response is not None:
            signal.offer_sent = offer
            way = self._hops.for_dialog(signal.dialog.id[0], signal.dialog.next_hop())
            txn = self._endpoint.restore_client_invite(offer, way, response=response)
        else:
            signal.offer_sent = offer
            to = self._hops.for_dialog(signal.dialog.id[0], signal.dialog.next_hop())
            txn = self._endpoint.send_prepared(offer, to)
        signal.offer_txn = txn
        self._signalling.track(txn, entry, signal, Use.OFFER, to=to)

    def _way(self, signal: Signal) -> Address:
        """Where our INVITE went; another proxy when that one has gone."""
        signal.destination = self._peer_or(signal.destination, signal)
        return signal.destination

    def _peer_or(self, address: Address, signal: Signal) -> Address:
        if self._hops.alive(address) or signal.invite is None:
            return address
        return self._hops.choose(signal.invite.call_id) or address

    def _peer(self, text: str) -> Address:
        """Where an INVITE came from; its answers go there while that lives, and through another proxy else."""
        address = address_of(text)
        if self._hops.alive(address):
            return address
        return self._hops.choose(text) or address


def signal_of(leg: SipLeg) -> Signal:
    """The SIP side of a leg, its dialog among it, without transactions. ValueError for what cannot be read."""
    signal = Signal(leg.id, leg.inbound, leg.local_tag)
    if leg.peer:
        signal.destination = address_of(leg.peer)
    signal.invite = _request(leg.open_invite) if leg.open_invite else None
    signal.response = _response(leg.last_response)
    calling = leg.inbound or LegState(leg.state) in (LegState.CALLING, LegState.EARLY, LegState.CANCELLING)
    signal.answered = not calling and signal.response is not None and signal.response.status >= 200
    if leg.HasField("dialog"):
        signal.dialog = Dialog.restore(dialog_state(leg.dialog))
        signal.dialog.advance_cseq(CSEQ_GAP)
    return signal


def dialog_state(record: SipDialog) -> DialogState:
    """A dialog as the core takes it."""
    return DialogState(
        call_id=record.call_id,
        local_tag=record.local_tag,
        remote_tag=record.remote_tag,
        local_uri=record.local_uri,
        remote_uri=record.remote_uri,
        local_cseq=record.local_cseq,
        remote_cseq=record.remote_cseq,
        remote_target=record.remote_target,
        route_set=tuple(record.route_set),
        is_uac=record.is_uac,
        secure=record.secure,
        early=record.early,
    )


def _request(raw: bytes) -> Request:
    message = parse(raw)
    if not isinstance(message, Request):
        raise ValueError("a response where a request must be")
    return message


def _response(raw: bytes) -> Response | None:
    if not raw:
        return None
    message = parse(raw)
    if not isinstance(message, Response):
        raise ValueError("a request where a response must be")
    return message
