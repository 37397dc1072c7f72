"""SIP by hand: nodes that answer as a test says, and a caller. Datagrams are written out, so that nothing is done for
them that the test does not see."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import cast

Address = tuple[str, int]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    at: float
    method: str
    text: str
    source: Address

    def header(self, name: str) -> str:
        """First value of a header, "" when there is none."""
        return header(self.text, name)


def header(text: str, name: str) -> str:
    """First value of a header, "" when there is none."""
    for line in text.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name.lower():
            return value.strip()
    return ""


class _Peer(asyncio.DatagramProtocol):
    host: str
    transport: asyncio.DatagramTransport

    async def open(self) -> None:
        """Takes port 5060 of the address."""
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(self.host, 5060))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def close(self) -> None:
        self.transport.close()


@dataclass(eq=False)
class FakeNode(_Peer):
    """A SIP node: 200 to OPTIONS and BYE, 486 to INVITE; silent to the methods in `deaf`."""

    host: str
    deaf: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)

    def count(self, method: str, since: float = 0.0) -> int:
        """Requests of a method, retransmissions too."""
        return sum(one.method == method and one.at >= since for one in self.seen)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        text = data.decode()
        method = text.partition(" ")[0]
        if method == "SIP/2.0":
            return
        self.seen.append(Seen(time.monotonic(), method, text, addr))
        if method in self.deaf or method == "ACK":
            return
        status = {"INVITE": "486 Busy Here"}.get(method, "200 OK")
        kept = [
            line
            for line in text.split("\r\n")[1:]
            if line.partition(":")[0].lower() in ("via", "from", "call-id", "cseq", "record-route")
        ]
        to = header(text, "To")
        to += "" if ";tag=" in to else ";tag=node"
        lines = [f"SIP/2.0 {status}", *kept, f"To: {to}", "Content-Length: 0", "", ""]
        self.transport.sendto("\r\n".join(lines).encode(), addr)


@dataclass(eq=False)
class Caller(_Peer):
    """Sends requests to a proxy, notes the final answers."""

    host: str
    proxy: Address
    answers: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Call-ID -> status and time of the first final answer."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        text = data.decode()
        status = int(text.split(" ")[1]) if text.startswith("SIP/2.0 ") else 0
        if status >= 200:
            self.answers.setdefault(header(text, "Call-ID"), (status, time.monotonic()))

    def send(self, method: str, *, to_tag: str = "", routes: str = "") -> str:
        """Sends a request; gives its Call-ID."""
        call_id = f"{self.host}-{next(self._numbers)}"
        lines = [
            f"{method} sip:8000@{self.proxy[0]} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:5060;branch=z9hG4bK-{call_id}-{method}",
            "Max-Forwards: 70",
            f"From: <sip:+14155550100@{self.host}>;tag=caller",
            f"To: <sip:8000@{self.proxy[0]}>" + (f";tag={to_tag}" if to_tag else ""),
            f"Call-ID: {call_id}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:{self.host}:5060>",
            *([f"Route: {routes}"] if routes else []),
            "Content-Length: 0",
            "",
            "",
        ]
        self.transport.sendto("\r\n".join(lines).encode(), self.proxy)
        return call_id

    def statuses(self) -> list[int]:
        """Statuses of the final answers so far."""
        return [status for status, _ in self.answers.values()]
