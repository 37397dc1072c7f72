"""A reservation's token says when the reservation ends: `<name>~<UTC microseconds in hex>`.

Agent State makes it, RouteCall presents it, the SIP node refuses what has ended: a RouteCall that was held up (its call's
node died while etcd was away) must not ring an agent who has been given to somebody else meanwhile.
"""

from __future__ import annotations

import re

CLOCKS_APART_US = 500_000
"""How far the clocks of two nodes may differ, microseconds: a token is refused that much before its end."""

_END = re.compile(r"(.*)~([0-9a-f]{1,16})", re.DOTALL)


def ending(token: str, until_us: int) -> str:
    """The token with this end in place of the one it had."""
    return f"{name(token)}~{until_us:x}"


def name(token: str) -> str:
    """What stays the same when a reservation is prolonged."""
    found = _END.fullmatch(token)
    return found[1] if found else token


def has_ended(token: str, now_us: int) -> bool:
    """Whether nobody should route with it any more. A token without an end (nobody of ours made it) has none."""
    found = _END.fullmatch(token)
    return found is not None and now_us >= int(found[2], 16) - CLOCKS_APART_US
