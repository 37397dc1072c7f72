"""Addresses of sessions for the Basic HTTP event processor (SCXML C.2).

An address carries a key that only the session knows and gives away, so a sender needs no token (docs/decisions/0091).
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import quote

from services.orchestration.session import Call

KEY_BYTES = 16
"""Random bytes of a key."""


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(KEY_BYTES)


def http_location(base: str, call: Call) -> str:
    """Where a session is reached; "" when the platform's own address (`base`) is not known."""
    if not base or not call.key:
        return ""
    return f"{base.rstrip('/')}/scxml/session/{quote(call.session_id, safe='')}/basichttp/{call.key}"


def key_matches(call: Call, key: str) -> bool:
    """Whether an address has the session's key."""
    return bool(call.key) and hmac.compare_digest(call.key.encode(), key.encode())
