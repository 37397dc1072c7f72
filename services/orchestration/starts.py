"""Sessions that a client starts: their ids, and what a request must be. Pure."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Final
from urllib.parse import urlsplit

from voice.orchestration.v1.orchestration_service_pb2 import StartSessionRequest

from mesh.identifiers import VERSION, session_id
from mesh.validation import Checks
from services.orchestration.scxml import Json
from services.orchestration.session import Call, Session

MAX_URL: Final = 8192
MAX_PARAMETERS: Final = 64 * 1024
"""Longest parameters, bytes of JSON."""
MAX_AHEAD_S: Final = 366 * 86_400
"""Longest time between a request and the start it asks for, seconds."""
_SEQ: Final = 1
"""A session of a client is the only one of its "call"."""


def check(request: StartSessionRequest, now_us: int, *, from_peer: bool) -> Json:
    """The parameters. Raises INVALID_ATTRIBUTE with every violation. `from_peer`: another node hands the request on."""
    rules = Checks()
    rules.tenant("tenant", request.tenant)
    rules.that("src", bool(request.src), "is required")
    for name in ("src", "alternate_src"):
        address = getattr(request, name)
        rules.length(name, address, 0, MAX_URL)
        rules.that(
            name, not address or _is_web(address), "must be an address that begins with http:// or https://"
        )
    if request.request_id:
        rules.request_id("request_id", request.request_id)
    rules.that("session_id", from_peer or not request.session_id, "must not be set")
    latest = now_us // 1000 + MAX_AHEAD_S * 1000
    rules.that("ideal_time_ms", 0 <= request.ideal_time_ms <= latest, "must be at most 366 days ahead")
    rules.length("parameters_json", request.parameters_json.encode(), 0, MAX_PARAMETERS)
    rules.done()
    parameters = _object(request.parameters_json, rules)
    rules.done()
    return parameters


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _object(text: str, rules: Checks) -> Json:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        rules.that("parameters_json", False, f"must be JSON: {error}")
        return {}
    rules.that("parameters_json", isinstance(value, dict), "must be a JSON object")
    return value


def id_of_request(tenant: str, request_id: str) -> str:
    """Session id that belongs to a request id: the same on every node, so a repeat meets the session it made."""
    digest = hashlib.sha256(f"{tenant}/{request_id}".encode()).digest()
    return _session_id(int.from_bytes(digest[:16], "big"))


def new_id(random: int) -> str:
    """A session id; `random`: 0 … 2^128 - 1."""
    return _session_id(random)


def _session_id(bits: int) -> str:
    """A CallUUID's layout (docs/identifiers.md) with random bits for time and SIP slot: there is no call."""
    bits = bits & ~(0xF << 76) | 0x8 << 76
    bits = bits & ~(0x3 << 74) | VERSION << 74
    bits = bits & ~(0x3 << 62) | 0b10 << 62
    return session_id(str(uuid.UUID(int=bits)), _SEQ)


def session_of(request: StartSessionRequest, name: str, key: str, parameters: Json, now_us: int) -> Session:
    """The session of a request that was checked."""
    due_us = request.ideal_time_ms * 1000
    call = Call(
        session_id=name,
        tenant=request.tenant,
        call_thread_id=name.partition(".")[0],
        call_uuid="",
        conn_id=0,
        route_point="",
        ani="",
        dnis="",
        since_us=now_us,
        urls=tuple(address for address in (request.src, request.alternate_src) if address),
        key=key,
        start_at_us=due_us if due_us > now_us else 0,
    )
    return Session(call, params=parameters or None)
