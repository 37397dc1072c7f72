"""The messages of RFC 4475, what must become of each, and a bench that shows what does.

Each message is sent as a datagram to a user agent core whose owner stays silent, and to a proxy that has no nodes: what
they accept reaches the owner (user agent) or is answered 503 (proxy, nowhere to forward to).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voicecore import sip

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "suites" / "sip-rfc4475"
PEER = "127.77.44.75"


@dataclass(frozen=True)
class Case:
    """What RFC 4475 wants of one message."""

    name: str
    section: str
    rule: str | None
    """Rule by which the parser refuses it; None when it must be parsed."""
    agent: int | str
    """Status of the user agent core's own answer; "owner" when the request goes to the owner; "none" for silence."""
    proxy: int | str
    """The same for the proxy."""


CASES = [
    Case("wsinv", "3.1.1.1", None, "owner", 503),
    Case("intmeth", "3.1.1.2", None, "owner", 503),
    Case("esc01", "3.1.1.3", None, "owner", 503),
    Case("escnull", "3.1.1.4", None, "owner", "owner"),
    Case("esc02", "3.1.1.5", None, "owner", 503),
    Case("lwsdisp", "3.1.1.6", None, "owner", 503),
    Case("longreq", "3.1.1.7", None, "owner", 503),
    Case("dblreq", "3.1.1.8", None, "owner", "owner"),
    Case("semiuri", "3.1.1.9", None, "owner", 503),
    Case("transports", "3.1.1.10", None, "owner", 503),
    Case("mpart01", "3.1.1.11", None, "owner", 503),
    Case("unreason", "3.1.1.12", None, "none", "none"),
    Case("noreason", "3.1.1.13", None, "none", "none"),
    Case("badinv01", "3.1.2.1", "via", 400, 400),
    Case("clerr", "3.1.2.2", "content-length", 400, 400),
    Case("ncl", "3.1.2.3", "content-length", 400, 400),
    Case("scalar02", "3.1.2.4", "max-forwards", 400, 400),
    Case("scalarlg", "3.1.2.5", "cseq", "none", "none"),
    Case("quotbal", "3.1.2.6", "to", 400, 400),
    Case("ltgtruri", "3.1.2.7", "uri", 400, 400),
    Case("lwsruri", "3.1.2.8", "uri", 400, 400),
    Case("lwsstart", "3.1.2.9", "uri", 400, 400),
    Case("trws", "3.1.2.10", "start-line", 400, 400),
    Case("escruri", "3.1.2.11", "uri-headers", 400, 400),
    Case("baddate", "3.1.2.12", None, "owner", 503),
    Case("regbadct", "3.1.2.13", None, "owner", "owner"),
    Case("badaspec", "3.1.2.14", "to", 400, 400),
    Case("baddn", "3.1.2.15", "from", 400, 400),
    Case("badvers", "3.1.2.16", "version", 505, 505),
    Case("mismatch01", "3.1.2.17", "cseq-method", 400, 400),
    Case("mismatch02", "3.1.2.18", "cseq-method", 400, 400),
    Case("bigcode", "3.1.2.19", "status-code", "none", "none"),
    Case("badbranch", "3.2.1", None, "owner", 503),
    Case("insuf", "3.3.1", "missing-from", "none", "none"),
    Case("unkscm", "3.3.2", None, "owner", 416),
    Case("novelsc", "3.3.3", None, "owner", 416),
    Case("unksm2", "3.3.4", None, "owner", "owner"),
    Case("bext01", "3.3.5", None, "owner", 420),
    Case("invut", "3.3.6", None, "owner", 503),
    Case("regaut01", "3.3.7", None, "owner", "owner"),
    Case("multi01", "3.3.8", "repeated-cseq", 400, 400),
    Case("mcl01", "3.3.9", "repeated-content-length", 400, 400),
    Case("bcast", "3.3.10", None, "none", "none"),
    Case("zeromf", "3.3.11", None, "owner", 483),
    Case("cparam01", "3.3.12", None, "owner", "owner"),
    Case("cparam02", "3.3.13", None, "owner", "owner"),
    Case("regescrt", "3.3.14", None, "owner", "owner"),
    Case("sdp01", "3.3.15", None, "owner", 503),
    Case("inv2543", "3.4.1", None, "owner", 503),
]
"""In the order of the RFC. Where the RFC leaves a choice (badaspec, mismatch02, insuf) the stricter one is made."""

BESIDE = {"test"}
"""In the archive but not in the text of the RFC: a pre-2.0 message, refused by its start line."""


def present() -> bool:
    return FOLDER.is_dir()


def message(case: Case) -> bytes:
    return (FOLDER / f"{case.name}.dat").read_bytes()


def parsed_rule(data: bytes) -> str | None:
    """Rule by which the parser refuses the bytes, None when it takes them."""
    try:
        sip.parse(data)
    except sip.ParseError as error:
        return error.rule
    return None


def reply_port(data: bytes) -> int:
    """Where an answer to this datagram goes by its top Via (RFC 3261 §18.2.2): sent-by port, 5060 when there is none."""
    found = re.search(rb"(?mi)^(?:via|v)\s*:\s*SIP\s*/\s*2\.0\s*/\s*\S+\s+[^\s:;,]+(?:\s*:\s*(\d+))?", data)
    return int(found.group(1)) if found and found.group(1) else 5060


@contextmanager
def subject(kind: str) -> Iterator[tuple[sip.Endpoint | sip.Proxy, sip.Address]]:
    """A user agent core or a proxy, with a socket."""
    core: sip.Endpoint | sip.Proxy
    core = sip.Endpoint(sip.EndpointConfig(auto_trying=-1)) if kind == "agent" else sip.Proxy()
    try:
        yield core, core.bind_udp("127.77.0.1", 0)
    finally:
        core.close()


def outcome(kind: str, data: bytes) -> int | str:
    """What a fresh subject does with a datagram: the status it answers, "owner", or "none"."""
    with (
        subject(kind) as (core, address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
    ):
        peer.bind((PEER, reply_port(data)))
        probe.bind((PEER, 0))
        probe.settimeout(5)
        peer.setblocking(False)
        peer.sendto(data, address)
        # Malformed on purpose: answered at once by both kinds, after everything that came before it.
        probe.sendto(_probe(probe.getsockname()[1]), address)
        probe.recv(65_535)
        events = [event for event in core.drain() if isinstance(event, sip.RequestReceived)]
        try:
            answer = peer.recv(65_535)
        except BlockingIOError:
            return "owner" if events else "none"
        # Not parsed: an answer repeats From, To and CSeq of the request, broken as they may be.
        version, status, _ = answer.split(b" ", 2)
        assert version == b"SIP/2.0"
        return int(status)


def _probe(port: int) -> bytes:
    return (
        f"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP {PEER}:{port};branch=z9hG4bKprobe\r\nFrom: <sip:p@q>;tag=1\r\n"
        "To: <sip:x@y>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 1\r\n\r\n"
    ).encode()
