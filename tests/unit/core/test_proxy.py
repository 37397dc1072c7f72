"""Proxy over real loopback sockets: two nodes, phones, one or two proxies."""

import time
from collections.abc import Iterator

import pytest
from voicecore import sip

from tests.unit.core.loopback import Owner, Phone, until


class World:
    """A proxy with two nodes behind it and a phone before it."""

    def __init__(self) -> None:
        self.proxy = sip.Proxy(sip.ProxyConfig(reselect_after=0.2, server_name="edge"))
        self.owner = Owner(self.proxy)
        self.address = self.proxy.bind_udp("127.0.0.1", 0)
        self.phone = Phone()
        self.nodes = [Phone(), Phone()]
        self.proxy.set_identity("sip.cluster.example", record_route_params="x=1")
        self.set_nodes()
        self.proxy.set_slots([(slot, slot % 2) for slot in range(1024)])

    def set_nodes(self, *weights: float) -> None:
        shares = weights or (1.0, 1.0)
        self.proxy.set_nodes(
            [sip.Node(f"n{i}", *node.address, shares[i]) for i, node in enumerate(self.nodes)]
        )

    def send(self, method: str = "INVITE") -> tuple[int, sip.Request]:
        request = self.phone.new(method, self.address)
        return self.phone.endpoint.send_request(request, self.address), request

    def arrived(self) -> tuple[Phone, sip.RequestReceived]:
        found: list[tuple[Phone, sip.RequestReceived]] = []

        def look() -> bool:
            for node in self.nodes:
                for event in node.endpoint.drain():
                    if isinstance(event, sip.RequestReceived):
                        found.append((node, event))
            return bool(found)

        until(look)
        return found[0]

    def close(self) -> None:
        self.proxy.close()
        for phone in [self.phone, *self.nodes]:
            phone.endpoint.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_whole_call(world: World) -> None:
    txn, invite = world.send()
    node, event = world.arrived()
    via = event.request.via
    assert via is not None and via.host == "sip.cluster.example"
    assert [str(route) for route in event.request.record_routes] == [
        f"<sip:127.0.0.1:{world.address[1]};lr;x=1>"
    ]
    assert event.request.max_forwards == 69
    tag = sip.new_tag(6)
    node.endpoint.respond(event.txn, event.request.reply(180, to_tag=tag, contact=node.contact))
    world.phone.response(180)
    node.endpoint.respond(event.txn, event.request.reply(200, to_tag=tag, contact=node.contact))
    answered = world.phone.response(200).response
    dialog = sip.Dialog.from_response(invite, answered)
    world.proxy.update_slots([(6, f"n{world.nodes.index(node)}")])
    world.phone.endpoint.send_ack(txn, dialog.create_request("ACK"), world.address)
    assert node.wait(sip.AckReceived).txn == event.txn
    at_node = sip.Dialog.from_request(event.request, tag)
    node.endpoint.send_request(
        at_node.create_request("BYE"), world.address, branch_prefix=sip.branch_prefix(6)
    )
    bye = world.phone.request("BYE")
    dialog.accept(bye.request)
    world.phone.endpoint.respond(bye.txn, bye.request.reply(200))
    node.response(200)
    counters = world.proxy.counters()
    assert (counters["new_dialogs"], counters["from_nodes"], counters["reselected"]) == (1, 1, 0)


def test_in_dialog_requests_stay_with_the_slot_after_a_restart_of_the_proxy(world: World) -> None:
    request = world.phone.new("INFO", world.address)
    request.set("To", f"<sip:x@y>;tag={sip.new_tag(7)}")
    other = sip.Proxy()
    address = other.bind_udp("127.0.0.1", 0)
    other.set_nodes([sip.Node(f"n{i}", *node.address) for i, node in enumerate(world.nodes)])
    other.set_slots([(slot, slot % 2) for slot in range(1024)])
    for to in (world.address, address):
        again = request.copy()
        again.set("CSeq", f"{to[1]} INFO")
        world.phone.endpoint.send_request(again, to)
        node, _ = world.arrived()
        assert node is world.nodes[1]
    other.close()


def test_a_dead_node_is_left_and_a_request_in_a_dialog_waits_for_the_heir(world: World) -> None:
    world.nodes[0].endpoint.close()
    for _ in range(8):
        world.send("OPTIONS")
    until(lambda: world.proxy.counters()["node.n1.forwarded"] >= 8)
    assert world.proxy.counters()["reselected"] >= 1
    world.nodes[1].endpoint.drain()
    request = world.phone.new("INFO", world.address)
    request.set("To", f"<sip:x@y>;tag={sip.new_tag(4)}")
    before = world.proxy.counters()["forwarded_requests"]
    txn = world.phone.endpoint.send_request(request, world.address)
    until(lambda: world.proxy.counters()["forwarded_requests"] > before)
    world.proxy.update_slots([(4, "n1")])
    event = world.nodes[1].request("INFO")
    world.nodes[1].endpoint.respond(event.txn, event.request.reply(200))
    answer = world.phone.wait(sip.ResponseReceived, lambda event: event.txn == txn)
    assert answer.response.status == 200
    assert world.proxy.counters()["slot_moved_resent"] == 1


def test_weights_decide_and_without_nodes_503(world: World) -> None:
    world.set_nodes(0.0, 1.0)
    for _ in range(10):
        world.send("OPTIONS")
    until(lambda: world.proxy.counters()["node.n1.new_dialogs"] == 10)
    assert world.proxy.counters()["node.n0.new_dialogs"] == 0
    world.set_nodes(0.0, 0.0)
    txn, _ = world.send("OPTIONS")
    answer = world.phone.wait(sip.ResponseReceived, lambda event: event.txn == txn)
    assert (answer.response.status, answer.response.get("Server")) == (503, "edge")


def test_register_is_asked_of_python(world: World) -> None:
    world.send("REGISTER")
    event = world.owner.request("REGISTER")
    assert event.source == world.phone.address
    world.proxy.respond(event.txn, event.request.reply(200, headers=[("Expires", "60")]))
    assert world.phone.response(200).response.expires == 60
    with pytest.raises(sip.TransactionGone):
        world.proxy.respond(event.txn, event.request.reply(200))


def test_options_of_the_proxys_own(world: World) -> None:
    ping = sip.Request.new("OPTIONS", "sip:node", from_="sip:proxy@edge", to="sip:node")
    txn = world.proxy.send_request(ping, world.nodes[0].address)
    event = world.nodes[0].request("OPTIONS")
    world.nodes[0].endpoint.respond(event.txn, event.request.reply(200))
    assert world.owner.response(200).txn == txn
    with pytest.raises(ValueError, match="ACK"):
        world.proxy.send_request(world.phone.new("INVITE", world.address), world.nodes[0].address)


def test_trunks_see_the_name_and_two_record_routes(world: World) -> None:
    world.proxy.set_hosts({"trunk.example": [world.phone.address]})
    world.proxy.set_trunk_peers(["127.0.0.0/8"])
    invite = world.nodes[0].new("INVITE", world.address)
    invite.uri = "sip:+49301234@trunk.example"
    invite.set("From", f"<sip:x@y>;tag={sip.new_tag(2)}")
    world.nodes[0].endpoint.send_request(invite, world.address, branch_prefix=sip.branch_prefix(2))
    event = world.phone.request("INVITE")
    assert [str(route) for route in event.request.record_routes] == [
        "<sip:sip.cluster.example;lr;vs=002;x=1>",
        f"<sip:127.0.0.1:{world.address[1]};lr;vs=002;x=1>",
    ]
    world.proxy.set_hosts({})
    txn = world.nodes[0].endpoint.send_request(lost(invite), world.address)
    answer = world.nodes[0].wait(sip.ResponseReceived, lambda event: event.txn == txn)
    assert answer.response.status == 404


def lost(invite: sip.Request) -> sip.Request:
    copy = invite.copy()
    copy.set("Call-ID", sip.new_call_id())
    return copy


def test_rate_limit(world: World) -> None:
    world.proxy.set_dialog_rate(5)
    sent = [world.send("INVITE")[0] for _ in range(20)]
    until(lambda: world.proxy.counters()["rate_limited"] >= 10)
    refused = world.phone.response(503)
    assert refused.txn in sent and refused.response.get("Retry-After") == "5"


def test_past_the_deadline_the_proxy_holds_too(world: World) -> None:
    world.proxy.set_send_deadline(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    world.send("OPTIONS")
    world.owner.wait(sip.SendsHeld)
    assert world.proxy.counters()["held_now"] >= 1
    assert world.proxy.release_held() >= 1
    world.arrived()


def test_bad_tables_are_refused(world: World) -> None:
    node = sip.Node("n0", "127.0.0.1", 5060)
    with pytest.raises(ValueError, match="twice"):
        world.proxy.set_nodes([node, node])
    with pytest.raises(ValueError, match="literal"):
        sip.Node("x", "host.example", 5060)
    with pytest.raises(ValueError, match="weight"):
        sip.Node("x", "127.0.0.1", 5060, -1.0)
    with pytest.raises(ValueError, match="index"):
        world.proxy.set_slots([(1, 9)])
    with pytest.raises(ValueError, match="slot"):
        world.proxy.set_slots([(1024, 0)])
    with pytest.raises(ValueError, match="n9"):
        world.proxy.update_slots([(1, "n9")])
    with pytest.raises(ValueError, match="peers"):
        world.proxy.set_trunk_peers(["trunk.example"])
    with pytest.raises(ValueError, match="fqdn"):
        world.proxy.set_identity("a b")
    with pytest.raises(ValueError, match="python_methods"):
        sip.ProxyConfig(python_methods=["ACK"])
