"""Endpoint over real loopback sockets."""

import asyncio
import socket
import time

import pytest
from voicecore import sip

from tests.unit.core.loopback import Phone, phones, until

QUICK = sip.EndpointConfig(t1=0.02, t2=0.05, t4=0.05, user_agent="test", report_terminated=True)


def call(a: Phone, b: Phone, tag: str = "bt") -> tuple[int, int, sip.Dialog, sip.Dialog]:
    """An answered call: (txn of a, txn of b, dialog of a, dialog of b); the ACK is not sent."""
    invite = a.new("INVITE", b.address)
    txn = a.endpoint.send_request(invite, b.address)
    arrived = b.request("INVITE")
    b.endpoint.respond(arrived.txn, arrived.request.reply(180, to_tag=tag, contact=b.contact))
    a.response(180)
    b.endpoint.respond(arrived.txn, arrived.request.reply(200, to_tag=tag, contact=b.contact))
    answered = a.response(200)
    dialog = sip.Dialog.from_response(invite, answered.response)
    return txn, arrived.txn, dialog, sip.Dialog.from_request(arrived.request, tag)


def test_a_call_from_invite_to_bye() -> None:
    with phones(2) as (a, b):
        txn, at_b, dialog, other = call(a, b)
        assert (a.endpoint.transaction_state(txn), b.endpoint.transaction_state(at_b)) == (
            "accepted",
            "accepted",
        )
        a.endpoint.send_ack(txn, dialog.create_request("ACK"), b.address)
        assert b.wait(sip.AckReceived).txn == at_b
        bye = other.create_request("BYE")
        b.endpoint.send_request(bye, a.address)
        ended = a.request("BYE")
        dialog.accept(ended.request)
        a.endpoint.respond(ended.txn, ended.request.reply(200))
        assert b.response(200).response.cseq.method == "BYE"
        assert a.endpoint.counters()["retransmissions_out"] == 0


def test_our_via_carries_the_prefix_and_the_received_one_the_source() -> None:
    with phones(2, QUICK) as (a, b):
        a.endpoint.send_request(a.new("OPTIONS", b.address), b.address, branch_prefix=sip.branch_prefix(163))
        event = b.request("OPTIONS")
        via = event.request.via
        assert via is not None
        assert (sip.slot_of_branch(via.branch), via.received, via.rport) == (163, "127.0.0.1", a.address[1])
        assert (event.source, event.local) == (a.address, b.address)
        assert event.request.get("User-Agent") == "test"
        b.endpoint.respond(event.txn, event.request.reply(200))
        assert a.response(200).response.get("Server") == "test"


def test_a_2xx_is_repeated_until_ack_and_the_kept_ack_answers_repeats() -> None:
    with phones(2, QUICK) as (a, b):
        txn, _, dialog, _ = call(a, b)
        until(lambda: b.endpoint.counters()["retransmissions_out"] >= 3)
        a.endpoint.send_ack(txn, dialog.create_request("ACK"), b.address)
        b.wait(sip.AckReceived)
        assert not any(isinstance(event, sip.ResponseReceived) for event in a.events + a.endpoint.drain())
        # A repeat that was on its way is acknowledged from the kept ACK; b hears of none of them.
        until(lambda: a.endpoint.counters()["retransmissions_in"] >= 3)
        assert not any(isinstance(event, sip.AckReceived) for event in b.events + b.endpoint.drain())


def test_an_unacknowledged_2xx_is_reported() -> None:
    with phones(2, QUICK) as (a, b):
        _, at_b, _, _ = call(a, b)
        event = b.wait(sip.TransactionTimeout)
        assert (event.txn, event.kind) == (at_b, "ack")
        assert b.wait(sip.TransactionTerminated, lambda event: event.txn == at_b)


def test_cancel_and_487() -> None:
    with phones(2) as (a, b):
        invite = a.new("INVITE", b.address)
        txn = a.endpoint.send_request(invite, b.address)
        arrived = b.request("INVITE")
        b.endpoint.respond(arrived.txn, arrived.request.reply(180, to_tag="x"))
        a.response(180)
        assert a.endpoint.cancel(txn, reason='SIP;cause=200;text="elsewhere"')
        cancelled = b.wait(sip.CancelReceived)
        assert (cancelled.txn, cancelled.request.get("Reason")) == (
            arrived.txn,
            'SIP;cause=200;text="elsewhere"',
        )
        b.endpoint.respond(arrived.txn, arrived.request.reply(487, to_tag="x"))
        a.response(487)
        until(lambda: b.endpoint.transaction_state(arrived.txn) == "confirmed")
        assert not a.endpoint.cancel(txn)


def test_nobody_there_and_nobody_answering() -> None:
    with phones(2, QUICK) as (a, b):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            txn = a.endpoint.send_request(a.new("OPTIONS", deaf.getsockname()), deaf.getsockname())
            late = a.wait(sip.TransactionTimeout)
            assert (late.txn, late.kind) == (txn, "request")
            gone = deaf.getsockname()
        txn = a.endpoint.send_request(a.new("INVITE", gone), gone)
        failed = a.wait(sip.TransportFailed)
        assert (failed.txn, failed.reason) == (txn, "icmp")
        a.endpoint.send_request(a.new("INFO", b.address), b.address)
        unanswered = b.wait(sip.TransactionTimeout)
        assert unanswered.kind == "response"


def test_calls_that_make_no_sense_are_refused() -> None:
    with phones(2) as (a, b):
        request = a.new("OPTIONS", b.address)
        with pytest.raises(ValueError, match="ACK and CANCEL"):
            a.endpoint.send_request(a.new("ACK", b.address), b.address)
        with pytest.raises(ValueError, match="literal"):
            a.endpoint.send_request(request, ("example.com", 5060))
        with pytest.raises(ValueError, match="branch_prefix"):
            a.endpoint.send_request(request, b.address, branch_prefix="a b")
        with pytest.raises(RuntimeError, match="socket"):
            a.endpoint.send_request(request, ("::1", 5060))
        with pytest.raises(sip.TransactionGone):
            a.endpoint.respond(12345, request.reply(200))
        a.endpoint.send_request(request, b.address)
        arrived = b.request("OPTIONS")
        b.endpoint.respond(arrived.txn, arrived.request.reply(200))
        with pytest.raises(sip.TransactionGone):
            b.endpoint.respond(arrived.txn, arrived.request.reply(200))
        with pytest.raises(OSError):
            a.endpoint.bind_udp(*b.address)
        a.endpoint.close()
        a.endpoint.close()
        with pytest.raises(RuntimeError, match="closed"):
            a.endpoint.send_request(request, b.address)


@pytest.mark.parametrize(
    ("field", "value"),
    [("t1", 0.0), ("t2", float("nan")), ("max_events", 0), ("via_host", "a b"), ("user_agent", "a\r\nb")],
)
def test_settings_are_checked_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        sip.EndpointConfig(**{field: value})  # type: ignore[arg-type]


def test_malformed_input_is_counted_answered_and_limited() -> None:
    with (
        phones(1, sip.EndpointConfig(malformed_rate=3)) as (a,),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude,
    ):
        rude.bind(("127.0.0.1", 0))
        rude.settimeout(5)
        bad = a.new("INVITE", a.address)
        bad.append("Via", f"SIP/2.0/UDP 127.0.0.1:{rude.getsockname()[1]};branch=z9hG4bKx")
        data = bad.to_bytes().replace(b"Content-Length: 0", b"Content-Length: 99")
        for _ in range(8):
            rude.sendto(data, a.address)
        answer = sip.parse(rude.recv(65535))
        assert isinstance(answer, sip.Response) and answer.status == 400
        rude.sendto(data.replace(b"INVITE", b"ACK"), a.address)
        rude.sendto(b"SIP/2.0 200 OK\r\n\r\n", a.address)
        rude.sendto(b"\x00\xffjunk", a.address)
        rude.sendto(b"\r\n\r\n", a.address)
        until(lambda: a.endpoint.counters()["received"] == 12)
        counters = a.endpoint.counters()
        assert (counters["malformed"], counters["malformed.content-length"], counters["keepalives"]) == (
            11,
            9,
            1,
        )
        # Windows of one second: the run may lie across two of them.
        assert 3 <= counters["answered_malformed"] <= 6
        assert a.endpoint.drain() == []


def test_past_the_deadline_nothing_leaves_until_released() -> None:
    with phones(2) as (a, b):
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        a.endpoint.set_send_deadline(now + 3_600_000_000_000)
        a.endpoint.send_request(a.new("OPTIONS", b.address), b.address)
        b.request("OPTIONS")
        a.endpoint.set_send_deadline(now)
        a.endpoint.send_request(a.new("MESSAGE", b.address), b.address)
        a.endpoint.send_request(a.new("INFO", b.address), b.address)
        held = a.wait(sip.SendsHeld)
        assert held.count >= 1
        counters = a.endpoint.counters()
        assert counters["held_now"] >= 2
        assert b.endpoint.counters()["received"] == 1
        assert a.endpoint.release_held() >= 2
        b.request("MESSAGE")
        b.request("INFO")
        a.endpoint.send_request(a.new("INFO", b.address), b.address)
        a.wait(sip.SendsHeld)
        assert a.endpoint.drop_held() >= 1
        a.endpoint.set_send_deadline(0)
        a.endpoint.send_request(a.new("NOTIFY", b.address), b.address)
        b.request("NOTIFY")


def test_ipv6() -> None:
    a, b = Phone(host="::1"), Phone(host="::1")
    try:
        a.endpoint.send_request(a.new("OPTIONS", b.address), b.address)
        event = b.request("OPTIONS")
        assert event.source == a.address
        b.endpoint.respond(event.txn, event.request.reply(200))
        a.response(200)
    finally:
        a.endpoint.close()
        b.endpoint.close()


async def test_in_asyncio_one_reader_drains_many() -> None:
    with phones(2) as (a, b):
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        answered = 0

        def on_b() -> None:
            for event in b.endpoint.drain():
                assert isinstance(event, sip.RequestReceived)
                b.endpoint.respond(event.txn, event.request.reply(200))

        def on_a() -> None:
            nonlocal answered
            answered += len(a.endpoint.drain(max=7))
            if answered == 300:
                done.set_result(None)

        loop.add_reader(a.endpoint.fileno(), on_a)
        loop.add_reader(b.endpoint.fileno(), on_b)
        for _ in range(300):
            a.endpoint.send_request(a.new("OPTIONS", b.address), b.address)
        await asyncio.wait_for(done, 10)
        loop.remove_reader(a.endpoint.fileno())
        loop.remove_reader(b.endpoint.fileno())
        assert a.endpoint.counters()["timeouts"] == 0
