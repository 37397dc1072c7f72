"""Callers and agents' phones: what the platform has to keep its word to. They never fail, and they remember.

They are what the invariants are about: who was offered what, whose call was established, who hung up and got an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.simulation.wire import GIVE_UP, T1, T2, Key, Wire
from tests.simulation.world import SECOND, World

RINGS_AT_MOST = 45 * SECOND
"""Then the phone gives up by itself."""


class Life(Enum):
    """How far a dialog at a phone is."""

    RINGING = 1
    ANSWERED = 2
    """200 sent, no ACK."""
    TALKING = 3
    LEAVING = 4
    """BYE sent, no answer."""
    OVER = 5


@dataclass(slots=True)
class Plan:
    """What a phone does with a call that rings, and with one it is in."""

    ring_us: int
    """Until it answers; 0: never."""
    talk_us: int
    """From being connected until it hangs up; 0: the other side does."""
    refuses: bool = False


class Talk:
    """One dialog at an agent's phone."""

    __slots__ = ("conn_id", "key", "life", "plan", "sent")

    def __init__(self, key: Key, conn_id: int, plan: Plan) -> None:
        self.key = key
        self.conn_id = conn_id
        self.plan = plan
        self.life = Life.RINGING
        self.sent = "180"
        """Last response to the INVITE."""


class Phone:
    """An agent's phone: one line."""

    def __init__(self, world: World, wire: Wire, uri: str, agent: str, plan: Callable[[], Plan]) -> None:
        self.world = world
        self.wire = wire
        self.uri = uri
        self.agent = agent
        self._plan = plan
        self.talks: dict[Key, Talk] = {}
        self.offered: list[int] = []
        """ConnIDs that rang here, in order."""
        wire.phones[uri] = self

    @property
    def active(self) -> list[Talk]:
        """Dialogs that are not over."""
        return [talk for talk in self.talks.values() if talk.life is not Life.OVER]

    def receive(self, key: Key, what: str, conn_id: int) -> None:
        """A message from the platform."""
        talk = self.talks.get(key)
        if what == "INVITE":
            self._invited(key, conn_id, talk)
        elif talk is None:
            if what in ("CANCEL", "BYE"):
                self.talks[key] = talk = Talk(key, conn_id, Plan(0, 0))
                talk.life, talk.sent = Life.OVER, "487"
                self._say(key, "487" if what == "CANCEL" else "481")
        elif what == "CANCEL":
            if talk.life is Life.RINGING:
                talk.life, talk.sent = Life.OVER, "487"
            self._say(key, talk.sent if talk.sent != "180" else "487")
        elif what == "ACK":
            if talk.life is Life.ANSWERED:
                talk.life = Life.TALKING
                if talk.plan.talk_us:
                    self.world.after(talk.plan.talk_us, self._hang_up, talk)
        elif what == "BYE":
            self._say(key, "BYE-200" if talk.life is not Life.OVER else "481")
            talk.life = Life.OVER
        elif what in ("BYE-200", "481") and talk.life is Life.LEAVING:
            talk.life = Life.OVER

    def _invited(self, key: Key, conn_id: int, talk: Talk | None) -> None:
        if talk is not None:  # a retransmission, or the same branch sent again by an heir
            if talk.life in (Life.RINGING, Life.ANSWERED) or talk.sent in ("487", "486", "480"):
                self._say(key, talk.sent)
            return
        for other in self.active:
            if (
                other.conn_id != conn_id
                and other.life is not Life.LEAVING
                and other.key not in self.wire.ending
            ):
                self.world.violated(
                    "no agent is offered two calls",
                    f"agent {self.agent} has call {other.conn_id} ({other.life.name}) and is called for {conn_id}",
                )
        talk = self.talks[key] = Talk(key, conn_id, self._plan())
        if talk.plan.refuses:
            talk.life, talk.sent = Life.OVER, "486"
            self._say(key, "486")
            return
        self.offered.append(conn_id)
        self.world.trace(self.uri, f"rings for {conn_id} {key}")
        self._say(key, "180")
        if talk.plan.ring_us:
            self.world.after(talk.plan.ring_us, self._answer, talk)
        self.world.after(RINGS_AT_MOST, self._give_up, talk)

    def _answer(self, talk: Talk) -> None:
        if talk.life is Life.RINGING:
            talk.life, talk.sent = Life.ANSWERED, "200"
            self.world.trace(self.uri, f"answers {talk.conn_id}")
            self._repeat_answer(talk, T1, self.world.now + GIVE_UP)

    def _repeat_answer(self, talk: Talk, pause: int, until: int) -> None:
        if talk.life is not Life.ANSWERED:
            return
        if self.world.now >= until:  # RFC 3261 §13.3.1.4
            self._leave(talk)
            return
        self._say(talk.key, "200")
        self.world.after(pause, self._repeat_answer, talk, min(2 * pause, T2), until)

    def _give_up(self, talk: Talk) -> None:
        if talk.life is Life.RINGING:
            talk.life, talk.sent = Life.OVER, "480"
            self._say(talk.key, "480")

    def _hang_up(self, talk: Talk) -> None:
        if talk.life is Life.TALKING:
            self._leave(talk)

    def _leave(self, talk: Talk) -> None:
        talk.life = Life.LEAVING
        self.world.trace(self.uri, f"hangs up {talk.conn_id}")
        self._repeat_bye(talk, T1, self.world.now + GIVE_UP)

    def _repeat_bye(self, talk: Talk, pause: int, until: int) -> None:
        if talk.life is not Life.LEAVING:
            return
        if self.world.now >= until:
            talk.life = Life.OVER
            self.world.violated(
                "no established call is lost", f"BYE of {self.uri} for {talk.conn_id} got no answer"
            )
            return
        self._say(talk.key, "BYE")
        self.world.after(pause, self._repeat_bye, talk, min(2 * pause, T2), until)

    def _say(self, key: Key, what: str) -> None:
        self.wire.to_owner(key, what)


class CallerState(Enum):
    """How far a caller is."""

    IDLE = 0
    CALLING = 1
    CANCELLING = 2
    TALKING = 3
    LEAVING = 4
    DONE = 5


class Caller:
    """Somebody who calls the route point, with the proxy that carries the INVITE."""

    def __init__(self, world: World, wire: Wire, number: int, patience_us: int, talk_us: int) -> None:
        """`patience_us` 0: waits for ever. `talk_us` 0: the agent hangs up."""
        self.world = world
        self.wire = wire
        self.number = number
        self.call_id = f"call-{number}"
        self.patience_us = patience_us
        self.talk_us = talk_us
        self.state = CallerState.IDLE
        self.key: Key | None = None
        """The dialog, once a response has made one."""
        self.node = ""
        self.outcome = ""
        """How it ended: "talked", "cancelled", or the status of a refusal."""
        self.talked = False
        self.began_us = 0
        self._answered_under = -1
        """Epoch of the slot when its owner last answered the INVITE."""
        self._others: dict[Key, bool] = {}
        """Other branches of the INVITE that were answered: whether they have ended."""
        wire.callers[self.call_id] = self

    # -- calling ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Calls."""
        self.state = CallerState.CALLING
        self.began_us = self.world.now
        self.world.trace(self.call_id, "calls")
        self._carry_invite(T1)
        if self.patience_us:
            self.world.after(self.patience_us, self._lose_patience)

    def _carry_invite(self, pause: int) -> None:
        """The proxy sends the INVITE until there is a response, and again when its slot has moved."""
        if self.state is not CallerState.CALLING:
            return
        if self.key is None:
            if not self.wire.alive(self.node):
                self.node = self.wire.choose()
                self.world.trace(self.call_id, f"INVITE to {self.node}")
            self.wire.invite(self.node, self)
            self.world.after(pause, self._carry_invite, min(2 * pause, T2))
            return
        epoch = self.wire.epoch(self.key.slot)
        if epoch and epoch != self._answered_under:
            self.wire.invite(self.wire.owner(self.key.slot), self)
        self.world.after(2 * T1, self._carry_invite, T1)

    def _lose_patience(self) -> None:
        if self.state is CallerState.CALLING:
            self.state = CallerState.CANCELLING
            self.world.trace(self.call_id, "cancels")
            self._carry_cancel(T1, self.world.now + GIVE_UP)

    def _carry_cancel(self, pause: int, until: int) -> None:
        if self.state is not CallerState.CANCELLING:
            return
        if self.world.now >= until:
            self._done("cancelled")
            return
        node = self.wire.owner(self.key.slot) if self.key is not None else self.node
        self.wire.cancel(node, self)
        self.world.after(pause, self._carry_cancel, min(2 * pause, T2), until)

    # -- what comes -------------------------------------------------------------------------------------------

    def receive(self, key: Key, what: str) -> None:
        """A message from the platform."""
        if what in ("100", "180"):
            if self.state is CallerState.CALLING:
                self._learn(key)
        elif what == "200":
            self._answered(key)
        elif what == "BYE":
            self._say(key, "BYE-200" if key == self.key and self.state is not CallerState.DONE else "481")
            if key == self.key and self.state in (CallerState.TALKING, CallerState.LEAVING):
                self._done("talked")
        elif what in ("BYE-200", "481"):
            if key in self._others:
                self._others[key] = True
            if key == self.key and self.state is CallerState.LEAVING:
                self._done("talked")
        else:  # a final failure
            self._say(key, "ACK")
            if self.state in (CallerState.CALLING, CallerState.CANCELLING) and self.key in (None, key):
                self._done("cancelled" if self.state is CallerState.CANCELLING else what)

    def _learn(self, key: Key) -> None:
        self.key = key
        self._answered_under = self.wire.epoch(key.slot)

    def _answered(self, key: Key) -> None:
        if self.state in (CallerState.CALLING, CallerState.CANCELLING):
            self.key = key
            self.talked = True
            self.world.trace(self.call_id, f"is answered {key}")
            self._say(key, "ACK")
            late = self.state is CallerState.CANCELLING
            self.state = CallerState.TALKING
            if late or self.talk_us:
                self.world.after(0 if late else self.talk_us, self._hang_up)
        elif key == self.key:
            self._say(key, "ACK")
        else:  # another branch of the INVITE was answered too (RFC 3261 §13.2.2.4)
            self._say(key, "ACK")
            if key not in self._others:
                self._others[key] = False
                self._repeat_bye(key, T1, self.world.now + GIVE_UP)

    def _hang_up(self) -> None:
        if self.state is CallerState.TALKING and self.key is not None:
            self.state = CallerState.LEAVING
            self.world.trace(self.call_id, "hangs up")
            self._repeat_bye(self.key, T1, self.world.now + GIVE_UP)

    def _repeat_bye(self, key: Key, pause: int, until: int) -> None:
        mine = key == self.key
        if self.state is not CallerState.LEAVING if mine else self._others[key]:
            return
        if self.world.now >= until:
            if mine:
                self._done("talked")
                self.world.violated("no established call is lost", f"BYE of {self.call_id} got no answer")
            return
        self._say(key, "BYE")
        self.world.after(pause, self._repeat_bye, key, min(2 * pause, T2), until)

    def _done(self, outcome: str) -> None:
        self.state = CallerState.DONE
        self.outcome = outcome
        self.world.trace(self.call_id, f"done: {outcome}")

    def _say(self, key: Key, what: str) -> None:
        self.wire.to_owner(key, what)
