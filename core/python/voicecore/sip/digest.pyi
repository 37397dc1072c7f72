"""Digest authentication for SIP: RFC 3261 §22, RFC 7616, RFC 8760 (MD5 and SHA-256)."""

from typing import Literal, final

__all__ = [
    "Authorization",
    "Challenge",
    "NonceKeeper",
    "answer",
    "challenge",
    "ha1",
    "parse_authorization",
    "parse_challenge",
    "verify",
]

@final
class Authorization:
    """Value of an Authorization or Proxy-Authorization header (scheme Digest), immutable."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    """"MD5" or "SHA-256" as written by the client; "MD5" when absent."""
    cnonce: str | None
    opaque: str | None
    qop: str | None
    """"auth" or None; "auth-int" is kept as written and refused by `verify`."""
    nc: int | None
    """Nonce count, 1..=0xffffffff; None when absent."""

@final
class Challenge:
    """Value of a WWW-Authenticate or Proxy-Authenticate header (scheme Digest), immutable."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str
    qop: tuple[str, ...]
    stale: bool

def challenge(
    realm: str,
    nonce: str,
    *,
    opaque: str | None = None,
    algorithm: str = "MD5",
    qop: str | None = "auth",
    stale: bool = False,
) -> str:
    """Header value for WWW-Authenticate / Proxy-Authenticate. One algorithm a header (RFC 8760 §2.4).

    Raises ValueError for an algorithm other than MD5 or SHA-256.
    """

def parse_authorization(value: str) -> Authorization:
    """Raises `voicecore.sip.ParseError` (status 400) on another scheme, a missing or a repeated field."""

def parse_challenge(value: str) -> Challenge:
    """Raises `voicecore.sip.ParseError`."""

def ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    """H(username:realm:password) in lower-case hex; what a subscriber store should keep instead of a
    password."""

def verify(
    authorization: Authorization,
    method: str,
    *,
    ha1: str | None = None,
    password: str | None = None,
) -> bool:
    """True when the response is right for this method. Compares in constant time. Exactly one of ha1 /
    password.

    Checks the hash only: realm, nonce and uri are the caller's to check (see `NonceKeeper`).
    """

def answer(
    challenge: Challenge | str,
    method: str,
    uri: str,
    username: str,
    *,
    password: str | None = None,
    ha1: str | None = None,
    cnonce: str | None = None,
    nc: int = 1,
) -> str:
    """Header value for Authorization / Proxy-Authorization answering a challenge. cnonce is random when
    not given.

    Raises ParseError when a challenge given as text is malformed, ValueError when its algorithm or qop is
    not supported.
    """

@final
class NonceKeeper:
    """Makes nonces and tells whether one may be used, without storing those that were only handed out.

    A nonce is base64url(issued seconds, 8 bytes of random, HMAC-SHA-256/128 over them and the realm). What
    is stored, for `window` seconds and at most `capacity` nonces, is a 64-wide bitmap of nonce counts
    already seen.
    """

    def __init__(self, secret: bytes, *, window: float = 300.0, capacity: int = 100_000) -> None:
        """secret: 16..=64 bytes (ValueError otherwise); window in seconds, 1..=86_400."""

    def create(self, realm: str, now: float) -> str:
        """A fresh nonce. now: seconds since the epoch (UTC)."""

    def check(
        self, nonce: str, realm: str, nc: int | None, now: float
    ) -> Literal["good", "stale", "replayed", "foreign"]:
        """Whether a nonce may be used now; "good" uses up the count.

        "stale": ours and too old, or thrown out for capacity (challenge with stale=true). "replayed":
        count seen before or out of the window of 64 below the highest. "foreign": not made with this
        secret and realm (challenge with stale=true; another proxy may have made it). nc None (a client
        without qop) is good once.
        """
