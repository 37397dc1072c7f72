"""Who gets an agent (domain facts §2.18). Pure: times are arguments, UTC microseconds.

Asks are collected for a window from the first one on. At its end the highest priority wins, among equals the one
that came first; all others lose. A reservation ends by itself, by being given back, or when the agent logs out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mesh.reservation_token import ending, name
from services.agent_state.effects import Deny, Grant

RESERVED: Final = "REASON_AGENT_RESERVED"
NOT_AVAILABLE: Final = "REASON_WRONG_STATE"
FULL: Final = "REASON_QUEUE_FULL"

ASKS: Final = 256
"""Asks in one window at most."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Options of domain facts §2.18."""

    window_us: int = 100_000
    """request-collection-time; 0 grants at once."""
    duration_us: int = 10_000_000
    """reservation-time for asks that name none."""
    collect_lower_priority: bool = True
    """False: only the highest priority so far survives in the window, later lower ones lose at once."""
    reject_subsequent: bool = True
    """False: the client that has the reservation prolongs it by asking again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for the agent."""

    request_id: str
    client: str
    priority: int = 0
    duration_us: int = 0
    """0 means the rules' duration."""
    only_if_ready: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The agent is reserved."""

    token: str
    """Says when it ends (`mesh/reservation_token.py`)."""
    client: str
    priority: int
    until_us: int
    request_id: str

    def known_as(self, token: str) -> bool:
        """Whether the token is this reservation's, also that of before it was prolonged."""
        return name(token) == name(self.token)


@dataclass(slots=True)
class Reservation:
    """The single writer of one agent's reservation."""

    held: Held | None = None
    window_until_us: int = 0
    asks: list[Ask] = field(default_factory=list)

    def ask(self, ask: Ask, now_us: int, available: bool, token: str, rules: Rules) -> list[Grant | Deny]:
        """Takes an ask. `available`: whether the agent could take a call; `token`: to be used if it is granted."""
        self._expire(now_us)
        if any(other.request_id == ask.request_id for other in self.asks):
            return []  # the same ask again: it is answered when the window closes
        if self.held is not None:
            return [self._subsequent(self.held, ask, now_us, rules)]
        if ask.only_if_ready and not available:
            return [Deny(ask.request_id, NOT_AVAILABLE, "the agent is not available")]
        if not rules.window_us:
            return [self._grant(ask, now_us, token, rules)]
        if len(self.asks) >= ASKS:
            return [Deny(ask.request_id, FULL, f"{ASKS} requests wait for this agent already")]
        if not self.asks:
            self.window_until_us = now_us + rules.window_us
        lost = self._lost_to(ask, rules)
        if lost is not None:
            return lost
        self.asks.append(ask)
        return []

    def tick(self, now_us: int, available: bool, token: str, rules: Rules) -> list[Grant | Deny]:
        """Closes the window when it is time, and lets go what has ended."""
        self._expire(now_us)
        if not self.window_until_us or now_us < self.window_until_us:
            return []
        asks, self.asks, self.window_until_us = self.asks, [], 0
        able = [ask for ask in asks if available or not ask.only_if_ready]
        outcomes: list[Grant | Deny] = [
            Deny(ask.request_id, NOT_AVAILABLE, "the agent is not available any more")
            for ask in asks
            if ask not in able
        ]
        if not able:
            return outcomes
        winner = max(able, key=lambda ask: ask.priority)  # of equals max gives the first
        outcomes.append(self._grant(winner, now_us, token, rules))
        assert self.held is not None
        outcomes += [
            Deny(ask.request_id, RESERVED, "another request has won", self.held.until_us)
            for ask in able
            if ask is not winner
        ]
        return outcomes

    def cancel(self, token: str) -> bool:
        """Gives the reservation back; False when it is not the one held."""
        if self.held is None or not self.held.known_as(token):
            return False
        self.held = None
        return True

    def clear(self, reason: str, message: str) -> list[Grant | Deny]:
        """The agent is gone: nothing is held and every ask loses."""
        asks, self.asks, self.window_until_us, self.held = self.asks, [], 0, None
        return [Deny(ask.request_id, reason, message) for ask in asks]

    def _expire(self, now_us: int) -> None:
        if self.held is not None and self.held.until_us <= now_us:
            self.held = None

    def _subsequent(self, held: Held, ask: Ask, now_us: int, rules: Rules) -> Grant | Deny:
        if ask.client == held.client and not rules.reject_subsequent:
            return self._grant(ask, now_us, held.token, rules)
        return Deny(ask.request_id, RESERVED, "the agent is reserved", held.until_us)

    def _lost_to(self, ask: Ask, rules: Rules) -> list[Grant | Deny] | None:
        """Without collecting lower priorities: who loses at once; None when the ask is simply collected."""
        if rules.collect_lower_priority or not self.asks:
            return None
        if ask.priority <= self.asks[0].priority:
            return [Deny(ask.request_id, RESERVED, "a request of no lower priority is being collected")]
        evicted, self.asks = self.asks, [ask]
        return [Deny(old.request_id, RESERVED, "a request of higher priority came") for old in evicted]

    def _grant(self, ask: Ask, now_us: int, token: str, rules: Rules) -> Grant:
        until = now_us + (ask.duration_us or rules.duration_us)
        token = ending(token, until)
        self.held = Held(token, ask.client, ask.priority, until, ask.request_id)
        return Grant(ask.request_id, token, ask.client, ask.priority, until)
