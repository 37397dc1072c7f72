"""Where Redis is, as VOICEMESH_REDIS says: one address that is always the primary's, or the Sentinels that know it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
RULE = (
    "must be redis://host:port/db, rediss://host:port/db or "
    "redis+sentinel://host:port[,host:port…]/<name of the primary>[/db]"
)
MAX_SENTINELS = 15
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLACE = re.compile(r"([A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`redis+sentinel://[user:password@]host:port[,host:port…]/<name>[/db][?sentinel_password=…]`; `rediss+sentinel` for TLS to
    Redis. User and password are those of Redis."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    """What the Sentinels call the primary ("sentinel monitor <name> …")."""
    db: int = 0
    username: str = ""
    password: str = ""
    sentinel_password: str = ""
    tls: bool = False


def of_sentinels(url: str) -> bool:
    """Whether the URL names Sentinels."""
    return url.startswith(tuple(f"{scheme}://" for scheme in SENTINEL_SCHEMES))


def parse_sentinels(url: str) -> SentinelUrl:
    """ValueError saying what is wrong with the URL."""
    parts = urlsplit(url)
    if parts.scheme not in SENTINEL_SCHEMES:
        raise ValueError(RULE)
    credentials, _, places = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    name, _, db = parts.path.strip("/").partition("/")
    if not _NAME.fullmatch(name):
        raise ValueError("the path must begin with the name of the primary")
    if db and not (db.isdecimal() and int(db) < 16):
        raise ValueError("the database must be 0 to 15")
    query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    unknown = query.keys() - {"sentinel_password"}
    if unknown:
        raise ValueError(f"unknown option {sorted(unknown)[0]}")
    return SentinelUrl(
        _places(places),
        name,
        int(db or 0),
        unquote(username),
        unquote(password),
        query.get("sentinel_password", ""),
        parts.scheme == SENTINEL_SCHEMES[1],
    )


def _places(text: str) -> tuple[tuple[str, int], ...]:
    found = [_PLACE.fullmatch(place) for place in text.split(",")]
    places = tuple((match[1], int(match[2])) for match in found if match)
    if len(places) != len(found) or not all(0 < port < 65536 for _, port in places):
        raise ValueError("Sentinels must be host:port[,host:port…]")
    if len(places) > MAX_SENTINELS:
        raise ValueError(f"at most {MAX_SENTINELS} Sentinels")
    return places


def problem(url: str) -> str:
    """Why a URL cannot be used; "" when it can, or is empty."""
    if not url:
        return ""
    if of_sentinels(url):
        try:
            parse_sentinels(url)
        except ValueError as error:
            return str(error)
        return ""
    return "" if url.startswith(("redis://", "rediss://", "unix://")) else RULE
