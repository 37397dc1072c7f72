"""Addresses that are ours in a route set: those of all proxies of the region, since any of them serves what another has begun.

Also of those that have left: a call that one of them carried names it in its route set until it ends, and whoever sends a
request of that call on to it sends it to nobody, or to one that has just come back and takes the sender for a stranger. Pure;
`now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Collection

REMEMBERED_S = 4 * 3600.0
"""How long the address of a proxy that has left is ours, seconds: longer than calls last."""
MOST = 1000
"""Addresses remembered at most; the ones that left first go first."""


class Aliases:
    """Remembers proxies."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._present: frozenset[str] = frozenset()

    def of(self, present: Collection[str], others: Collection[str], now: float) -> list[str]:
        """The addresses, sorted. `present`: proxies that have a record; `others`: addresses of SIP nodes, which may have
        been given to them since."""
        for host in self._present.difference(present):
            self._left[host] = now
        self._present = frozenset(present)
        self._left = {
            host: left
            for host, left in list(self._left.items())[-MOST:]
            if now - left < REMEMBERED_S and host not in self._present and host not in others
        }
        return sorted(self._present | self._left.keys())
