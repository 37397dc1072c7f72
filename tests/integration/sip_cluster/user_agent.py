"""A user agent that does what a test tells it: it answers nothing by itself but what its core must (RFC 3261 §17)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from voicecore import sip

E = TypeVar("E")
WAIT_S = 30.0
"""How long an event may take: leases have to end first."""
SDP = "application/sdp"
OFFER = b"v=0\r\no=caller 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = OFFER.replace(b"o=caller", b"o=callee")


class UserAgent:
    """One address, any number of calls."""

    def __init__(self, host: str, number: str, *, domain: str = "t1.example") -> None:
        self.number = number
        self.domain = domain
        self.endpoint = sip.Endpoint(sip.EndpointConfig(auto_trying=-1))
        self.address = self.endpoint.bind_udp(host, 5060)
        self.contact = f"<sip:{number}@{self.address[0]}:{self.address[1]}>"
        self.events: list[sip.Event] = []
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.endpoint.fileno(), self._drain)

    def _drain(self) -> None:
        self.events += self.endpoint.drain()
        self._news.set()

    async def wait(
        self, kind: type[E], accept: Callable[[E], bool] = lambda _: True, seconds: float = WAIT_S
    ) -> E:
        """The first event of this kind; others stay for later."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for index, event in enumerate(self.events):
                        if isinstance(event, kind) and accept(event):
                            del self.events[index]
                            return event
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.number}: no {kind.__name__}; {self.events}") from None

    async def request(self, method: str, seconds: float = WAIT_S) -> sip.RequestReceived:
        return await self.wait(sip.RequestReceived, lambda event: event.request.method == method, seconds)

    async def response(self, status: int, method: str = "INVITE", seconds: float = WAIT_S) -> sip.Response:
        found = await self.wait(
            sip.ResponseReceived,
            lambda event: (event.response.status, event.response.cseq.method) == (status, method),
            seconds,
        )
        return found.response

    def seen(self, method: str) -> int:
        """Requests of this method that nobody has looked at."""
        return sum(isinstance(e, sip.RequestReceived) and e.request.method == method for e in self.events)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.endpoint.fileno())
        self.endpoint.close()


@dataclass
class Call:
    """One side of a call."""

    agent: UserAgent
    proxy: sip.Address
    invite: sip.Request
    txn: int
    tag: str = field(default_factory=sip.new_call_id)
    dialog: sip.Dialog | None = None

    # -- who calls -------------------------------------------------------------------------------------------

    @staticmethod
    def to(agent: UserAgent, proxy: sip.Address, number: str, offer: bytes = OFFER) -> Call:
        """INVITE through the proxy."""
        domain = agent.domain
        invite = sip.Request.new(
            "INVITE",
            f"sip:{number}@{domain}",
            from_=f"<sip:{agent.number}@{domain}>",
            to=f"<sip:{number}@{domain}>",
            contact=agent.contact,
            body=offer,
            content_type=SDP if offer else None,
        )
        return Call(agent, proxy, invite, agent.endpoint.send_request(invite, proxy))

    async def rings(self) -> None:
        """180."""
        await self.agent.response(180)

    async def answered(self, *, ack: bool = True, body: bytes = b"") -> sip.Response:
        """200, and the ACK unless it is to wait."""
        response = await self.agent.response(200)
        self.dialog = sip.Dialog.from_response(self.invite, response)
        if ack:
            self.ack(body)
        return response

    def ack(self, body: bytes = b"") -> None:
        """ACK of the 200."""
        assert self.dialog is not None
        request = self.dialog.create_request("ACK", cseq=1, body=body, content_type=SDP if body else None)
        self.agent.endpoint.send_ack(self.txn, request, self.proxy)

    # -- who is called ---------------------------------------------------------------------------------------

    @staticmethod
    async def at(agent: UserAgent, proxy: sip.Address) -> Call:
        """The next INVITE that arrives."""
        event = await agent.request("INVITE")
        return Call(agent, proxy, event.request, event.txn)

    def respond(self, status: int, body: bytes = b"") -> None:
        """Answers the INVITE."""
        if status < 300 and self.dialog is None:
            self.dialog = sip.Dialog.from_request(self.invite, self.tag)
        if 200 <= status < 300 and self.dialog is not None:
            self.dialog.confirm()
        contact = self.agent.contact if status < 300 else None
        response = self.invite.reply(
            status, to_tag=self.tag, contact=contact, body=body, content_type=SDP if body else None
        )
        self.agent.endpoint.respond(self.txn, response)

    async def acked(self) -> sip.Request:
        """The ACK of our 200."""
        return (await self.agent.wait(sip.AckReceived)).request

    # -- either ----------------------------------------------------------------------------------------------

    def send(self, method: str, body: bytes = b"") -> int:
        """A request in the dialog."""
        assert self.dialog is not None
        contact = self.agent.contact if method == "INVITE" else None
        request = self.dialog.create_request(
            method, contact=contact, body=body, content_type=SDP if body else None
        )
        return self.agent.endpoint.send_request(request, self.proxy)

    async def hang_up(self, seconds: float = WAIT_S) -> None:
        """BYE and its 200."""
        self.send("BYE")
        await self.agent.response(200, "BYE", seconds)

    async def hung_up(self) -> sip.Request:
        """BYE of the other side, answered."""
        event = await self.agent.request("BYE")
        assert self.dialog is not None
        self.dialog.accept(event.request)
        self.agent.endpoint.respond(event.txn, event.request.reply(200))
        return event.request

    async def reoffer(self, other: Call, body: bytes = OFFER) -> None:
        """Re-INVITE of this side, answered by the other, acknowledged through."""
        txn = self.send("INVITE", body)
        await other.take_offer(body)
        response = await self.agent.response(200)
        assert response.body == ANSWER
        self.ack_offer(txn)
        await other.acked()

    async def take_offer(self, body: bytes) -> None:
        """A re-INVITE with this body, answered."""
        event = await self.agent.request("INVITE")
        assert event.request.body == body and self.dialog is not None
        self.dialog.accept(event.request)
        self.answer_offer(event)

    def answer_offer(self, event: sip.RequestReceived) -> None:
        """200 to a re-INVITE."""
        response = event.request.reply(200, contact=self.agent.contact, body=ANSWER, content_type=SDP)
        self.agent.endpoint.respond(event.txn, response)

    def ack_offer(self, txn: int) -> None:
        """ACK of the 200 to our re-INVITE."""
        assert self.dialog is not None
        request = self.dialog.create_request("ACK", cseq=self.dialog.state().local_cseq)
        self.agent.endpoint.send_ack(txn, request, self.proxy)


@contextmanager
def user_agents(*numbers: tuple[str, str]) -> Iterator[list[UserAgent]]:
    """User agents as (host, number), closed at the end."""
    made = [UserAgent(host, number) for host, number in numbers]
    try:
        yield made
    finally:
        for agent in made:
            agent.close()
