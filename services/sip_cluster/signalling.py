"""SIP messages of this node: requests and responses of legs, sent through the core."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from voicecore.sip import (
    Dialog,
    Endpoint,
    NameAddr,
    ParseError,
    Request,
    Response,
    TransactionGone,
    Uri,
    branch_prefix,
    new_call_id,
    new_tag,
)

from mesh.telemetry import logger
from mesh.telemetry.steps import enabled as ladder_enabled
from services.sip_cluster import effects as do
from services.sip_cluster.entry import Entry, Sent, Signal, Use
from services.sip_cluster.ladder import draw
from services.sip_cluster.next_hop import Address, NextHop, NoNextHop, host_port

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"
"""Methods this node takes in a dialog (RFC 3261 §20.5)."""
_PLAIN = re.compile(r"[A-Za-z0-9+*#._-]{1,64}")


class Signalling:
    """Sends what effects ask for. `failed(entry, leg, status)` is called for a call that could not be sent."""

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        hops: NextHop,
        *,
        contact_host: str,
        retry_after_s: int,
        failed: Callable[[Entry, int, int], None],
        gone: Callable[[Entry, int, Use], None],
    ) -> None:
        """`contact_host`: host of our Contact, the proxies' name; "" for our own address. `gone(entry, leg, use)`: a
        request in a dialog could not be sent."""
        self.endpoint = endpoint
        self._host = f"[{address[0]}]" if ":" in address[0] else address[0]
        own = Uri(self._host, user="voicemesh", port=address[1])
        self._contact = NameAddr(Uri(contact_host, user="voicemesh") if contact_host else own)
        self._hops = hops
        self.retry_after = str(retry_after_s)
        """Retry-After of a 503, seconds."""
        self._failed = failed
        self._gone = gone
        self._log = logger("signalling")
        self.transactions: dict[int, tuple[Entry, Signal, Use]] = {}
        """Transactions, of either side, whose events concern a leg."""
        self.sent: dict[int, Sent] = {}
        """Of these the requests of ours that may still be without an answer, oldest first."""
        self.by_tag: dict[str, tuple[Entry, Signal]] = {}
        """Legs by our tag: requests in a dialog name it."""
        self.sent_status: dict[int, int] = {}
        """Final responses from 400 sent to callers, by status."""

    # -- legs --------------------------------------------------------------------------------------

    def adopt(self, entry: Entry, signal: Signal) -> None:
        """Keeps a leg until `drop`."""
        entry.signals[signal.leg] = signal
        self.by_tag[signal.local_tag] = (entry, signal)

    def track(self, txn: int, entry: Entry, signal: Signal, use: Use, *, to: Address | None = None) -> None:
        """Events of this transaction concern the leg. `to`: where it was sent, a request of ours."""
        self.transactions[txn] = (entry, signal, use)
        if to is not None:
            self.sent[txn] = Sent(to)
        signal.txns.add(txn)

    def untrack(self, txn: int, signal: Signal) -> None:
        """Nothing more comes of the transaction."""
        self.transactions.pop(txn, None)
        self.sent.pop(txn, None)
        signal.txns.discard(txn)

    def drop(self, entry: Entry, leg: int, *, forget: bool = False) -> None:
        """Lets go of a leg that has ended; `forget`: that is somebody else's now, so that nothing of it is sent or
        repeated here any more."""
        signal = entry.signals.pop(leg, None)
        if signal is None:
            return
        self.by_tag.pop(signal.local_tag, None)
        for txn in signal.txns:
            self.transactions.pop(txn, None)
            self.sent.pop(txn, None)
            if forget:
                self.endpoint.forget(txn)

    # -- calling -----------------------------------------------------------------------------------

    def prepare(self, entry: Entry) -> None:
        """Makes the INVITEs that wait in the outbox, so that the snapshot about to be written has them: an heir sends
        the same ones, which whoever has got them already knows again. One that cannot be made says so when it is due."""
        for effect in entry.outbox:
            if type(effect) is do.SendInvite and effect.leg not in entry.signals:
                with contextlib.suppress(ParseError, ValueError, NoNextHop):
                    self._prepare_invite(entry, effect)
            elif type(effect) is do.PassOffer:
                with contextlib.suppress(NoNextHop):
                    self._prepare_offer(entry, effect)

    def _prepare_invite(self, entry: Entry, effect: do.SendInvite) -> Signal:
        call_id, tag = new_call_id(), new_tag(entry.thread.slot)
        signal = Signal(effect.leg, False, tag)
        destination, routes = self._hops.for_call(call_id, effect.uri, effect.path, trunk=effect.trunk)
        request = Request.new(
            "INVITE",
            effect.uri,
            from_=self._from(entry, effect.caller, tag),
            to=f"<{self._uri(effect.callee)}>",
            call_id=call_id,
            contact=self._contact,
            routes=routes,
            max_forwards=entry.max_forwards,
            body=effect.body,
            content_type=effect.body_type or None,
            headers=(("Allow", ALLOW),),
        )
        signal.destination = destination
        signal.invite = self._dressed(entry, request, destination)
        self.adopt(entry, signal)
        return signal

    def _dressed(self, entry: Entry, request: Request, destination: Address) -> Request:
        prefix = branch_prefix(entry.thread.slot)
        return self.endpoint.prepare_request(request, destination, branch_prefix=prefix)

    def send_invite(self, entry: Entry, effect: do.SendInvite) -> None:
        """INVITE outside a dialog, to a contact."""
        try:
            signal = entry.signals.get(effect.leg) or self._prepare_invite(entry, effect)
        except (ParseError, ValueError, NoNextHop) as error:
            self._log.warning("contact cannot be called", uri=effect.uri, problem=str(error))
            self._failed(entry, effect.leg, 503 if isinstance(error, NoNextHop) else 500)
            return
        assert signal.invite is not None
        self._draw_request(entry, signal.invite, signal.destination)
        signal.invite_txn = self.endpoint.send_prepared(signal.invite, signal.destination)
        self.track(signal.invite_txn, entry, signal, Use.INVITE, to=signal.destination)

    def cancel(self, entry: Entry, effect: do.CancelInvite) -> None:
        """CANCEL of our INVITE; without effect when its final response is here already."""
        signal = entry.signals[effect.leg]
        self._draw(entry, "CANCEL", signal.destination)
        self.endpoint.cancel(signal.invite_txn)

    def ack(self, entry: Entry, effect: do.SendAck) -> None:
        """ACK of the 2xx to our INVITE."""
        signal = entry.signals[effect.leg]
        self._ack(entry, signal, signal.invite_txn, 1, effect.body, effect.body_type)

    def release_fork(self, entry: Entry, signal: Signal, response: Response) -> None:
        """A 2xx of another branch of a forked INVITE: acknowledged and ended (RFC 3261 §13.2.2.4)."""
        if signal.invite is None:
            return
        dialog = Dialog.from_response(signal.invite, response)
        dialog.confirm(response)
        destination = self._hop(dialog)
        ack = dialog.create_request("ACK", cseq=1)
        self.endpoint.send_ack(signal.invite_txn, ack, destination)
        self._send(entry, dialog.create_request("BYE"), destination)

    # -- being called ------------------------------------------------------------------------------

    def alert(self, entry: Entry, effect: do.Alert) -> None:
        """180 or 183."""
        signal = entry.signals[effect.leg]
        self._begin_dialog(signal)
        self._answer(entry, signal, effect.status, effect.body, effect.body_type)

    def trying(self, entry: Entry, effect: do.Trying) -> None:
        """100 with our To tag, to a proxy (a phone has no use for it); no answer that would have to be kept."""
        signal = entry.signals[effect.leg]
        if signal.invite is not None and self._hops.is_proxy(signal.destination):
            response = signal.invite.reply(100, to_tag=signal.local_tag)
            self.respond(entry, signal.invite_txn, response, signal.destination)

    def answer_bye(self, entry: Entry, effect: do.AnswerBye) -> None:
        """200 to a BYE."""
        signal = entry.signals[effect.leg]
        bye, signal.bye = signal.bye, None
        if bye is not None:
            self.respond(
                entry, signal.bye_txn, bye.reply(200, headers=(("Allow", ALLOW),)), signal.destination
            )

    def accept(self, entry: Entry, effect: do.Accept) -> None:
        """200; the core repeats it until the ACK."""
        signal = entry.signals[effect.leg]
        self._begin_dialog(signal)
        if signal.dialog is not None:
            signal.dialog.confirm()
        self._answer(entry, signal, 200, effect.body, effect.body_type)

    def reject(self, entry: Entry, effect: do.Reject) -> None:
        """A final failure."""
        self._answer(entry, entry.signals[effect.leg], effect.status, b"", "")
        self.count(effect.status)

    def turn_away(self, entry: Entry) -> None:
        """503 to a caller whose call has not begun; without our tag, which would bind the INVITE to its slot."""
        for signal in entry.signals.values():
            if signal.inbound and signal.invite is not None:
                response = signal.invite.reply(503, headers=[("Retry-After", self.retry_after)])
                with contextlib.suppress(TransactionGone):
                    self.respond(entry, signal.invite_txn, response, signal.destination)
                self.count(503)

    def count(self, status: int) -> None:
        """Counts a failure sent to a caller."""
        self.sent_status[status] = self.sent_status.get(status, 0) + 1

    def _begin_dialog(self, signal: Signal) -> None:
        if signal.dialog is None and signal.invite is not None:
            signal.dialog = Dialog.from_request(signal.invite, signal.local_tag)

    def _answer(self, entry: Entry, signal: Signal, status: int, body: bytes, body_type: str) -> None:
        assert signal.invite is not None
        headers = [("Allow", ALLOW)] if status < 300 else []
        if status == 503:
            headers.append(("Retry-After", self.retry_after))
        response = signal.invite.reply(
            status,
            to_tag=signal.local_tag,
            contact=self._contact if status < 300 else None,
            body=body,
            content_type=body_type or None,
            headers=headers,
        )
        signal.response = response
        self.respond(entry, signal.invite_txn, response, signal.destination)

    def respond(self, entry: Entry | None, txn: int, response: Response, peer: Address) -> None:
        """Sends a response; nothing when its transaction has ended meanwhile."""
        if ladder_enabled():
            self._draw(entry, f"{response.status} {response.reason} ({response.cseq.method})", peer)
        self.endpoint.respond(txn, response)

    # -- inside a dialog ---------------------------------------------------------------------------

    def bye(self, entry: Entry, effect: do.SendBye) -> None:
        """BYE."""
        self._request(entry, effect.leg, "BYE", Use.BYE)

    def pass_offer(self, entry: Entry, effect: do.PassOffer) -> None:
        """Re-INVITE."""
        signal = entry.signals[effect.leg]
        try:
            offer = signal.offer_sent or self._prepare_offer(entry, effect)
        except NoNextHop as error:
            self._log.warning("re-INVITE cannot be sent", problem=str(error))
            offer = None
        if offer is None or signal.dialog is None:
            self._gone(entry, effect.leg, Use.OFFER)
            return
        destination = self._hop(signal.dialog)
        self._draw_request(entry, offer, destination)
        signal.offer_txn = self.endpoint.send_prepared(offer, destination)
        self.track(signal.offer_txn, entry, signal, Use.OFFER, to=destination)

    def _prepare_offer(self, entry: Entry, effect: do.PassOffer) -> Request | None:
        signal = entry.signals.get(effect.leg)
        if signal is None or signal.dialog is None:
            return None
        if signal.offer_sent is None:
            destination = self._hop(signal.dialog)
            request = signal.dialog.create_request(
                "INVITE", contact=self._contact, body=effect.body, content_type=effect.body_type or None
            )
            signal.offer_sent = self._dressed(entry, request, destination)
            signal.offer_response = None
        return signal.offer_sent

    def accept_offer(self, entry: Entry, effect: do.AcceptOffer) -> None:
        """200 to a re-INVITE."""
        signal = entry.signals[effect.leg]
        if signal.offer is not None:
            response = signal.offer.reply(
                200,
                contact=self._contact,
                body=effect.body,
                content_type=effect.body_type or None,
                headers=(("Allow", ALLOW),),
            )
            signal.offer_response = response
            self.respond(entry, signal.offer_txn, response, signal.destination)

    def refuse_offer(self, entry: Entry, effect: do.RefuseOffer) -> None:
        """A final failure to a re-INVITE."""
        signal = entry.signals[effect.leg]
        offer, signal.offer = signal.offer, None
        if offer is not None:
            self.untrack(signal.offer_txn, signal)
            self.respond(entry, signal.offer_txn, offer.reply(effect.status), signal.destination)

    def ack_offer(self, entry: Entry, effect: do.AckOffer) -> None:
        """ACK of the 2xx to our re-INVITE."""
        signal = entry.signals[effect.leg]
        sent, signal.offer_sent, signal.offer_response = signal.offer_sent, None, None
        if sent is not None:
            self._ack(entry, signal, signal.offer_txn, sent.cseq.number, effect.body, effect.body_type)

    def pass_info(self, entry: Entry, effect: do.PassInfo) -> None:
        """INFO."""
        self._request(entry, effect.leg, "INFO", Use.INFO, effect.body, effect.body_type)

    def talk(self, entry: Entry, effect: do.SendTalk) -> None:
        """NOTIFY with Event: talk, in the early dialog of a ringing phone."""
        headers = (("Event", "talk"), ("Subscription-State", "active"))
        self._request(entry, effect.leg, "NOTIFY", Use.TALK, headers=headers)

    def _request(
        self,
        entry: Entry,
        leg: int,
        method: str,
        use: Use,
        body: bytes = b"",
        body_type: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> int:
        signal = entry.signals[leg]
        dialog = signal.dialog
        if dialog is None:  # nobody to ask
            self._gone(entry, leg, use)
            return 0
        request = dialog.create_request(
            method,
            body=body,
            content_type=body_type or None,
            headers=headers,
        )
        try:
            destination = self._hop(dialog)
            txn = self._send(entry, request, destination)
        except NoNextHop as error:
            self._log.warning("request in a dialog cannot be sent", method=method, problem=str(error))
            self._gone(entry, leg, use)
            return 0
        self.track(txn, entry, signal, use, to=destination)
        return txn

    def _ack(self, entry: Entry, signal: Signal, txn: int, cseq: int, body: bytes, body_type: str) -> None:
        dialog = signal.dialog
        if dialog is None:
            return
        ack = dialog.create_request("ACK", cseq=cseq, body=body, content_type=body_type or None)
        destination = self._hop(dialog)
        self._draw(entry, "ACK", destination)
        self.endpoint.send_ack(txn, ack, destination)

    def _hop(self, dialog: Dialog) -> Address:
        return self._hops.for_dialog(dialog.id[0], dialog.next_hop())

    def _send(self, entry: Entry, request: Request, destination: Address) -> int:
        self._draw_request(entry, request, destination)
        return self.endpoint.send_request(
            request, destination, branch_prefix=branch_prefix(entry.thread.slot)
        )

    # -- parts -------------------------------------------------------------------------------------

    def _from(self, entry: Entry, caller: str, tag: str) -> str:
        display = entry.display
        quoted = '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '" ' if display else ""
        return f"{quoted}<{self._uri(caller)}>;tag={tag}"

    def _uri(self, user: str) -> str:
        if _PLAIN.fullmatch(user):
            return f"sip:{user}@{self._host}"
        return str(Uri(self._host, user=user or "anonymous"))

    def _draw_request(self, entry: Entry, request: Request, peer: Address) -> None:
        if ladder_enabled():
            self._draw(entry, f"{request.method} {request.uri}", peer)

    def _draw(self, entry: Entry | None, text: str, peer: Address) -> None:
        if ladder_enabled():
            draw(entry, text, to=host_port(peer))
