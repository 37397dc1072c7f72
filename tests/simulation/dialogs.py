"""The SIP side of a node: effects as messages, sent again until they are answered, and messages as facts of the model.

Stands for `reception.py`, `signalling.py` and the core's transactions. What is being sent dies with the node; an heir begins again
from the legs' states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import Leg, LegState
from tests.simulation.wire import GIVE_UP, T1, T2, Key

if TYPE_CHECKING:
    from tests.simulation.calls import Entry, SipNode

_CALLED = frozenset({LegState.CALLING, LegState.EARLY, LegState.CANCELLING})
_ANSWERABLE = frozenset({LegState.ACCEPTED, LegState.ENDING})


class Dialogs:
    """Messages of one node."""

    def __init__(self, node: SipNode) -> None:
        self._node = node
        self._wire = node.platform.wire
        self._process = node.process
        self._world = node.world

    # -- what is sent -----------------------------------------------------------------------------------------

    def send(self, entry: Entry, effect: Any) -> None:
        """A SIP effect leaves."""
        leg = effect.leg
        match effect:
            case do.SendInvite():
                self._repeat(entry, leg, "INVITE", GIVE_UP)
            case do.CancelInvite():
                entry.loops.discard((leg, "INVITE"))
                self._wire.ending.add(Key(entry.thread.id, entry.thread.slot, leg))
                self._repeat(entry, leg, "CANCEL", GIVE_UP)
            case do.SendAck():
                self._say(entry, leg, "ACK")
            case do.SendBye():
                self._wire.ending.add(Key(entry.thread.id, entry.thread.slot, leg))
                self._repeat(entry, leg, "BYE", GIVE_UP)
            case do.AnswerBye():
                self._say(entry, leg, "BYE-200")
            case do.Trying():
                self._say(entry, leg, "100")
            case do.Alert():
                self._say(entry, leg, "180")
            case do.Accept():
                self._repeat(entry, leg, "200", GIVE_UP)
            case do.Reject(status=status):
                self._say_for_good(entry, leg, str(status))

    def _repeat(self, entry: Entry, leg: int, what: str, lasts: int) -> None:
        if (leg, what) in entry.loops:
            return
        entry.loops.add((leg, what))
        self._again(entry, leg, what, T1, self._world.now + lasts)

    def _again(self, entry: Entry, leg: int, what: str, pause: int, until: int) -> None:
        if (leg, what) not in entry.loops or entry.closed:
            return
        if self._world.now >= until:
            entry.loops.discard((leg, what))
            self._unanswered(entry, leg, what)
            return
        self._say(entry, leg, what)
        self._process.after(pause, self._again, entry, leg, what, min(2 * pause, T2), until)

    def _unanswered(self, entry: Entry, leg: int, what: str) -> None:
        if what in ("INVITE", "CANCEL"):
            self._node.feed(entry, inputs.Failed(leg, 408))
        elif what == "BYE":
            self._node.feed(entry, inputs.ByeDone(leg))
        else:
            self._node.feed(entry, inputs.AckMissing(leg))

    def _say_for_good(self, entry: Entry, leg: int, what: str) -> None:
        """A final failure: the thread may be over, the transaction repeats it until the ACK."""
        mark = (leg, "final")
        entry.loops.add(mark)

        def again(pause: int, until: int) -> None:
            if mark in entry.loops and self._world.now < until:
                self._say(entry, leg, what)
                self._process.after(pause, again, min(2 * pause, T2), until)

        again(T1, self._world.now + GIVE_UP)

    def _say(self, entry: Entry, leg: int, what: str) -> None:
        """One datagram; it leaves when the node may act for the slot."""
        thread = entry.thread
        key = Key(thread.id, thread.slot, leg)
        if leg == 1:
            self._node.gate(
                thread.slot, self._node.epoch_of(entry), self._wire.to_caller, entry.call_id, key, what
            )
            return
        known = thread.legs.get(leg)
        uri = known.contact if known is not None else self._node.platform.contacts.get(key, "")
        if uri:
            self._node.platform.contacts[key] = uri
            self._node.gate(
                thread.slot, self._node.epoch_of(entry), self._wire.to_phone, uri, key, what, entry.conn_id
            )

    # -- what is heard ----------------------------------------------------------------------------------------

    def unknown(self, key: Key, epoch: int) -> None:
        """A BYE for a call that is not here."""
        platform = self._node.platform
        if key.leg == 1:
            call_id = platform.call_id_of(key.thread)
            self._node.gate(key.slot, epoch, self._wire.to_caller, call_id, key, "481")
            return
        uri = platform.contacts.get(key)
        if uri:
            self._node.gate(key.slot, epoch, self._wire.to_phone, uri, key, "481", 0)

    def heard_late(self, entry: Entry, key: Key, what: str) -> None:
        """A message for a thread that has finished here: its transactions are still known."""
        if what == "BYE":
            self._say(entry, key.leg, "BYE-200")
        elif what == "ACK":
            entry.loops.discard((key.leg, "final"))
        elif what == "200":
            self._say(entry, key.leg, "ACK")

    def invited_again(self, entry: Entry) -> None:
        """The INVITE of the caller once more: the last response is repeated."""
        leg = entry.thread.legs.get(1)
        if leg is None:
            return
        if leg.state is LegState.INVITED:
            self._say(entry, 1, "100")
        elif leg.state is LegState.ALERTED:
            self._say(entry, 1, "180")
        elif leg.state in _ANSWERABLE:
            self._say(entry, 1, "200")

    def heard(self, entry: Entry, key: Key, what: str) -> None:
        """A message of a phone or caller in a dialog."""
        leg = entry.thread.legs.get(key.leg)
        if what == "BYE":
            self._bye(entry, key, leg)
        elif leg is None:
            if what == "200":
                self._say(entry, key.leg, "ACK")
            elif what == "ACK":
                entry.loops.discard((key.leg, "final"))
        elif key.leg == 1 or leg.inbound:
            self._from_caller(entry, leg, what)
        else:
            self._from_phone(entry, leg, what)

    def _bye(self, entry: Entry, key: Key, leg: Leg | None) -> None:
        """Answered when its effect is: once that is stored. One for a leg that has ended is a repeat."""
        if leg is not None and leg.state is not LegState.RELEASING:
            entry.loops.discard((key.leg, "200"))
            self._node.feed(entry, inputs.ByeReceived(key.leg))
        elif not entry.saving:
            self._say(entry, key.leg, "BYE-200")
            if leg is not None:
                self._node.feed(entry, inputs.ByeReceived(key.leg))

    def _from_caller(self, entry: Entry, leg: Leg, what: str) -> None:
        if what == "ACK":
            entry.loops.discard((leg.id, "200"))
            entry.loops.discard((leg.id, "final"))
            if leg.state in _ANSWERABLE:
                self._node.feed(entry, inputs.Acked(leg.id))
        elif what in ("BYE-200", "481") and leg.state is LegState.RELEASING:
            entry.loops.discard((leg.id, "BYE"))
            self._node.feed(entry, inputs.ByeDone(leg.id))

    def _from_phone(self, entry: Entry, leg: Leg, what: str) -> None:
        if what == "180":
            if leg.state in _CALLED:
                entry.loops.discard((leg.id, "INVITE"))
                self._node.feed(entry, inputs.Progressed(leg.id, 180, True))
        elif what == "200":
            if leg.state in _CALLED:
                entry.loops.discard((leg.id, "INVITE"))
                entry.loops.discard((leg.id, "CANCEL"))
                self._node.feed(entry, inputs.Answered(leg.id, b"answer", "application/sdp"))
            elif leg.state is not LegState.ANSWERED:
                self._say(entry, leg.id, "ACK")
        elif what in ("BYE-200", "481"):
            if leg.state is LegState.RELEASING:
                entry.loops.discard((leg.id, "BYE"))
                self._node.feed(entry, inputs.ByeDone(leg.id))
        elif leg.state in _CALLED:
            entry.loops.discard((leg.id, "INVITE"))
            entry.loops.discard((leg.id, "CANCEL"))
            self._node.feed(entry, inputs.Failed(leg.id, int(what)))
