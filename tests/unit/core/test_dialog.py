"""Dialogs: both ends, snapshots, order."""

import pytest
from voicecore import sip

INVITE = sip.Request.new(
    "INVITE",
    "sip:bob@b",
    from_="<sip:alice@a>;tag=at",
    to="<sip:bob@b>",
    contact="<sip:alice@10.0.0.1>",
    cseq=7,
)
INVITE.append("Record-Route", "<sip:p2;lr>, <sip:p1;lr>")
OK = INVITE.reply(200, to_tag="bt", contact="<sip:bob@10.0.0.2>")


def ends() -> tuple[sip.Dialog, sip.Dialog]:
    return sip.Dialog.from_response(INVITE, OK), sip.Dialog.from_request(INVITE, "bt")


def test_the_two_ends_agree() -> None:
    uac, uas = ends()
    assert uac.id == (INVITE.call_id, "at", "bt") and uas.id == (INVITE.call_id, "bt", "at")
    assert uac.state().route_set == ("<sip:p1;lr>", "<sip:p2;lr>")
    assert uas.state().route_set == ("<sip:p2;lr>", "<sip:p1;lr>")
    assert str(uac.next_hop()) == "sip:p1;lr"
    bye = uac.create_request("BYE")
    uas.accept(bye)
    answer = uas.create_request("INFO", body=b"x", content_type="text/plain", headers=[("X", "y")])
    uac.accept(answer)
    assert (answer.cseq.number, answer.body) == (1, b"x")
    ack = uac.create_request("ACK", cseq=7)
    assert (ack.cseq.number, str(ack.uri), ack.to_tag) == (7, "sip:bob@10.0.0.2", "bt")
    assert uac.state().local_cseq == 8


def test_snapshot_and_restore_go_on_alike() -> None:
    uac, _ = ends()
    uac.create_request("INFO")
    copy = sip.Dialog.restore(uac.state())
    assert copy.state() == uac.state()
    assert copy.create_request("BYE").to_bytes() == uac.create_request("BYE").to_bytes()
    copy.advance_cseq(1000)
    assert copy.create_request("INFO").cseq.number == 1010
    state = uac.state()
    same = sip.DialogState(
        call_id=state.call_id,
        local_tag=state.local_tag,
        remote_tag=state.remote_tag,
        local_uri=state.local_uri,
        remote_uri=state.remote_uri,
        local_cseq=state.local_cseq,
        remote_cseq=state.remote_cseq,
        remote_target=state.remote_target,
        route_set=state.route_set,
        is_uac=state.is_uac,
        secure=state.secure,
        early=state.early,
    )
    assert same == state


def test_order_and_membership() -> None:
    uac, uas = ends()
    first, second = uac.create_request("INFO"), uac.create_request("INFO")
    uas.accept(second)
    with pytest.raises(sip.DialogError) as caught:
        uas.accept(first)
    assert caught.value.status == 500
    stranger = sip.Dialog.from_response(INVITE, INVITE.reply(200, to_tag="zz", contact="<sip:z@z>"))
    with pytest.raises(sip.DialogError) as caught:
        uas.accept(stranger.create_request("BYE"))
    assert caught.value.status == 481


def test_target_refresh_both_ways() -> None:
    uac, uas = ends()
    reinvite = uac.create_request("INVITE", contact="<sip:alice@10.0.0.7>")
    uas.accept(reinvite)
    assert uas.state().remote_target == "sip:alice@10.0.0.7"
    uac.refresh_target(reinvite.reply(200, contact="<sip:bob@10.0.0.8>"))
    assert uac.state().remote_target == "sip:bob@10.0.0.8"
    uac.refresh_target(reinvite.reply(488, contact="<sip:bob@10.0.0.9>"))
    assert uac.state().remote_target == "sip:bob@10.0.0.8"


def test_early_then_confirmed() -> None:
    ringing = sip.Dialog.from_response(INVITE, INVITE.reply(180, to_tag="bt", contact="<sip:early@x>"))
    assert ringing.early
    ringing.confirm(OK)
    assert not ringing.early and ringing.state().remote_target == "sip:bob@10.0.0.2"
    uas = sip.Dialog.from_request(INVITE, "bt")
    assert uas.early
    uas.confirm()
    assert not uas.early


def test_refused() -> None:
    with pytest.raises(ValueError, match="no dialog"):
        sip.Dialog.from_response(INVITE, INVITE.reply(404))
    bare = INVITE.copy()
    bare.remove("Contact")
    with pytest.raises(sip.ParseError) as caught:
        sip.Dialog.from_request(bare, "x")
    assert caught.value.rule == "missing-contact"
    with pytest.raises(ValueError, match="local_tag"):
        sip.Dialog.from_request(INVITE, "a b")
