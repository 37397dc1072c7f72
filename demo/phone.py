"""A simulated phone on the platform's own SIP core: registers, calls, rings, answers, hangs up.

It takes what it is told and remembers every message with its time, for the ladder of a call and for tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from voicecore import sip
from voicecore.sip import digest

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
CONTENT = "application/sdp"


class CallFailed(Exception):
    """A call was answered with a failure."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


@dataclass(frozen=True)
class Seen:
    """A message the phone sent or received."""

    time_us: int
    """UTC microseconds."""
    sent: bool
    text: str
    """Start line in short: "INVITE", "180 Ringing"."""
    call_id: str


@dataclass
class Leg:
    """One call at a phone."""

    phone: Phone
    call_id: str
    invite: sip.Request
    txn: int
    dialog: sip.Dialog | None = None
    server: bool = False
    """Whether the phone was called."""
    ringing: asyncio.Event = field(default_factory=asyncio.Event)
    established: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    failure: CallFailed | None = None

    async def until(self, event: asyncio.Event, timeout: float) -> None:
        """Waits for `ringing`, `established` or `ended`. Raises CallFailed, TimeoutError."""
        waits = [asyncio.ensure_future(e.wait()) for e in (event, self.ended)]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.failure is not None and event is not self.ended:
            raise self.failure
        if not event.is_set():
            raise TimeoutError(f"{self.phone.name}: call {self.call_id} did not get so far in {timeout} s")


class Phone:
    """A phone (or a trunk's far end) at one address."""

    def __init__(
        self, name: str, host: str, domain: str, proxy: sip.Address, port: int = 5060, *, ring_s: float = 0.2
    ):
        """`proxy`: where it sends to. `ring_s`: how long it rings before it answers; below 0 it never does."""
        self.name = name
        self.domain = domain
        self.seen: list[Seen] = []
        self.legs: dict[str, Leg] = {}
        self.reject_with = 0
        """Status with which calls are refused; 0 takes them."""
        self._proxy = proxy
        self._ring_s = ring_s
        self._endpoint = sip.Endpoint(sip.EndpointConfig(user_agent="voicemesh-phone"))
        self.host, self.port = self._endpoint.bind_udp(host, port)
        self._answers: dict[int, asyncio.Future[sip.Response]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_leg: Callable[[Leg], None] = lambda leg: None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._endpoint.fileno(), self._drain)

    @property
    def contact(self) -> str:
        """Contact URI."""
        return f"sip:{self.name}@{self.host}:{self.port}"

    async def register(self, password: str, expires: int = 3600) -> sip.Response:
        """Registers (0 unregisters); answers the challenge. Gives the final response."""
        return await self._register(password, expires, f"<{self.contact}>")

    async def unregister_all(self, password: str) -> sip.Response:
        """Removes every binding of the DN ("Contact: *")."""
        return await self._register(password, 0, "*")

    async def _register(self, password: str, expires: int, contact: str) -> sip.Response:
        aor = f"<sip:{self.name}@{self.domain}>"
        from_, call_id = f"{aor};tag={sip.new_tag()}", sip.new_call_id()
        headers: list[tuple[str, str]] = [("Expires", str(expires))]
        response: sip.Response | None = None
        for cseq in (1, 2, 3):
            request = sip.Request.new(
                "REGISTER",
                f"sip:{self.domain}",
                from_=from_,
                to=aor,
                call_id=call_id,
                cseq=cseq,
                headers=[("Contact", contact), *headers],
            )
            response = await self.ask(request)
            if response.status != 401:
                break
            challenge = response.get("WWW-Authenticate") or ""
            answer = digest.answer(challenge, "REGISTER", f"sip:{self.domain}", self.name, password=password)
            headers = [("Expires", str(expires)), ("Authorization", answer)]
        assert response is not None
        return response

    def call(self, number: str, *, from_: str = "") -> Leg:
        """Dials; returns at once."""
        caller = from_ or f"sip:{self.name}@{self.domain}"
        invite = sip.Request.new(
            "INVITE",
            f"sip:{number}@{self.domain}",
            from_=f"<{caller}>;tag={sip.new_tag()}",
            to=f"<sip:{number}@{self.domain}>",
            contact=f"<{self.contact}>",
            body=self._sdp(),
            content_type=CONTENT,
        )
        txn = self._send(invite)
        leg = Leg(self, invite.call_id, invite, txn)
        self.legs[invite.call_id] = leg
        return leg

    def cancel(self, leg: Leg) -> None:
        """Gives up a call that was not answered yet."""
        self._note(True, "CANCEL", leg.call_id)
        self._endpoint.cancel(leg.txn)

    async def hang_up(self, leg: Leg) -> int:
        """BYE; gives the status of its answer."""
        assert leg.dialog is not None
        response = await self.ask(leg.dialog.create_request("BYE"))
        leg.ended.set()
        return response.status

    def on_call(self, callback: Callable[[Leg], None]) -> None:
        """`callback(leg)` is called for each call that comes in."""
        self._on_leg = callback

    def answer(self, leg: Leg) -> None:
        """Answers a call that rings."""
        assert leg.dialog is not None
        self._respond(leg, 200, body=self._sdp())

    def close(self) -> None:
        """Stops; calls end silently."""
        self._loop.remove_reader(self._endpoint.fileno())
        for task in self._tasks:
            task.cancel()
        self._endpoint.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _sdp(self) -> bytes:
        return OFFER.format(host=self.host, port=40000).encode()

    def _note(self, sent: bool, text: str, call_id: str) -> None:
        self.seen.append(Seen(time.time_ns() // 1000, sent, text, call_id))

    def _send(self, request: sip.Request, destination: sip.Address | None = None) -> int:
        self._note(True, request.method, request.call_id)
        return self._endpoint.send_request(request, destination or self._proxy)

    async def ask(self, request: sip.Request, destination: sip.Address | None = None) -> sip.Response:
        """Sends a request (not INVITE), to the proxy unless said otherwise; gives its final response. Raises CallFailed."""
        txn = self._send(request, destination)
        future = self._answers[txn] = self._loop.create_future()
        return await asyncio.wait_for(future, 35)

    def _drain(self) -> None:
        for event in self._endpoint.drain():
            match event:
                case sip.RequestReceived(txn, request):
                    self._request(txn, request)
                case sip.ResponseReceived(txn, response):
                    self._response(txn, response)
                case sip.AckReceived(_, request):
                    self._note(False, "ACK", request.call_id)
                    leg = self.legs.get(request.call_id)
                    if leg is not None:
                        leg.established.set()
                case sip.CancelReceived(txn, request):
                    self._cancelled(txn, request)
                case sip.TransactionTimeout(txn) | sip.TransportFailed(txn):
                    self._failed(txn)
                case _:
                    pass

    def _request(self, txn: int, request: sip.Request) -> None:
        self._note(False, request.method, request.call_id)
        leg = self.legs.get(request.call_id)
        if request.method == "INVITE" and leg is None:
            self._ring(txn, request)
        elif request.method == "BYE" and leg is not None:
            self._reply(txn, request, 200)
            leg.ended.set()
        elif request.method == "INVITE" and leg is not None and leg.dialog is not None:
            leg.dialog.accept(request)
            self._reply(txn, request, 200, body=self._sdp())
        else:
            self._reply(txn, request, 200 if request.method in ("OPTIONS", "NOTIFY") else 481)

    def _ring(self, txn: int, request: sip.Request) -> None:
        leg = Leg(self, request.call_id, request, txn, server=True)
        self.legs[request.call_id] = leg
        if self.reject_with:
            leg.ended.set()
            self._reply(txn, request, self.reject_with)
            return
        leg.dialog = sip.Dialog.from_request(request, sip.new_tag())
        self._respond(leg, 180)
        leg.ringing.set()
        self._on_leg(leg)
        if self._ring_s >= 0:
            task = asyncio.ensure_future(self._answer_later(leg))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, leg: Leg) -> None:
        await asyncio.sleep(self._ring_s)
        if not leg.ended.is_set():
            self.answer(leg)

    def _respond(self, leg: Leg, status: int, body: bytes = b"") -> None:
        assert leg.dialog is not None
        tag = leg.dialog.state().local_tag
        self._reply(leg.txn, leg.invite, status, body=body, to_tag=tag)
        if status == 200:
            leg.dialog.confirm()

    def _reply(
        self, txn: int, request: sip.Request, status: int, *, body: bytes = b"", to_tag: str | None = None
    ) -> None:
        response = request.reply(
            status,
            to_tag=to_tag,
            contact=f"<{self.contact}>" if request.method == "INVITE" else None,
            body=body,
            content_type=CONTENT if body else None,
        )
        self._note(True, f"{status} {response.reason}", request.call_id)
        self._endpoint.respond(txn, response)

    def _cancelled(self, txn: int, request: sip.Request) -> None:
        self._note(False, "CANCEL", request.call_id)
        leg = self.legs[request.call_id]
        leg.ended.set()
        self._reply(txn, leg.invite, 487)

    def _response(self, txn: int, response: sip.Response) -> None:
        self._note(False, f"{response.status} {response.reason}", response.call_id)
        future = self._answers.get(txn)
        if future is not None:
            if response.status >= 200 and not future.done():
                future.set_result(response)
            return
        leg = self.legs.get(response.call_id)
        if leg is None or leg.server:
            return
        if response.status < 200:
            if response.status != 100:
                leg.ringing.set()
        elif response.status < 300:
            self._acknowledge(leg, response)
        else:
            leg.failure = CallFailed(response.status, response.reason)
            leg.ended.set()

    def _acknowledge(self, leg: Leg, response: sip.Response) -> None:
        leg.dialog = sip.Dialog.from_response(leg.invite, response)
        leg.dialog.confirm(response)
        ack = leg.dialog.create_request("ACK", cseq=leg.invite.cseq.number)
        self._note(True, "ACK", leg.call_id)
        self._endpoint.send_ack(leg.txn, ack, self._proxy)
        leg.ringing.set()
        leg.established.set()

    def _failed(self, txn: int) -> None:
        future = self._answers.get(txn)
        if future is not None and not future.done():
            future.set_exception(CallFailed(408, "Request Timeout"))
        for leg in self.legs.values():
            if leg.txn == txn and not leg.server:
                leg.failure = CallFailed(408, "Request Timeout")
                leg.ended.set()
