"""SDP (RFC 4566/8866) and the offer/answer model (RFC 3264): what signalling needs, no more.

Values are immutable; `with_...` methods return changed copies. Lines that are not changed are written back
byte for byte.
"""

from collections.abc import Sequence
from typing import Literal, final

__all__ = ["Direction", "Media", "Origin", "Session", "direction", "offer", "parse"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

@final
class Origin:
    """The o= line."""

    username: str
    session_id: int
    version: int
    address: str

@final
class Media:
    """One m= section."""

    kind: str
    """"audio", "video", "image", "application" ..."""
    port: int
    """0 means the stream is refused or ended."""
    protocol: str
    """"RTP/AVP", "RTP/SAVP", "UDP/TLS/RTP/SAVPF" ..."""
    formats: tuple[str, ...]
    """Payload types as written, in order of preference."""
    address: str | None
    """Connection address: its own c= line, or the session's; None when neither is there."""
    direction: Direction
    """Its own, else the session's, else sendrecv (RFC 3264 §5.1). An address of 0.0.0.0 counts as held."""
    attributes: tuple[tuple[str, str | None], ...]
    """(name, value) of its a= lines in order; value None for a property attribute."""

    @property
    def held(self) -> bool:
        """The sender of this SDP does not want to receive: sendonly, inactive, or address 0.0.0.0 (RFC
        2543)."""

    def rtpmap(self, payload: str) -> str | None:
        """Encoding of a payload type, e.g. "PCMU/8000"; static types 0, 8, 9, 18 are known without an
        a=rtpmap."""

    def payload(self, encoding: str) -> str | None:
        """Payload type of an encoding such as "telephone-event/8000" (case-insensitive), None when not
        offered."""

@final
class Session:
    """A session description."""

    origin: Origin
    name: str
    address: str | None
    """Session-level c= address."""
    direction: Direction
    """Session-level direction, sendrecv when absent."""
    attributes: tuple[tuple[str, str | None], ...]
    media: tuple[Media, ...]

    def to_bytes(self) -> bytes: ...
    def with_direction(self, direction: Direction) -> Session:
        """All live streams get this direction, on media level; o= version goes up by one."""

    def with_address(self, address: str) -> Session:
        """Session-level and media-level c= addresses replaced."""

    def answer(
        self,
        address: str,
        ports: Sequence[int],
        *,
        encodings: Sequence[str] = ("PCMU/8000", "PCMA/8000", "telephone-event/8000"),
        direction: Direction = "sendrecv",
        session_id: int = 1,
        version: int = 1,
    ) -> Session:
        """Answer to this offer (RFC 3264 §6): as many m= lines, the first audio stream taken with the
        encodings common to both sides in the offer's order and with its payload numbers, all others
        refused with port 0. `ports` gives the RTP port for the taken stream. The direction is the mirror
        of the offer limited by `direction`.

        Raises ValueError when nothing is common (answer 488).
        """

def parse(body: bytes | str) -> Session:
    """Raises `voicecore.sip.ParseError` (status 400) with the byte position of the bad line."""

def direction(body: bytes) -> Direction | None:
    """Direction of the first live audio stream; None when there is none or the body is not SDP. Cheap:
    scans lines only."""

def offer(
    address: str,
    port: int,
    *,
    encodings: Sequence[str] = ("PCMU/8000", "PCMA/8000", "telephone-event/8000"),
    direction: Direction = "sendrecv",
    session_id: int = 1,
    version: int = 1,
    name: str = "-",
) -> Session:
    """A fresh audio offer. Dynamic payload types from 101 upward; telephone-event gets fmtp 0-15."""
