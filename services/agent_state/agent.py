"""An agent with everything that Agent State keeps of it, and a DN likewise: machines plus what they remember. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.agent_state.device import Device
from services.agent_state.effects import Asked, Deny, Effect, Grant
from services.agent_state.machine import NOT_LOGGED_IN, Session
from services.agent_state.memory import Marks, Memory
from services.agent_state.reservation import Ask, Reservation, Rules


@dataclass(slots=True)
class Agent:
    """One agent. Times are UTC microseconds."""

    session: Session
    reservation: Reservation = field(default_factory=Reservation)
    askers: dict[str, Asked] = field(default_factory=dict)
    """Who waits through a queue, by request id of the ask; asks of calls are not in it."""
    outcomes: Memory[object] = field(default_factory=Memory)
    """By input id: the outcome of log entries as sent. By "ask/<request id>": Grant of reservations."""
    threads: Marks = field(default_factory=Marks)

    @property
    def due_us(self) -> int:
        """When `tick` has something to do; 0 for never."""
        due = [at for at in (self.session.wrapup_until_us, self.reservation.window_until_us) if at]
        return min(due, default=0)

    def ask(self, ask: Ask, asked: Asked | None, now_us: int, token: str, rules: Rules) -> list[Effect]:
        """A reservation request; the same id again repeats its outcome."""
        known = self.outcomes.get(f"ask/{ask.request_id}")
        if known is not None and isinstance(known.outcome, Grant) and known.outcome.until_us > now_us:
            if asked is not None:
                self.askers[ask.request_id] = asked
            return [known.outcome]
        if not self.session.logged_in:
            text = f"agent {self.session.agent_id} is not logged in"
            found: list[Grant | Deny] = [Deny(ask.request_id, NOT_LOGGED_IN, text)]
        else:
            found = self.reservation.ask(ask, now_us, self.session.available, token, rules)
        if asked is not None:
            self.askers[ask.request_id] = asked
        return self._decided(found, now_us)

    def tick(self, now_us: int, token: str, rules: Rules) -> list[Effect]:
        """What is due: the end of after-call work, and of the collection window."""
        effects = self.session.tick(now_us)
        closed = self.reservation.tick(now_us, self.session.available, token, rules)
        return effects + self._decided(closed, now_us)

    def logged_out(self, now_us: int) -> list[Effect]:
        """The login session has ended: nothing is reserved any more."""
        return self._decided(
            self.reservation.clear(NOT_LOGGED_IN, f"agent {self.session.agent_id} has logged out"), now_us
        )

    def _decided(self, outcomes: list[Grant | Deny], now_us: int) -> list[Effect]:
        for outcome in outcomes:
            if isinstance(outcome, Grant):
                self.outcomes.put(f"ask/{outcome.request_id}", outcome, now_us)
        return list(outcomes)


@dataclass(slots=True)
class Desk:
    """One DN with what it remembers."""

    device: Device
    outcomes: Memory[object] = field(default_factory=Memory)
