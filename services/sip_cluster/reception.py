"""What comes from the network: the core's events, turned into inputs of call threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from voice.dial_plan.v1.dial_plan_service_pb2 import Source
from voicecore.sip import (
    AckReceived,
    CancelReceived,
    Dialog,
    DialogError,
    ParseError,
    Request,
    RequestReceived,
    Response,
    ResponseReceived,
    SendsHeld,
    TransactionGone,
    TransactionTimeout,
    TransportFailed,
    slot_of_tag,
)

from mesh.telemetry import logger, steps
from mesh.telemetry.steps import enabled as ladder_enabled
from services.sip_cluster import inputs
from services.sip_cluster.calls import LegState
from services.sip_cluster.detour import Detour
from services.sip_cluster.entry import Entry, Signal, Use
from services.sip_cluster.inputs import Input
from services.sip_cluster.invitation import problem, slot_in_via, source_of
from services.sip_cluster.ladder import draw
from services.sip_cluster.legs import allowed
from services.sip_cluster.next_hop import Address, NextHop, host_port
from services.sip_cluster.signalling import ALLOW, Signalling
from services.sip_cluster.waiting_room import Message, WaitingRoom

_AFTER_ACK = frozenset({"INVITE", "INFO", "BYE"})
"""Requests that a caller sends inside the dialog only when it has our 2xx and has acknowledged it (RFC 3261 §14.1, §15)."""


class Calls(Protocol):
    """What reception needs of the node."""

    def admit(self) -> int:
        """0 when a new call may come in, else the status to refuse it with."""

    def arrive(self, txn: int, request: Request, peer: Address, source: Source) -> None:
        """A new call."""

    def feed(self, entry: Entry, fact: Input) -> bool:
        """Gives an input to a thread; False when it cannot happen there."""

    def has_left(self, tag: str) -> bool:
        """Whether a BYE was taken in the dialog with this tag of ours by a node that died before it could answer."""

    def held(self, count: int) -> None:
        """Packets wait for the send deadline."""


class Reception:
    """Takes the core's events."""

    def __init__(
        self,
        calls: Calls,
        signalling: Signalling,
        hops: NextHop,
        waiting: WaitingRoom,
        serves: Callable[[int], bool],
    ) -> None:
        """`serves(slot)`: whether the slot's calls are here; messages for others wait."""
        self._calls = calls
        self._signalling = signalling
        self._hops = hops
        self._waiting = waiting
        self._serves = serves
        self._log = logger("reception")
        self.detour = Detour(signalling, hops)
        self._late = False
        """Messages that have waited for their slot are being taken."""
        self.ignored = 0
        """Facts that could not happen in their state, and leftovers of legs that have ended."""
        self._takes: dict[type, Callable[..., None]] = {
            RequestReceived: self._request,
            ResponseReceived: self._response,
            AckReceived: self._ack,
            CancelReceived: self._cancel,
            TransactionTimeout: self._timeout,
            TransportFailed: self._transport,
            SendsHeld: self._held,
        }

    def take(self, event: object) -> None:
        """One event of the core."""
        take = self._takes.get(type(event))
        if take is not None:
            take(event)

    # -- slots -------------------------------------------------------------------------------------

    def opened(self, slot: int) -> None:
        """The slot's calls are here: what has waited for it comes in."""
        self._late = True
        try:
            for message in self._waiting.leave(slot):
                self.take(message)
        finally:
            self._late = False

    def expire(self) -> None:
        """Gives up on messages whose slot does not come. Their senders have given up on all but an INVITE."""
        for message in self._waiting.expire():
            if message.request.method == "INVITE":
                self._refuse(message.txn, message.request, 503, message.source)

    def _waits(self, slot: int | None, message: Message) -> bool:
        """Lets a message wait whose slot is not here."""
        if slot is None or self._serves(slot):
            return False
        self._waiting.keep(slot, message)
        return True

    # -- requests ----------------------------------------------------------------------------------

    def _request(self, event: RequestReceived) -> None:
        if event.txn in self._signalling.transactions:  # taken over from a record while it waited
            return
        request = event.request
        tag = request.to_tag
        if self._waits(slot_in_via(request) if tag is None else slot_of_tag(tag), event):
            return
        if tag is None:  # drawn where its call begins
            self._outside(event.txn, request, event.source)
            return
        found = self._signalling.by_tag.get(tag)
        if ladder_enabled():
            entry = found[0] if found else None
            _draw(f"{request.method} {request.uri}", event.source, request, entry)
        if found is None:
            repeated = request.method == "BYE" and self._calls.has_left(tag)
            self._refuse(event.txn, request, 200 if repeated else 481, event.source)
            return
        self._inside(event.txn, request, event.source, *found)

    def _outside(self, txn: int, request: Request, peer: Address) -> None:
        method = request.method
        if method == "INVITE":
            status = problem(request) or self._calls.admit()
            if status:
                self._refuse(txn, request, status, peer)
                self._signalling.count(status)
            else:
                self._calls.arrive(
                    txn, request, peer, source_of(request, peer, through_proxy=self._hops.is_proxy(peer))
                )
        elif method == "OPTIONS":
            status = self._calls.admit()
            self._refuse(txn, request, status or 200, peer)
        elif method in ("BYE", "INFO", "UPDATE", "PRACK", "NOTIFY"):
            self._refuse(txn, request, 481, peer)
        elif method == "SUBSCRIBE":
            self._refuse(txn, request, 489, peer)
        else:
            self._refuse(txn, request, 405, peer)

    def _inside(self, txn: int, request: Request, peer: Address, entry: Entry, signal: Signal) -> None:
        dialog = signal.dialog
        leg = entry.thread.legs.get(signal.leg)
        if dialog is None or leg is None:
            self._refuse(txn, request, 481, peer, entry)
            return
        try:
            dialog.accept(request)
        except DialogError as error:
            if self._late and request.cseq.number < dialog.state().remote_cseq:
                # Its sender has gone on: while it waited here it was answered by who had the call then.
                self.ignored += 1
                self._signalling.endpoint.forget(txn)
            else:
                self._refuse(txn, request, error.status, peer, entry)
            return
        except ParseError:
            self._refuse(txn, request, 400, peer, entry)
            return
        method = request.method
        if method in _AFTER_ACK and leg.state is LegState.ACCEPTED and leg.offer:
            # The ACK went before it: lost, or heard by a node that died before it was stored (RFC 5407 §3.1.4).
            self._signalling.untrack(signal.invite_txn, signal)
            self._signalling.endpoint.forget(signal.invite_txn)  # our 2xx is repeated no longer
            self._calls.feed(entry, inputs.Acked(leg.id))
        if method == "BYE":
            if allowed(leg, "ByeReceived"):
                signal.bye, signal.bye_txn = request, txn
                self._calls.feed(entry, inputs.ByeReceived(leg.id))
            else:
                self._refuse(txn, request, 481, peer, entry)
        elif method == "INVITE":
            self._reinvite(txn, request, peer, entry, signal)
        elif method == "INFO" and allowed(leg, "InfoReceived"):
            self._refuse(txn, request, 200, peer, entry)
            self._calls.feed(entry, inputs.InfoReceived(leg.id, request.body, request.content_type or ""))
        elif method == "OPTIONS":
            self._refuse(txn, request, 200, peer, entry)
        else:
            self._refuse(txn, request, 405, peer, entry)

    def _reinvite(self, txn: int, request: Request, peer: Address, entry: Entry, signal: Signal) -> None:
        leg = entry.thread.legs[signal.leg]
        if signal.offer is not None or not allowed(leg, "Offered"):
            self._refuse(txn, request, 491, peer)
            return
        signal.offer = request
        signal.offer_txn = txn
        self._signalling.track(txn, entry, signal, Use.OFFER)
        self._calls.feed(entry, inputs.Offered(leg.id, request.body, request.content_type or ""))

    def _refuse(
        self, txn: int, request: Request, status: int, peer: Address, entry: Entry | None = None
    ) -> None:
        """Answers a request that needs nothing but a status."""
        headers = []
        if status in (200, 405):
            headers.append(("Allow", ALLOW))
        if status == 503:
            headers.append(("Retry-After", self._signalling.retry_after))
        if status == 420:
            headers.append(("Unsupported", request.get("Require") or ""))
        try:
            self._signalling.respond(entry, txn, request.reply(status, headers=headers), peer)
        except TransactionGone:
            self.ignored += 1

    # -- responses ---------------------------------------------------------------------------------

    def _response(self, event: ResponseReceived) -> None:
        response = event.response
        found = self._signalling.transactions.get(event.txn)
        if ladder_enabled():
            entry = found[0] if found else None
            _draw(
                f"{response.status} {response.reason} ({response.cseq.method})", event.source, response, entry
            )
        if found is None:
            self.ignored += 1
            return
        entry, signal, use = found
        if entry.frozen:  # whoever takes the call over asks again
            return
        status = response.status
        if use is Use.INVITE:
            self._invite_response(entry, signal, response, event.txn)
        elif status < 200:
            return
        elif use is Use.OFFER:
            self._offer_response(entry, signal, response, event.txn)
        else:
            self._signalling.untrack(event.txn, signal)
            if use is Use.BYE:
                self._calls.feed(entry, inputs.ByeDone(signal.leg))
            elif use is Use.TALK and status >= 300:
                self._calls.feed(entry, inputs.TalkRefused(signal.leg, status))

    def _invite_response(self, entry: Entry, signal: Signal, response: Response, txn: int) -> None:
        status = response.status
        leg = signal.leg
        if status >= 300:
            self._signalling.untrack(txn, signal)
            self._calls.feed(entry, inputs.Failed(leg, status))
            return
        try:
            early = self._dialog(entry, signal, response)
        except (ParseError, ValueError) as error:
            # A Contact or tag that cannot be used: nobody could be told anything in such a dialog.
            self._log.warning("response without a usable dialog", status=status, problem=str(error))
            early = False
            if status >= 200:
                self._signalling.untrack(txn, signal)
                self._calls.feed(entry, inputs.Failed(leg, 500))
                return
        if status < 200:
            body, kind = response.body, response.content_type or ""
            self._calls.feed(entry, inputs.Progressed(leg, status, early, body, kind))
        elif not signal.answered:
            signal.answered = True
            signal.response = response
            self._calls.feed(entry, inputs.Answered(leg, response.body, response.content_type or ""))

    def _dialog(self, entry: Entry, signal: Signal, response: Response) -> bool:
        """Brings the leg's dialog up to date with a 1xx or 2xx; whether there is one."""
        tag = response.to_tag
        if signal.invite is None or not tag:
            if response.status >= 200:
                raise ValueError("a 2xx without To tag")
            return False
        known = signal.dialog
        if response.status >= 200:
            if signal.answered:
                if known is None or known.id[2] != tag:
                    self._signalling.release_fork(entry, signal, response)
                return True
            if known is not None and known.id[2] == tag:
                known.confirm(response)
            else:
                signal.dialog = Dialog.from_response(signal.invite, response)
        elif known is None or known.id[2] != tag:
            signal.dialog = Dialog.from_response(signal.invite, response)
        return True

    def _offer_response(self, entry: Entry, signal: Signal, response: Response, txn: int) -> None:
        if response.status >= 300:
            self._signalling.untrack(txn, signal)
            signal.offer_sent = None
            self._calls.feed(entry, inputs.OfferRefused(signal.leg, response.status))
            return
        if signal.dialog is not None:
            signal.dialog.refresh_target(response)
        signal.offer_response = response
        fact = inputs.OfferAnswered(signal.leg, response.body, response.content_type or "")
        self._calls.feed(entry, fact)

    # -- ACK, CANCEL, time-outs --------------------------------------------------------------------

    def _ack(self, event: AckReceived) -> None:
        request = event.request
        if self._waits(slot_of_tag(request.to_tag or ""), event):
            return
        found = self._signalling.by_tag.get(request.to_tag or "")
        if ladder_enabled():
            _draw("ACK", event.source, request, found[0] if found else None)
        if found is None:
            self.ignored += 1
            return
        entry, signal = found
        if signal.offer is not None:
            if signal.offer_response is None or request.cseq.number != signal.offer.cseq.number:
                return  # of the INVITE, again
            signal.offer = signal.offer_response = None
            self._signalling.untrack(signal.offer_txn, signal)
        self._calls.feed(entry, inputs.Acked(signal.leg, request.body, request.content_type or ""))

    def _cancel(self, event: CancelReceived) -> None:
        found = self._signalling.transactions.get(event.txn)
        if ladder_enabled():
            _draw("CANCEL", None, event.request, found[0] if found else None)
        if found is None:
            if not self._waits(self._waiting.slot_of(event.txn), event):
                self.ignored += 1
            return
        entry, signal, use = found
        if use is Use.INVITE:
            self._calls.feed(entry, inputs.Cancelled(signal.leg))

    def _timeout(self, event: TransactionTimeout) -> None:
        found = self._signalling.transactions.get(event.txn)
        if found is None:
            return
        entry, signal, use = found
        if event.kind == "ack":
            self._calls.feed(entry, inputs.AckMissing(signal.leg))
        elif event.kind == "request":
            self._unanswered(entry, signal, use, event.txn, 408)

    def _transport(self, event: TransportFailed) -> None:
        found = self._signalling.transactions.get(event.txn)
        if found is not None and not self.detour.take(event.txn, *found):
            self._unanswered(*found, event.txn, 503)

    def _unanswered(self, entry: Entry, signal: Signal, use: Use, txn: int, status: int) -> None:
        self._signalling.untrack(txn, signal)
        if use is Use.INVITE:
            self._calls.feed(entry, inputs.Failed(signal.leg, status))
        elif use is Use.BYE:
            self._calls.feed(entry, inputs.ByeDone(signal.leg))
        elif use is Use.OFFER:
            signal.offer_sent = None
            self._calls.feed(entry, inputs.OfferRefused(signal.leg, status))
        elif use is Use.TALK:
            self._calls.feed(entry, inputs.TalkRefused(signal.leg, status))

    def _held(self, event: SendsHeld) -> None:
        self._calls.held(event.count)


def _draw(text: str, source: Address | None, message: Request | Response, entry: Entry | None = None) -> None:
    peer = host_port(source) if source else ""
    draw(entry, text, from_=peer, to=steps.node(), call_id=message.call_id)
