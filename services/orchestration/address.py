"""Addresses of applications: placeholders replaced by what is known of the call (domain facts §4.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from services.orchestration.effects import Pairs

MAX_URL = 8192
"""Longest address after replacement, characters."""
_PLACEHOLDER = re.compile(r"\[(ANI|DNIS|DN|CED|EMAILFROM|EMAILTO|EMAILSUBJECT|UDATA(?:\.([^\]]+))?)\]")


def fill(
    url: str, *, ani: str, dnis: str, dn: str, user_data: Pairs, more: Mapping[str, str] | None = None
) -> str:
    """Replaces [ANI], [DNIS], [DN], [CED], [UDATA] (name1=value1&…), [UDATA.*] (name1:value1,…) and [UDATA.name].

    `more`: what digital interactions have, [EMAILFROM], [EMAILTO], [EMAILSUBJECT]. Values are percent-encoded; what is not
    known becomes empty. ValueError when the result is too long.
    """
    flat = [(key, value) for key, value in user_data if not isinstance(value, list)]

    def value(match: re.Match[str]) -> str:
        name, key = match[1], match[2]
        if key == "*":
            return ",".join(f"{quote(str(k), safe='')}:{quote(str(v), safe='')}" for k, v in flat)
        if key is not None:
            return quote(str(next((v for k, v in reversed(flat) if k == key), "")), safe="")
        if name == "UDATA":
            return urlencode([(k, str(v)) for k, v in flat])
        simple = {"ANI": ani, "DNIS": dnis, "DN": dn, **(more or {})}
        return quote(simple.get(name, ""), safe="")

    filled = _PLACEHOLDER.sub(value, url)
    if len(filled) > MAX_URL:
        raise ValueError(f"address of {len(filled)} characters; at most {MAX_URL} are allowed")
    return filled


def with_parameters(url: str, parameters: Sequence[tuple[str, str]]) -> str:
    """The address with the route point's parameters in its query; file addresses have none."""
    parts = urlsplit(url)
    if not parameters or parts.scheme not in ("http", "https"):
        return url
    query = "&".join(part for part in (parts.query, urlencode(parameters)) if part)
    return urlunsplit(parts._replace(query=query))
