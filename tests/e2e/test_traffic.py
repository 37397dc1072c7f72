"""What crosses the wire while a call is routed: captured from the loopback interface, told by its first bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import defaultdict

import pytest

from tests.e2e.platform import Desk, Platform, events_of, password

ETH_P_ALL = 3
TCP, UDP = 6, 17
SIP_STARTS = (b"SIP/2.0 ", b"INVITE ", b"ACK ", b"BYE ", b"CANCEL ", b"OPTIONS ", b"REGISTER", b"NOTIFY ")


class Capture:
    """First bytes that each side of each connection on the loopback interface sent, for one second octet."""

    def __init__(self, net: int) -> None:
        self._net = net
        self.tcp: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        """Server address -> first bytes that clients sent to it."""
        self.udp: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        self._known: set[tuple[bytes, bytes]] = set()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops."""
        self._open = False
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while self._open:
            try:
                frame = self._socket.recv(65535)
            except TimeoutError:
                continue
            if frame[12:14] == b"\x08\x00" and frame[14 + 16] == 127 and frame[14 + 17] == self._net:
                self._packet(frame[14:])

    def _packet(self, ip: bytes) -> None:
        header = (ip[0] & 15) * 4
        source, target, rest = ip[12:16], ip[16:20], ip[header:]
        source_port, target_port = struct.unpack("!HH", rest[:4])
        if ip[9] == UDP:
            self.udp[socket.inet_ntoa(target), target_port].add(rest[8:16])
        elif ip[9] == TCP:
            data = rest[(rest[12] >> 4) * 4 : struct.unpack("!H", ip[2:4])[0] - header]
            # The side that opened the connection speaks first in every protocol here, from an ephemeral port.
            key = source + rest[:2], target + rest[2:4]
            if data and key not in self._known and source_port >= 30000:
                self._known.add(key)
                self.tcp[socket.inet_ntoa(target), target_port].add(data[:8])


def is_tls(start: bytes) -> bool:
    """A TLS record (RFC 8446 §5.1)."""
    return start[0] in range(0x14, 0x18) and start[1:2] in (b"\x03", b"")


def is_http2(start: bytes) -> bool:
    """The preface, or a frame: 24 bits of length, a type up to CONTINUATION, flags (RFC 9113 §4.1)."""
    return start.startswith(b"PRI * HT") or (start[0] == 0 and start[3] <= 9)


@pytest.mark.feature("XC-01")
async def test_services_talk_only_grpc_sip_redis_and_etcd(platform: Platform) -> None:
    mesh = platform.mesh
    agent, caller = platform.phone("1003", host=83), platform.caller(host=83)
    capture = Capture(int(platform.net))
    try:
        await platform.register(agent)
        async with platform.edge() as channel, events_of(platform, channel) as events:
            desk = Desk(platform, channel, "t1", "1003")
            await desk.login()
            await desk.ready()
            leg = caller.call("8000")
            await leg.until(leg.established, 10)
            await asyncio.sleep(0.5)
            await caller.hang_up(leg)
            await events.first("CALL_DELETED")
            await desk.logout()
    finally:
        capture.close()
    ingress = {node.address for i in mesh.instances() for node in i.nodes}
    for (host, port), starts in capture.tcp.items():
        address = f"{host}:{port}"
        if address in ingress or address == mesh.edge:
            assert all(is_tls(start) for start in starts), f"{address}: not TLS: {starts}"
        elif address == mesh.etcd:
            assert all(is_http2(start) for start in starts), f"{address}: not gRPC: {starts}"
        elif address in mesh.redis:
            assert all(start[:1] in (b"*", b"P") for start in starts), f"{address}: not Redis: {starts}"
        elif host == platform.ip(240):
            assert all(start.startswith(b"GET /") for start in starts)  # applications are fetched by HTTP
    sip = {address for i in mesh.instances() for address in i.sip}
    seen = {f"{host}:{port}" for host, port in capture.udp}
    assert seen & sip
    for (host, port), starts in capture.udp.items():
        assert all(start.startswith(SIP_STARTS) for start in starts), (host, port, starts)
    await agent.register(password("1003", "t1"), expires=0)
    agent.close()
    caller.close()
