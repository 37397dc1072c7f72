"""A request that met a proxy which is not there, or does not answer, goes through another one; a BYE is never given up for
it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from services.sip_cluster import detour
from services.sip_cluster import effects as do
from services.sip_cluster.detour import LOOKS_BYE, LOOKS_MOST, Detour
from services.sip_cluster.entry import Entry, Sent, Signal, Use
from services.sip_cluster.next_hop import AVOIDED_S, REMEMBERED_S, Address, NextHop, host_port

A, B = ("10.0.0.1", 5060), ("10.0.0.2", 5060)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Nodes:
    """The directory."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = addresses

    def __call__(self) -> list[NodeRecord]:
        state = NodeState.NODE_STATE_SERVING
        return [NodeRecord(node=f"p{a[0]}", sip_address=host_port(a), state=state) for a in self.addresses]


class Signalling:
    """What it was asked for. Of a transaction in `answered` the core says that something has answered."""

    def __init__(self) -> None:
        self.prepared: list[Address] = []
        self.redirected: list[tuple[int, Address]] = []
        self.answered: set[int] = set()
        self.byes = 0
        self.transactions: dict[int, tuple[Entry, Signal, Use]] = {}
        self.sent: dict[int, Sent] = {}
        self.endpoint = self

    def send_prepared(self, request: object, destination: Address) -> int:
        self.prepared.append(destination)
        return 900 + len(self.prepared)

    def redirect(self, txn: int, destination: Address) -> bool:
        if txn in self.answered:
            return False
        self.redirected.append((txn, destination))
        return True

    def bye(self, entry: Entry, effect: do.SendBye) -> None:
        self.byes += 1

    def track(self, txn: int, entry: Entry, signal: Signal, use: Use, *, to: Address | None = None) -> None:
        self.transactions[txn] = (entry, signal, use)
        if to is not None:
            self.sent[txn] = Sent(to)

    def untrack(self, txn: int, signal: Signal) -> None:
        self.transactions.pop(txn, None)
        self.sent.pop(txn, None)


class Invite:
    call_id = "call"


class InDialog:
    id = ("call", "a", "b")

    def next_hop(self) -> Any:
        class Hop:
            host, port = A

        return Hop()


class Held:
    """An entry as far as a detour looks at it."""

    def __init__(self, signal: Signal) -> None:
        self.signals = {signal.leg: signal}


class World:
    """A call with one leg, called through A."""

    def __init__(self, *proxies: Address) -> None:
        self.nodes, self.clock = Nodes(*proxies), Clock()
        self.hops, self.signalling = NextHop(self.nodes, direct=False, clock=self.clock), Signalling()
        self.hops.refresh()
        self.signal = Signal(1, False, "v1001-x", destination=A)
        self.signal.invite = cast(Any, Invite())
        self.signal.dialog = cast(Any, InDialog())
        self.entry = cast(Entry, Held(self.signal))
        self.detour = Detour(cast(Any, self.signalling), self.hops)

    def ask(self, txn: int, use: Use, to: Address = A) -> None:
        """A request leaves."""
        self.signalling.track(txn, self.entry, self.signal, use, to=to)

    def fail(self, txn: int, use: Use) -> bool:
        """ICMP says that nobody was there."""
        return self.detour.take(txn, self.entry, self.signal, use)

    def look(self, times: int = LOOKS_BYE) -> list[tuple[int, Address]]:
        """Time goes by; what was sent elsewhere meanwhile."""
        self.signalling.redirected.clear()
        for _ in range(times):
            self.detour.look()
        return list(self.signalling.redirected)


def test_an_invite_goes_through_the_other_proxy_and_fails_when_that_is_away_too() -> None:
    world = World(A, B)
    world.ask(1, Use.INVITE)
    assert world.fail(1, Use.INVITE)
    assert (world.signalling.prepared, world.signal.destination, world.signal.invite_txn) == ([B], B, 901)
    assert list(world.signalling.transactions) == [901]
    assert not world.fail(901, Use.INVITE)
    assert world.signalling.prepared == [B]


def test_a_re_invite_goes_through_the_other_proxy() -> None:
    world = World(A, B)
    world.signal.offer_sent = cast(Any, Invite())
    world.ask(1, Use.OFFER)
    assert world.fail(1, Use.OFFER)
    assert (world.signalling.prepared, world.signal.offer_txn) == ([B], 901)


def test_a_contact_that_is_no_proxy_has_failed() -> None:
    world = World(B)
    world.ask(1, Use.INVITE)
    assert not world.fail(1, Use.INVITE)
    assert world.signalling.prepared == []


async def test_a_bye_goes_through_the_other_proxy_at_once_and_else_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detour, "AGAIN_S", 0.0)
    world = World(A, B)
    world.ask(1, Use.BYE)
    assert world.fail(1, Use.BYE)
    assert world.signalling.byes == 1
    alone = World(A)
    for tries in range(1, detour.AGAIN_MOST + 1):
        alone.ask(tries, Use.BYE)
        assert alone.fail(tries, Use.BYE)
        await asyncio.sleep(0.001)
        assert alone.signalling.byes == tries
    alone.ask(99, Use.BYE)
    assert not alone.fail(99, Use.BYE)
    alone.signalling.untrack(99, alone.signal)
    alone.entry.signals.clear()  # a leg that is over sends nothing more
    alone.signal.detours = 0
    alone.ask(100, Use.BYE)
    assert alone.fail(100, Use.BYE)
    await asyncio.sleep(0.001)
    assert alone.signalling.byes == detour.AGAIN_MOST


def test_a_bye_that_a_proxy_does_not_answer_goes_through_the_other_one_and_back_when_that_is_silent_too() -> (
    None
):
    world = World(A, B)
    world.ask(1, Use.BYE)
    assert world.look(LOOKS_BYE - 1) == []
    assert world.look(1) == [(1, B)]
    assert not world.hops.alive(A), "what comes next takes the other one at once"
    assert world.look(LOOKS_MOST) == [], "a phone that answers nobody: the transaction has to end"
    world.ask(2, Use.BYE)
    assert world.look(LOOKS_BYE - 1) == []
    world.clock.now += AVOIDED_S
    assert world.look(1) == [(2, B)]
    world.nodes.addresses = (A,)
    world.hops.refresh()
    assert world.look(1) == [], "A was silent a moment ago"
    world.clock.now += AVOIDED_S
    assert world.look(1) == [(2, A)], "B has gone: back"


@pytest.mark.parametrize("use", [Use.INVITE, Use.OFFER])
def test_any_other_request_waits_until_its_proxy_has_left_the_directory(use: Use) -> None:
    world = World(A, B)
    world.ask(1, use)
    assert world.look() == [], "A may only be slow: the phone would be asked twice"
    world.nodes.addresses = (B,)
    world.hops.refresh()
    assert world.look(1) == [(1, B)]
    assert world.signal.destination == (B if use is Use.INVITE else A)


def test_a_request_that_was_answered_or_has_nowhere_else_to_go_stays() -> None:
    world = World(A, B)
    world.ask(1, Use.BYE)
    world.signalling.answered.add(1)
    assert world.look() == []
    assert world.signalling.sent == {}, "it is not looked at any more"
    alone = World(A)
    alone.ask(1, Use.BYE)
    assert alone.look(LOOKS_MOST) == []
    assert list(alone.signalling.sent) == [1]
    assert alone.look(1) == []
    assert alone.signalling.sent == {}, "32 s: its transaction has ended"


def test_a_phone_that_is_called_directly_is_not_a_silent_proxy() -> None:
    world = World(B)
    world.ask(1, Use.BYE, to=A)
    assert world.look() == []


def test_who_was_a_proxy_is_known_for_a_while_and_nobody_is_not_believed() -> None:
    clock, nodes = Clock(), Nodes(A, B)
    hops = NextHop(nodes, direct=False, clock=clock)
    hops.refresh()
    nodes.addresses = (B,)
    hops.refresh()
    assert hops.is_proxy(A)  # its calls are not calls from an unknown source
    assert not hops.alive(A)
    nodes.addresses = ()
    hops.refresh()
    hops.refresh()
    assert hops.choose("call") == B
    clock.now += REMEMBERED_S
    assert not hops.is_proxy(A)


def test_a_proxy_that_is_not_there_is_passed_over_for_a_moment() -> None:
    clock = Clock()
    hops = NextHop(Nodes(A, B), direct=False, clock=clock)
    hops.refresh()
    hops.avoid(A)
    assert {hops.choose(f"call-{n}") for n in range(50)} == {B}
    hops.avoid(B)
    assert {hops.choose(f"call-{n}") for n in range(50)} == {A, B}  # better one in doubt than none
    clock.now += AVOIDED_S
    assert hops.alive(A)
