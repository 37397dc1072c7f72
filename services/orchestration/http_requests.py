"""The HTTP interface of sessions (domain facts §4.4): requests with paths, queries, forms and JSON as what they ask. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from mesh.errors import invalid
from services.orchestration.scxml import Json

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MAX_PARAMETERS = 1000
"""Parameters of a request, query and form together."""
MAX_BODY = 64 * 1024
"""Longest body of a request, bytes."""
START_FIELDS = frozenset({"src", "alternate-src", "idealtime"})
"""Parameters of a start that are not the application's."""
HELP = """voicemesh: sessions over HTTP. Bodies: application/x-www-form-urlencoded or application/json.

POST      /scxml/session/start                 src, [alternate-src], [idealtime: UTC ms], parameters -> session id
POST, GET /scxml/session/<id>/event/<name>     parameters -> the event's data
POST, GET /scxml/session/<id>/request/<name>   parameters -> the answer of <session:response>
POST, GET /scxml/session/<id>/terminate
GET, POST /scxml/session/<id>/query            the session as JSON
POST      /scxml/session/<id>/basichttp/<key>  the address in _ioprocessors: Basic HTTP event processor (SCXML C.2)
GET       /scxml/ors/help                      this text

The header idempotency-key makes a request safe to send again.
"""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as the client sent it."""

    method: str
    target: str
    """Path with query."""
    content_type: str
    body: bytes

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts, decoded."""
        return tuple(unquote(part) for part in self.target.partition("?")[0].strip("/").split("/"))

    @property
    def session_id(self) -> str:
        """/scxml/session/<id>/…"""
        return self.segments[2]

    @property
    def name(self) -> str:
        """/scxml/session/<id>/<what>/<name>"""
        return self.segments[4]


def parameters(request: HttpRequest) -> dict[str, Json]:
    """Query and body as one object; of a name given twice the last counts, the body's before the query's.

    Raises INVALID_ATTRIBUTE for a body that is too long, no UTF-8, of another type, or JSON that is no object.
    """
    query = request.target.partition("?")[2]
    found: dict[str, Json] = dict(_pairs("query", query))
    return found | _body(request)


def _body(request: HttpRequest) -> dict[str, Json]:
    if len(request.body) > MAX_BODY:
        raise invalid(("body", f"must have at most {MAX_BODY} bytes"))
    try:
        text = request.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(("body", "must be UTF-8")) from error
    if not text.strip():
        return {}
    kind = request.content_type.partition(";")[0].strip().lower()
    if kind in ("", FORM):
        return dict(_pairs("body", text))
    if kind != JSON:
        raise invalid(("content-type", f"must be {FORM} or {JSON}"))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(("body", f"must be JSON: {error}")) from error
    if not isinstance(value, dict):
        raise invalid(("body", "must be a JSON object"))
    return value


def _pairs(field: str, text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid((field, "must be UTF-8 when decoded")) from error
    except ValueError as error:
        raise invalid((field, f"must have at most {MAX_PARAMETERS} parameters")) from error


@dataclass(frozen=True, slots=True)
class Start:
    """What a start asks for."""

    src: str
    alternate_src: str
    ideal_time_ms: int
    parameters: Mapping[str, Json]


def start_of(request: HttpRequest) -> Start:
    """Raises INVALID_ATTRIBUTE naming the field."""
    given = parameters(request)
    src, alternate, ideal = given.get("src"), given.get("alternate-src", ""), given.get("idealtime", 0)
    if not isinstance(src, str) or not src:
        raise invalid(("src", "is required"))
    if not isinstance(alternate, str):
        raise invalid(("alternate-src", "must be text"))
    try:
        ideal_ms = int(str(ideal).strip() or 0) if not isinstance(ideal, bool) else None
    except ValueError:
        ideal_ms = None
    if ideal_ms is None:
        raise invalid(("idealtime", "must be a whole number of milliseconds since 1970, UTC"))
    rest = {name: value for name, value in given.items() if name not in START_FIELDS}
    return Start(src, alternate, ideal_ms, rest)


def wants_json(request: HttpRequest, accept: str) -> bool:
    """Whether an id is answered as JSON: to clients that say so or speak JSON themselves; others get it as text."""
    return JSON in accept.lower() or request.content_type.lower().startswith(JSON)
