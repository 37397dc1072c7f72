"""A request that met a proxy which is not there goes through another one; a BYE is never given up for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from services.sip_cluster import detour
from services.sip_cluster import effects as do
from services.sip_cluster.detour import Detour
from services.sip_cluster.entry import Entry, Signal
from services.sip_cluster.next_hop import AVOIDED_S, REMEMBERED_S, Address, NextHop, host_port
from services.sip_cluster.signalling import Use

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


class Sent:
    """What signalling was asked for."""

    def __init__(self) -> None:
        self.prepared: list[Address] = []
        self.byes = 0
        self.tracked: list[int] = []
        self.endpoint = self

    def send_prepared(self, request: object, destination: Address) -> int:
        self.prepared.append(destination)
        return 900 + len(self.prepared)

    def bye(self, entry: Entry, effect: do.SendBye) -> None:
        self.byes += 1

    def track(self, txn: int, entry: Entry, signal: Signal, use: Use) -> None:
        self.tracked.append(txn)

    def untrack(self, txn: int, signal: Signal) -> None:
        self.tracked = [one for one in self.tracked if one != txn]


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


Made = tuple[Detour, Sent, Signal, Entry, NextHop]


@pytest.fixture
def made() -> Callable[..., Made]:
    def make(*proxies: Address) -> Made:
        hops, sent = NextHop(Nodes(*proxies), direct=False, clock=Clock()), Sent()
        hops.refresh()
        signal = Signal(1, False, "v1001-x", destination=A)
        signal.invite = cast(Any, Invite())
        signal.dialog = cast(Any, InDialog())
        return Detour(cast(Any, sent), hops), sent, signal, cast(Entry, Held(signal)), hops

    return make


def test_an_invite_goes_through_the_other_proxy_and_fails_when_that_is_away_too(
    made: Callable[..., Made],
) -> None:
    detour_, sent, signal, entry, _ = made(A, B)
    assert detour_.take(1, entry, signal, Use.INVITE)
    assert (sent.prepared, signal.destination, signal.invite_txn, sent.tracked) == ([B], B, 901, [901])
    assert not detour_.take(901, entry, signal, Use.INVITE)
    assert sent.prepared == [B]


def test_a_re_invite_goes_through_the_other_proxy(made: Callable[..., Made]) -> None:
    detour_, sent, signal, entry, _ = made(A, B)
    signal.offer_sent = cast(Any, Invite())
    assert detour_.take(1, entry, signal, Use.OFFER)
    assert (sent.prepared, signal.offer_txn) == ([B], 901)


def test_a_contact_that_is_no_proxy_has_failed(made: Callable[..., Made]) -> None:
    detour_, sent, signal, entry, _ = made(B)
    assert not detour_.take(1, entry, signal, Use.INVITE)
    assert sent.prepared == []


async def test_a_bye_goes_through_the_other_proxy_at_once_and_else_again_and_again(
    made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detour, "AGAIN_S", 0.0)
    detour_, sent, signal, entry, _ = made(A, B)
    assert detour_.take(1, entry, signal, Use.BYE)
    assert sent.byes == 1
    alone, sent, signal, entry, _ = made(A)
    for tries in range(1, detour.AGAIN_MOST + 1):
        assert alone.take(tries, entry, signal, Use.BYE)
        await asyncio.sleep(0.001)
        assert sent.byes == tries
    assert not alone.take(99, entry, signal, Use.BYE)
    entry.signals.clear()  # a leg that is over sends nothing more
    signal.detours = 0
    assert alone.take(1, entry, signal, Use.BYE)
    await asyncio.sleep(0.001)
    assert sent.byes == detour.AGAIN_MOST


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
