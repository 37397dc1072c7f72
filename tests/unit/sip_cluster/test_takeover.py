"""Legs out of a record: each state gets the transaction that an heir needs, dialogs go on 1000 numbers higher."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from voice.record.v1.sip_call_pb2 import SIP_PENDING_KIND_REJECT, SipCall, SipLeg, SipPending
from voicecore.sip import Dialog, Endpoint, EndpointConfig, Request, parse

from services.sip_cluster.calls import CallThread, Identity, LegState, Renegotiation
from services.sip_cluster.entry import Entry, Use
from services.sip_cluster.next_hop import NextHop
from services.sip_cluster.signalling import Signalling
from services.sip_cluster.snapshots import dialog_record
from services.sip_cluster.takeover import Takeover, signal_of

PEER = ("127.0.0.1", 39_999)
OURS, THEIRS = "v1011-ours", "theirs"


@pytest.fixture(autouse=True)
def deaf() -> Iterator[None]:
    """Somebody who takes packets and says nothing: an ICMP error would end a transaction."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(PEER)
        yield


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(EndpointConfig())
    made.bind_udp("127.0.0.1", 0)
    yield made
    made.close()


@pytest.fixture
def signalling(endpoint: Endpoint) -> Signalling:
    return Signalling(
        endpoint,
        ("127.0.0.1", 5060),
        NextHop(lambda: (), direct=True),
        contact_host="",
        retry_after_s=5,
        failed=lambda *_: None,
        gone=lambda *_: None,
    )


@pytest.fixture
def takeover(endpoint: Endpoint, signalling: Signalling) -> Takeover:
    return Takeover(endpoint, signalling, NextHop(lambda: (), direct=True))


def entry() -> Entry:
    return Entry(CallThread("uuid", 17, 1, "", Identity(1, "uuid", 1)))


def received(method: str = "INVITE", to: str = "<sip:1002@x>") -> Request:
    """A request of the peer, as the core gave it to the node that died."""
    request = Request.new(
        method, "sip:1002@x", from_=f"<sip:1001@x>;tag={THEIRS}", to=to, contact="<sip:p@127.0.0.1:39999>"
    )
    raw = request.to_bytes().replace(
        b"\r\n",
        b"\r\nVia: SIP/2.0/UDP 127.0.0.1:39999;branch=z9hG4bKpeer;rport=39999;received=127.0.0.1\r\n",
        1,
    )
    message = parse(raw)
    assert isinstance(message, Request)
    return message


def sent(endpoint: Endpoint, slot: str = "v1011-") -> Request:
    """A prepared INVITE of ours."""
    request = Request.new(
        "INVITE", "sip:1002@127.0.0.1:39999", from_=f"<sip:1001@x>;tag={OURS}", to="<sip:1002@x>"
    )
    return endpoint.prepare_request(request, PEER, branch_prefix=slot)


def inbound(state: LegState, status: int = 0) -> SipLeg:
    invite = received()
    leg = SipLeg(id=1, inbound=True, state=int(state), peer="127.0.0.1:39999", local_tag=OURS)  # type: ignore[arg-type]
    leg.open_invite = invite.to_bytes()
    if status:
        leg.last_response = invite.reply(status, to_tag=OURS, contact="<sip:us@127.0.0.1>").to_bytes()
        leg.dialog.CopyFrom(dialog_record(Dialog.from_request(invite, OURS)))
    return leg


def outbound(endpoint: Endpoint, state: LegState, status: int = 0) -> SipLeg:
    invite = sent(endpoint)
    leg = SipLeg(id=2, state=int(state), peer="127.0.0.1:39999", local_tag=OURS)  # type: ignore[arg-type]
    leg.open_invite = invite.to_bytes()
    if status:
        response = invite.reply(status, to_tag=THEIRS, contact="<sip:p@127.0.0.1:39999>")
        leg.dialog.CopyFrom(dialog_record(Dialog.from_response(invite, response)))
        if status >= 200:
            leg.last_response = response.to_bytes()
    return leg


INBOUND = [
    (LegState.INVITED, 0, "proceeding"),
    (LegState.ALERTED, 180, "proceeding"),
    (LegState.ACCEPTED, 200, "accepted"),
    (LegState.ENDING, 200, "accepted"),
]
OUTBOUND = [
    (LegState.CALLING, 0, "calling"),
    (LegState.EARLY, 180, "calling"),
    (LegState.CANCELLING, 180, "proceeding"),
    (LegState.ANSWERED, 200, "accepted"),
    (LegState.ESTABLISHED, 200, "accepted"),
]


@pytest.mark.parametrize(("state", "status", "expected"), INBOUND)
def test_legs_that_called_us(
    takeover: Takeover,
    signalling: Signalling,
    endpoint: Endpoint,
    state: LegState,
    status: int,
    expected: str,
) -> None:
    call = entry()
    assert takeover.take(call, SipCall(legs=[inbound(state, status)])) == []
    signal = call.signals[1]
    assert endpoint.transaction_state(signal.invite_txn) == expected
    assert signalling.transactions[signal.invite_txn] == (call, signal, Use.INVITE)
    assert signalling.by_tag[OURS] == (call, signal)
    assert signal.destination == PEER


@pytest.mark.parametrize(("state", "status", "expected"), OUTBOUND)
def test_legs_that_we_called(
    takeover: Takeover,
    signalling: Signalling,
    endpoint: Endpoint,
    state: LegState,
    status: int,
    expected: str,
) -> None:
    call = entry()
    leg = outbound(endpoint, state, status)
    assert takeover.take(call, SipCall(legs=[leg])) == []
    signal = call.signals[2]
    assert endpoint.transaction_state(signal.invite_txn) == expected
    assert signal.invite is not None and signal.invite.to_bytes() == leg.open_invite
    assert signal.answered == (status >= 200)
    assert signalling.transactions[signal.invite_txn] == (call, signal, Use.INVITE)


def test_dialogs_go_on_higher() -> None:
    leg = SipLeg(id=1, inbound=True, state=int(LegState.ESTABLISHED), local_tag=OURS)  # type: ignore[arg-type]
    before = Dialog.from_request(received(), OURS)
    before.confirm()
    leg.dialog.CopyFrom(dialog_record(before))
    dialog = signal_of(leg).dialog
    assert dialog is not None
    assert dialog.id == before.id
    assert dialog.create_request("BYE").cseq.number == before.state().local_cseq + 1001


def test_what_cannot_be_restored_is_named(takeover: Takeover, endpoint: Endpoint) -> None:
    broken = inbound(LegState.ALERTED, 180)
    broken.open_invite = b"rubbish"
    nothing = SipLeg(id=3, state=int(LegState.CALLING), local_tag="x")  # type: ignore[arg-type]
    response = outbound(endpoint, LegState.EARLY, 180)
    response.open_invite = received().reply(180).to_bytes()
    call = entry()
    assert takeover.take(call, SipCall(legs=[broken, nothing, response])) == [1, 3, 2]
    assert call.signals == {}


def test_reinvite_between_two_legs(takeover: Takeover, endpoint: Endpoint, signalling: Signalling) -> None:
    call = entry()
    call.thread.renegotiation = Renegotiation(1, 2)
    origin, target = inbound(LegState.ESTABLISHED, 200), outbound(endpoint, LegState.ESTABLISHED, 200)
    for leg in (origin, target):
        leg.ClearField("open_invite")
        leg.ClearField("last_response")
    origin.offer_invite = received(to=f"<sip:1002@x>;tag={OURS}").to_bytes()
    target.offer_invite = sent(endpoint, "v1011-re").to_bytes()
    assert takeover.take(call, SipCall(legs=[origin, target])) == []
    asked, passed = call.signals[1], call.signals[2]
    assert (asked.offer is not None, asked.offer_sent) == (True, None)
    assert (passed.offer, passed.offer_sent is not None) == (None, True)
    assert endpoint.transaction_state(asked.offer_txn) == "proceeding"
    assert endpoint.transaction_state(passed.offer_txn) == "calling"
    assert {signalling.transactions[s.offer_txn][2] for s in (asked, passed)} == {Use.OFFER}


def test_a_caller_still_to_be_refused(takeover: Takeover, endpoint: Endpoint) -> None:
    call = entry()
    pending = SipPending(
        kind=SIP_PENDING_KIND_REJECT,
        leg=9,
        status=486,
        invite=received().to_bytes(),
        peer="127.0.0.1:39999",
        local_tag=OURS,
    )
    assert takeover.take(call, SipCall(pending=[pending])) == []
    assert endpoint.transaction_state(call.signals[9].invite_txn) == "proceeding"
