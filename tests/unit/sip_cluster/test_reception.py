"""What arrives from the network, where it is late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from voicecore import sip

from services.sip_cluster.calls import Leg, LegState
from services.sip_cluster.inputs import Input
from services.sip_cluster.reception import Reception
from services.sip_cluster.waiting_room import WaitingRoom
from tests.unit.core.loopback import Phone, phones

SLOT = 7
INVITE = 901
"""Transaction of the INVITE."""


class Called:
    """Signalling, the node and one call: what they were asked for."""

    def __init__(self, dialog: sip.Dialog, state: LegState, offer: bytes = b"offer") -> None:
        self.leg = Leg(1, 1, inbound=True, state=state, offer=offer)
        self.signal = SimpleNamespace(leg=1, dialog=dialog, invite_txn=INVITE, offer=None, offer_txn=0)
        self.entry = SimpleNamespace(frozen=False, thread=SimpleNamespace(legs={1: self.leg}))
        self.transactions: dict[int, object] = {}
        self.by_tag = {dialog.state().local_tag: (self.entry, self.signal)}
        self.forgotten: list[int] = []
        self.untracked: list[int] = []
        self.answered: list[int] = []
        self.fed: list[Input] = []
        self.left: set[str] = set()
        self.here = True
        self.endpoint = self
        room = WaitingRoom()
        self.reception = Reception(
            cast(Any, self), cast(Any, self), cast(Any, None), room, lambda _: self.here
        )

    def has_left(self, tag: str) -> bool:
        return tag in self.left

    def forget(self, txn: int) -> None:
        self.forgotten.append(txn)

    def untrack(self, txn: int, signal: object) -> None:
        self.untracked.append(txn)

    def respond(self, entry: object, txn: int, response: sip.Response, peer: object) -> None:
        self.answered.append(response.status)

    def feed(self, entry: object, fact: Input) -> bool:
        self.fed.append(fact)
        return True


def dialogs(a: Phone, b: Phone) -> tuple[sip.Dialog, sip.Dialog]:
    """Both ends of a call from a to b."""
    invite = a.new("INVITE", b.address)
    a.endpoint.send_request(invite, b.address)
    event = b.request("INVITE")
    tag = sip.new_tag(SLOT)
    end = sip.Dialog.from_request(event.request, tag)
    end.confirm()
    response = event.request.reply(200, to_tag=tag, contact=f"<sip:b@{b.address[0]}>")
    return sip.Dialog.from_response(invite, response), end


def send(a: Phone, b: Phone, dialog: sip.Dialog, method: str) -> sip.RequestReceived:
    """A request in the dialog as it arrives."""
    contact = f"<sip:a@{a.address[0]}>" if method == "INVITE" else None
    a.endpoint.send_request(dialog.create_request(method, contact=contact), b.address)
    return b.request(method)


def test_a_request_that_has_waited_while_its_sender_went_on_is_let_go() -> None:
    """Whoever had the call then has answered it; a second answer would be taken for that of the next request."""
    with phones(2) as (a, b):
        mine, theirs = dialogs(a, b)
        called = Called(theirs, LegState.ESTABLISHED)
        called.here = False
        old = send(a, b, mine, "INVITE")
        called.reception.take(old)
        theirs.accept(send(a, b, mine, "OPTIONS").request)
        called.here = True
        called.reception.opened(SLOT)
        assert (called.forgotten, called.answered, called.reception.ignored) == ([old.txn], [], 1)


def test_an_older_request_that_has_not_waited_is_refused() -> None:
    with phones(2) as (a, b):
        mine, theirs = dialogs(a, b)
        called = Called(theirs, LegState.ESTABLISHED)
        old = send(a, b, mine, "OPTIONS")
        theirs.accept(send(a, b, mine, "OPTIONS").request)
        called.reception.take(old)
        assert (called.forgotten, called.answered) == ([], [500])


def test_a_request_of_a_caller_whose_ack_was_not_heard_says_that_it_was_sent() -> None:
    with phones(2) as (a, b):
        mine, theirs = dialogs(a, b)
        called = Called(theirs, LegState.ACCEPTED)
        called.reception.take(send(a, b, mine, "INFO"))
        assert [type(fact).__name__ for fact in called.fed] == ["Acked"]
        assert (called.untracked, called.forgotten) == ([INVITE], [INVITE]), "the 2xx is repeated no longer"


def test_the_ack_with_an_answer_in_it_is_waited_for() -> None:
    with phones(2) as (a, b):
        mine, theirs = dialogs(a, b)
        called = Called(theirs, LegState.ACCEPTED, offer=b"")
        called.reception.take(send(a, b, mine, "INVITE"))
        assert (called.fed, called.answered) == ([], [491])


def test_a_bye_whose_answer_a_dead_node_owed_is_answered() -> None:
    with phones(2) as (a, b):
        mine, theirs = dialogs(a, b)
        called = Called(theirs, LegState.ESTABLISHED)
        called.by_tag.clear()
        called.reception.take(send(a, b, mine, "BYE"))
        called.left.add(theirs.state().local_tag)
        called.reception.take(send(a, b, mine, "BYE"))
        called.reception.take(send(a, b, mine, "INFO"))
        assert called.answered == [481, 200, 481]
