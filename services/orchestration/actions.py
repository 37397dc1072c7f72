"""From what a document asks by an action of an extension to what the host does. Pure; errors become events."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.orchestration.effects import (
    CreateCall,
    DeleteUserData,
    Fetch,
    Pairs,
    Respond,
    Resubmit,
    Route,
    SetUserData,
    Start,
    Stored,
    Submit,
    TargetWish,
    Terminate,
    TerminateOther,
)
from services.orchestration.scxml import Action, ActionChild, Event, Json
from services.orchestration.session import Call

MAX_FETCH_MS = 60_000
"""Longest HTTP request of an application, milliseconds."""
DEFAULT_FETCH_MS = 5_000
MAX_RETRIES = 5
"""Further attempts of an HTTP request."""
MAX_EXCLUDED = 100
"""Agents that an application may leave out."""
MAX_START_DATA = 64 * 1024
"""Longest parameters for another session, bytes of JSON."""
_TYPES = {"agent": "agent", "a": "agent", "agentgroup": "agentgroup", "ga": "agentgroup", "skill": "skill",
          "place": "place", "ap": "place"}  # fmt: skip


class ActionError(ValueError):
    """An action that cannot be carried out as written; becomes `error.<module>.<action>` with this text."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an action may need to know of its session."""

    effect_id: str
    now_us: int
    call: Call
    submits: Mapping[str, str]
    """requestid of a waiting routing request -> id of its effect."""
    excluded: tuple[str, ...] = ()
    """Agents that routing requests leave out."""


def carry_out(action: Action, context: Context) -> Stored:
    """The effect of an action. Raises ActionError; "unsupported" for what is not built."""
    handler = _HANDLERS.get((action.namespace, action.name))
    if handler is None:
        raise ActionError("unsupported: this platform does not carry out the action yet")
    alone = (action.namespace, action.name) in _WITHOUT_INTERACTION
    if not alone and not context.call.interaction:
        raise ActionError("unknown: the session is for no interaction")
    return handler(action, context)


def _submit(action: Action, context: Context) -> Submit:
    given = action.attributes
    targets = tuple(_targets(action))
    if not 1 <= len(targets) <= 15:
        raise ActionError(f"a routing request has 1 to 15 targets, not {len(targets)}")
    return Submit(
        id=context.effect_id,
        targets=targets,
        priority=_whole(given, "priority", 0),
        timeout_ms=_seconds(given, "timeout", 0),
        age_us=context.call.since_us,
        queue=_text(given, "queue"),
        route=_flag(given, "route", True),
        requestid=action.requestid,
        excluded=context.excluded,
    )


def agents_of(action: Action) -> tuple[str, ...]:
    """Agents of _genesys.queue.excludeAgents: a list, or names separated by commas. Raises ActionError."""
    given = action.attributes.get("agents")
    names = given if isinstance(given, list) else str(given or "").split(",")
    found = tuple(name for item in names if (name := str(item).strip()))
    if len(found) > MAX_EXCLUDED:
        raise ActionError(f"at most {MAX_EXCLUDED} agents can be left out, not {len(found)}")
    return found


def ends_another(action: Action, own: str) -> bool:
    """Whether <session:terminate> names another session than its own."""
    return _text(action.attributes, "sessionid") not in ("", own)


def _targets(action: Action) -> list[TargetWish]:
    found: list[TargetWish] = []
    if _text(action.attributes, "skillexpr"):
        found.append(TargetWish("skill", _text(action.attributes, "skillexpr")))
    listed = action.attributes.get("targets")
    for text in listed if isinstance(listed, list) else [listed] if listed else []:
        found.append(_designation(str(text)))
    for group in action.children:
        if group.name == "targets":
            found += _target_group(group)
    return found


def _target_group(group: ActionChild) -> list[TargetWish]:
    after_ms = _seconds(group.attributes, "timeout", 0)
    found = []
    for child in group.children:
        if child.name == "targetid":
            wish = _designation(_text(child.attributes, "expr"))
            found.append(TargetWish(wish.type, wish.name, after_ms))
            continue
        kind = _text(child.attributes, "type") or _text(group.attributes, "type")
        name = _text(child.attributes, "name") or _text(child.attributes, "skillexpr")
        if _text(child.attributes, "skillexpr"):
            kind = "skill"
        if _TYPES.get(kind.lower()) is None:
            raise ActionError(f"target {name!r}: type {kind!r} is not one of agent, agentgroup, skill, place")
        if not name:
            raise ActionError("a target needs a name")
        found.append(TargetWish(_TYPES[kind.lower()], name, after_ms))
    return found


def _designation(text: str) -> TargetWish:
    """ "?:English > 5@Stat.GA", "sales@Stat.GA", "a1@Stat.A" (domain facts §5)."""
    body, _, suffix = text.rpartition("@")
    kind = suffix.rpartition(".")[2].lower() if body else ""
    body = (body or text).strip()
    if body.startswith("?:"):
        return TargetWish("skill", body[2:].strip())
    if _TYPES.get(kind) is None or not body:
        raise ActionError(f"target {text!r}: must end in @<stat server>.A, .AP or .GA, or begin with ?:")
    return TargetWish(_TYPES[kind], body)


def _resubmit(action: Action, context: Context) -> Resubmit:
    given = action.attributes
    requestid = _text(given, "requestid") or action.requestid
    submit_id = context.submits.get(requestid)
    if (
        submit_id is None
        and action.name == "cancel"
        and len(context.submits) == 1
        and not _text(given, "requestid")
    ):
        submit_id = next(iter(context.submits.values()))
    if submit_id is None:
        raise ActionError(f"no routing request {requestid!r} is waiting")
    priority = None if action.name == "cancel" else _whole(given, "priority", 0)
    return Resubmit(context.effect_id, submit_id, action.requestid, priority)


def _redirect(action: Action, context: Context) -> Route:
    to = action.attributes.get("to")
    if isinstance(to, dict):  # the resource of queue.submit.done, handed back as it came
        destination, agent = str(to.get("dn", "")), str(to.get("agent", ""))
        token = str(to.get("token", ""))
    else:
        destination, agent, token = str(to or ""), "", _text(action.attributes, "token")
    if not 1 <= len(destination) <= 255:
        raise ActionError("'to' must be a destination of 1 to 255 characters or a selected resource")
    return Route(context.effect_id, destination, agent, token, requestid=action.requestid)


def _set_user_data(action: Action, context: Context) -> SetUserData:
    given = action.attributes.get("udata")
    if not isinstance(given, dict) or not given:
        raise ActionError("'udata' must be an object with at least one property")
    return SetUserData(context.effect_id, pairs_of(given), action.requestid)


def _delete_user_data(action: Action, context: Context) -> DeleteUserData:
    keys = action.attributes.get("keys")
    named = keys if isinstance(keys, list) else [keys] if keys else []
    return DeleteUserData(context.effect_id, tuple(str(key) for key in named), action.requestid)


def _terminate(action: Action, context: Context) -> Terminate:
    return Terminate(context.effect_id, action.requestid)


def _create_call(action: Action, context: Context) -> CreateCall:
    given = action.attributes
    data = given.get("udata")
    pairs = pairs_of(data) if isinstance(data, dict) else ()
    if not _text(given, "from") or not _text(given, "to"):
        raise ActionError("'from' and 'to' are needed")
    return CreateCall(context.effect_id, _text(given, "from"), _text(given, "to"), pairs, action.requestid)


def _respond(action: Action, context: Context) -> Respond:
    if not context.call.interaction_id:
        raise ActionError("invalidstate: a call cannot be answered with a message")
    return Respond(context.effect_id, action.attributes.get("data"), action.requestid)


def _start(action: Action, context: Context) -> Start:
    src, data = _text(action.attributes, "src"), action.attributes.get("data")
    if not src.startswith(("http://", "https://")):
        raise ActionError(f"src {src!r} must begin with http:// or https://")
    if data is not None and not isinstance(data, dict):
        raise ActionError("'data' must be an object")
    if len(json.dumps(data).encode()) > MAX_START_DATA:
        raise ActionError(f"'data' has at most {MAX_START_DATA} bytes")
    ideal = _whole(action.attributes, "idealtime", 0)
    return Start(context.effect_id, src, data, ideal, action.requestid)


def _terminate_other(action: Action, context: Context) -> TerminateOther:
    return TerminateOther(context.effect_id, _text(action.attributes, "sessionid"), action.requestid)


def _fetch(action: Action, context: Context) -> Fetch:
    given = action.attributes
    url = _text(given, "src") or _text(given, "srcexpr") or _text(given, "url")
    method = (_text(given, "method") or "get").upper()
    if not url.startswith(("http://", "https://")):
        raise ActionError(f"url {url!r} must begin with http:// or https://")
    if method not in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"):
        raise ActionError(f"method {method!r} is not one of GET, POST, PUT, DELETE, PATCH, HEAD")
    headers = given.get("headers")
    retries = _whole(given, "retries", 0)
    if not 0 <= retries <= MAX_RETRIES:
        raise ActionError(f"'retries' must be 0 to {MAX_RETRIES}, not {retries}")
    return Fetch(
        id=context.effect_id,
        url=url,
        method=method,
        headers=(pairs_of(headers) if isinstance(headers, dict) else ()) + _credentials(given),
        body=_body(given.get("data")),
        timeout_ms=min(_seconds(given, "timeout", DEFAULT_FETCH_MS), MAX_FETCH_MS),
        requestid=action.requestid,
        module=f"{action.namespace}.{action.name}",
        retries=retries,
    )


def _credentials(given: Mapping[str, Json]) -> Pairs:
    """Basic authentication (RFC 7617 section 2)."""
    user = _text(given, "username")
    if not user:
        return ()
    if ":" in user:
        raise ActionError("'username' must not have a colon")
    token = base64.b64encode(f"{user}:{_text(given, 'password')}".encode()).decode()
    return (("authorization", f"Basic {token}"),)


def _body(data: Json) -> str:
    return "" if data is None else data if isinstance(data, str) else json.dumps(data)


_HANDLERS: Mapping[tuple[str, str], Callable[[Action, Context], Stored]] = {
    ("queue", "submit"): _submit,
    ("queue", "update"): _resubmit,
    ("queue", "cancel"): _resubmit,
    ("interaction", "redirect"): _redirect,
    ("interaction", "setudata"): _set_user_data,
    ("interaction", "setuData"): _set_user_data,
    ("interaction", "deleteudata"): _delete_user_data,
    ("interaction", "deleteuData"): _delete_user_data,
    ("interaction", "terminate"): _terminate,
    ("interaction", "createcall"): _create_call,
    ("interaction", "respond"): _respond,
    ("session", "fetch"): _fetch,
    ("session", "start"): _start,
    ("session", "terminate"): _terminate_other,
    ("ws", "request"): _fetch,
    ("ws", "send"): _fetch,
}
_WITHOUT_INTERACTION = frozenset(
    {
        ("queue", "cancel"),
        ("queue", "update"),
        ("interaction", "createcall"),
        ("session", "fetch"),
        ("session", "start"),
        ("session", "terminate"),
        ("ws", "request"),
        ("ws", "send"),
    }
)
"""Actions of sessions that are for no call and no digital interaction too."""


def error_event(action: Action, problem: str) -> Event:
    """The event that tells a document why its action was not carried out."""
    data = {"requestid": action.requestid, "error": problem.partition(":")[0], "description": problem}
    return Event(f"error.{action.namespace}.{action.name}", data, "external")


def pairs_of(data: Mapping[str, Json]) -> Pairs:
    """An object of the application as user data: numbers stay whole numbers, other values become text."""
    return tuple((key, _pair_value(value)) for key, value in data.items())


def _pair_value(value: Json) -> Json:
    if isinstance(value, dict):
        return [[key, _pair_value(inner)] for key, inner in value.items()]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [[str(at), _pair_value(inner)] for at, inner in enumerate(value)]
    return "" if value is None else str(value)


def _text(given: Mapping[str, Json], name: str) -> str:
    value = given.get(name)
    return "" if value is None else str(value)


def _whole(given: Mapping[str, Json], name: str, default: int) -> int:
    value = given.get(name)
    if value is None or value == "":
        return default
    try:
        return int(float(value))
    except (TypeError, ValueError):
        raise ActionError(f"'{name}' must be a whole number, not {value!r}") from None


def _seconds(given: Mapping[str, Json], name: str, default_ms: int) -> int:
    """A duration in milliseconds: plain numbers are seconds, "1500ms" and "2s" say what they are."""
    value = given.get(name)
    if value is None or value == "":
        return default_ms
    text = str(value).strip()
    number, unit = (
        (text[:-2], 1) if text.endswith("ms") else (text[:-1], 1000) if text.endswith("s") else (text, 1000)
    )
    try:
        milliseconds = float(number) * unit
    except ValueError:
        raise ActionError(f"'{name}' must be a duration in seconds, not {value!r}") from None
    if not 0 <= milliseconds <= timedelta(days=31) / timedelta(milliseconds=1):
        raise ActionError(f"'{name}' must be 0 s to 31 days")
    return int(milliseconds)


def _flag(given: Mapping[str, Json], name: str, default: bool) -> bool:
    value = given.get(name)
    if value is None or value == "":
        return default
    return str(value).lower() not in ("false", "0", "no")
