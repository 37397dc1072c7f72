"""Rules of the public requests, checked before anything is sent on (voice.tlib.v1.request)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from voice.tlib.v1.enums_pb2 import RouteType
from voice.tlib.v1.event_service_pb2 import SubscribeRequest

from mesh.validation import Checks

DN = re.compile(r"[0-9A-Za-z_.*#+-]{1,64}")
AGENT = re.compile(r"[0-9A-Za-z_.@*#+-]{1,64}")
MAX_REQUEST_ID = 64
MAX_NAMES = 1000
"""Names in one filter list at most."""


def request(body: Message) -> None:
    """Checks a T-Library request. Raises INVALID_ATTRIBUTE naming every field that breaks its rule."""
    check = Checks()
    fields: Any = body
    check.tenant("tenant", fields.tenant)
    if check.request_id("request_id", fields.request_id):
        check.length("request_id", fields.request_id, 1, MAX_REQUEST_ID)
    check.kv_list("reasons", fields.reasons)
    check.kv_list("extensions", fields.extensions)
    rules = _RULES[body.DESCRIPTOR.name]
    for rule in rules:
        rule(check, fields)
    check.done()


def _dn(check: Checks, body: Any) -> None:
    check.matches("dn", body.dn, DN, "must be a DN of 1 to 64 characters of 0-9 A-Z a-z _ . * # + -")


def _optional_dn(check: Checks, body: Any) -> None:
    if body.dn:
        _dn(check, body)


def _conn_id(check: Checks, body: Any) -> None:
    check.required("conn_id", body.conn_id)


def _destination(check: Checks, body: Any) -> None:
    check.length("destination", body.destination, 1, 255)


def _route_destination(check: Checks, body: Any) -> None:
    if body.route_type not in (RouteType.ROUTE_TYPE_DEFAULT, RouteType.ROUTE_TYPE_REJECT):
        _destination(check, body)
    check.between("no_answer_timeout", body.no_answer_timeout, 0, 600, unit="s")
    check.length("reservation_token", body.reservation_token, 0, 256)


def _user_data(check: Checks, body: Any) -> None:
    check.kv_list("user_data", body.user_data)


def _some_user_data(check: Checks, body: Any) -> None:
    check.required("user_data", len(body.user_data.pairs))
    _user_data(check, body)


def _key(check: Checks, body: Any) -> None:
    check.length("key", body.key, 1, 255)


def _agent(check: Checks, body: Any) -> None:
    check.matches("agent_id", body.agent_id, AGENT, "must be a login code of 1 to 64 characters")


def _dn_or_agent(check: Checks, body: Any) -> None:
    if check.that("dn", body.dn or body.agent_id, "give the DN, the agent_id or both"):
        if body.dn:
            _dn(check, body)
        if body.agent_id:
            _agent(check, body)


def _login(check: Checks, body: Any) -> None:
    check.length("password", body.password, 0, 128)
    check.length("queue", body.queue, 0, 64)
    check.length("place", body.place, 0, 128)


def _reservation(check: Checks, body: Any) -> None:
    check.between("duration_ms", body.duration_ms, 0, 600_000, unit="ms")


def _event(check: Checks, body: Any) -> None:
    check.required("event", body.HasField("event") and body.event.event_type)


_RULES: Mapping[str, tuple[Callable[[Checks, Any], None], ...]] = {
    "MakeCallRequest": (_dn, _destination, _user_data),
    "AnswerCallRequest": (_dn, _conn_id),
    "ReleaseCallRequest": (_dn, _conn_id),
    "ClearCallRequest": (_optional_dn, _conn_id),
    "RouteCallRequest": (_optional_dn, _conn_id, _route_destination, _user_data),
    "AttachUserDataRequest": (_optional_dn, _conn_id, _some_user_data),
    "UpdateUserDataRequest": (_optional_dn, _conn_id, _some_user_data),
    "DeleteUserDataRequest": (_optional_dn, _conn_id),
    "DeletePairRequest": (_optional_dn, _conn_id, _key),
    "DistributeEventRequest": (_dn, _event),
    "AgentLoginRequest": (_dn, _agent, _login),
    "AgentLogoutRequest": (_dn_or_agent,),
    "AgentReadyRequest": (_dn_or_agent,),
    "AgentNotReadyRequest": (_dn_or_agent,),
    "SetDndOnRequest": (_dn,),
    "SetDndOffRequest": (_dn,),
    "ReserveAgentRequest": (_agent, _reservation),
}


def subscription(wanted: SubscribeRequest) -> None:
    """Checks a subscription. Raises INVALID_ATTRIBUTE."""
    check = Checks()
    check.tenant("tenant", wanted.tenant)
    for name in ("types", "dns", "agents", "call_threads"):
        check.length(name, getattr(wanted, name), 0, MAX_NAMES)
    check.length("cursor", wanted.cursor, 0, 8192)
    check.done()
