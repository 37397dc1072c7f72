"""The Basic HTTP event processor's messages (SCXML C.2): a send as a POST body, a request as an event.

Pure: whoever has the sockets calls these.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode

from services.orchestration.scxml.effects import HTTP_PROCESSOR, Event, Json, Send
from services.orchestration.scxml.xmltext import interpret

EVENT_NAME = "_scxmleventname"
FORM = "application/x-www-form-urlencoded"
MAX_PARAMETERS = 1_000


def encode(send: Send) -> tuple[bytes, str]:
    """Body and content type for a send: namelist and params become POST parameters, content is the body.

    Content that is JSON or XML travels as it is; plain text is percent-encoded, as a form field would be,
    so that it means the same to every receiver of forms.
    """
    pairs = [(EVENT_NAME, send.event)] if send.event else []
    if send.content is None and (send.params or not send.has_data):
        pairs += [(name, _text(value)) for name, value in send.params]
        return urlencode(pairs).encode(), FORM
    text = send.content if send.content is not None else _text(send.data)
    value = interpret(text)
    if isinstance(value, dict) and "$xml" in value:
        return text.strip().encode(), "application/xml"
    if isinstance(value, dict | list):
        return text.strip().encode(), "application/json"
    body = urlencode(pairs) + "&" if pairs else ""
    return (body + quote(text.strip())).encode(), FORM


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def decode(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Event:
    """The event for a request. Raises ValueError for one that is not text or has too many parameters.

    The name is the parameter or header `_scxmleventname`, else `HTTP.<method>`; everything else becomes
    `_event.data`: parameters an object, any other content what the data model makes of it.
    """
    text = body.decode("utf-8")
    fields = {name.lower(): value for name, value in headers}
    kind = fields.get("content-type", FORM).split(";")[0].strip().lower()
    raw = (
        f"{method} {target}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + f"\r\n{text}"
    )
    query = target.partition("?")[2]
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    content: str | None = None
    if kind == FORM and "=" in text:
        pairs += parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    elif kind == FORM:
        content = unquote_plus(text) or None
    else:
        content = text or None
    name = next((value for key, value in pairs if key == EVENT_NAME), fields.get(EVENT_NAME, ""))
    data: dict[str, Json] = {key: value for key, value in pairs if key != EVENT_NAME}
    return Event(
        name or f"HTTP.{method}",
        data or None,
        origintype=HTTP_PROCESSOR,
        content=content if not data else None,
        raw=raw,
    )
