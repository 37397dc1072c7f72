"""A BYE to a phone reaches the phone, whatever becomes of proxies meanwhile: else the phone's call never ends."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.integration.servers import loopback
from tests.integration.sip_proxy.conftest import World
from tests.integration.sip_proxy.sip_peers import Address, FakeNode

C = "sip_cluster-2"
SLOT = 0x2A
SLOTS = 1024
BURST = 10
"""BYEs a millisecond."""


@dataclass(eq=False)
class Releasing(FakeNode):
    """A SIP node that ends calls with a phone, again and again; what it is answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        super().datagram_received(data, addr)
        if data.startswith(b"SIP/2.0 ") and b"BYE" in data:
            self.statuses[int(data[8:11])] += 1

    async def release(self, phone: FakeNode, proxy: str, route: str = "", count: int = 0) -> None:
        """So many BYEs, each of a call of its own; 0: until cancelled. `route`: the proxy that the calls began with."""
        for number in range(count) if count else itertools.count():
            lines = [
                f"BYE sip:1901@{phone.host}:5060 SIP/2.0",
                f"Via: SIP/2.0/UDP {self.host}:5060;branch=z9hG4bK-{next(self.numbers)}",
                "Max-Forwards: 70",
                f"Route: <sip:{route or proxy}:5060;lr;vs={SLOT:x};vd=phone>",
                f"From: <sip:8000@{self.host}>;tag=v{SLOT:x}-node{number}",
                f"To: <sip:1901@{phone.host}>;tag=phone{number}",
                f"Call-ID: release-{number}",
                "CSeq: 2 BYE",
                "Content-Length: 0",
                "",
                "",
            ]
            self.transport.sendto("\r\n".join(lines).encode(), (proxy, 5060))
            if number % BURST == 0:
                await asyncio.sleep(0.001)


async def told(world: World, phone: FakeNode, byes: int) -> None:
    """Waits until so many BYEs have reached the phone in all."""
    await world.until(lambda: phone.count("BYE") >= byes)


@pytest.mark.feature("SP-08")
async def test_a_bye_to_a_phone_reaches_the_phone_while_the_proxy_starts(world: World) -> None:
    node, phone = Releasing(loopback()), FakeNode(loopback())
    world.nodes[C] = node
    await node.open()
    await phone.open()
    try:
        await world.announce(C)
        for slot in range(SLOTS):
            await world.claim(slot, C)
        for _ in range(3):
            world.process.kill()
            load = asyncio.create_task(node.release(phone, world.host))
            await asyncio.to_thread(world.process.start)
            await told(world, phone, phone.count("BYE") + 50)
            load.cancel()
        assert node.count("BYE") == 0, "it was given its own BYE"
        assert set(node.statuses) == {200}
    finally:
        phone.close()


@pytest.mark.feature("SP-08")
async def test_a_bye_of_a_call_that_began_with_another_proxy_reaches_the_phone_when_that_has_gone(
    world: World,
) -> None:
    node, phone, other = Releasing(loopback()), FakeNode(loopback()), FakeNode(loopback())
    world.nodes[C] = node
    for peer in (node, phone, other):
        await peer.open()
    try:
        await world.announce(C)
        await world.claim(SLOT, C)
        await world.until_metric("active_sip_nodes", 3)
        await world.announce_proxy("sip_proxy-7", f"{other.host}:5060")
        for byes, gone in ((20, False), (40, True)):
            if gone:
                await world.vanish_proxy("sip_proxy-7")
            await asyncio.sleep(1.0)  # until the watch has told
            await node.release(phone, world.host, other.host, 20)
            await told(world, phone, byes)
        await world.until(lambda: node.statuses[200] == 40)
        assert phone.count("BYE") == 40
        assert set(node.statuses) == {200}
        assert other.count("BYE") == 0, "nobody is there any more"
        assert node.count("BYE") == 0
    finally:
        phone.close()
        other.close()
