"""When two contacts are the same binding (RFC 3261 §10.2.4, §19.1.4; RFC 5626 §6)."""

from __future__ import annotations

from functools import lru_cache

from voicecore.sip import ParseError, Uri


@lru_cache(maxsize=16384)
def parsed(uri: str) -> Uri | None:
    """The URI, None when it is none."""
    try:
        return Uri.parse(uri)
    except ParseError:
        return None


def is_sip(uri: str) -> bool:
    """Whether a device can be called at it: a sip: or sips: URI."""
    found = parsed(uri)
    return found is not None and found.scheme in ("sip", "sips")


def is_route(value: str) -> bool:
    """Whether a Path value (RFC 3327) leads somewhere: a SIP URI, bare or in <> with parameters behind."""
    _, bracket, rest = value.partition("<")
    return is_sip(rest.partition(">")[0] if bracket else value)


def same_uri(left: str, right: str) -> bool:
    """Equivalence of RFC 3261 §19.1.4."""
    if left == right:
        return True
    one, other = parsed(left), parsed(right)
    return one is not None and other is not None and one.equivalent(other)
