"""A real proxy beside the shared Config node, with SIP nodes played by the test."""

from __future__ import annotations

import asyncio
import secrets
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState, SlotClaim

from mesh.etcd import Etcd
from tests.integration.config.conftest import config_node, config_region, start_config
from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer, loopback
from tests.integration.sip_proxy.sip_peers import Caller, FakeNode

__all__ = ["config_node", "config_region", "start_config"]

INTERVAL_S = 0.5
"""Between OPTIONS, seconds."""


@dataclass
class World:
    """The proxy, two SIP nodes, a caller; records and claims are put as nodes would put them."""

    process: NodeProcess
    etcd: Etcd
    region: str
    host: str
    metrics_port: int
    nodes: dict[str, FakeNode]
    caller: Caller

    async def announce(self, name: str, **fields: object) -> None:
        """Puts the record of a node."""
        record = NodeRecord(
            node=name,
            incarnation=f"{name}.00000001",
            service="sip_cluster",
            sip_address=f"{self.nodes[name].host}:5060",
            capacity=100,
            state=NodeState.NODE_STATE_SERVING,
        )
        record.MergeFrom(NodeRecord(**fields))  # type: ignore[arg-type]
        if fields.get("capacity") == 0:
            record.capacity = 0
        await self.etcd.put(self._key(name), record.SerializeToString())

    async def vanish(self, name: str) -> None:
        """The record of a node goes, as with its lease."""
        await self.etcd.delete(self._key(name))

    async def announce_proxy(self, name: str, address: str) -> None:
        """Puts the record of another proxy."""
        record = NodeRecord(
            node=name,
            incarnation=f"{name}.00000001",
            service="sip_proxy",
            sip_address=address,
            state=NodeState.NODE_STATE_SERVING,
        )
        await self.etcd.put(self._proxy_key(name), record.SerializeToString())

    async def vanish_proxy(self, name: str) -> None:
        """Its record goes, as with its lease."""
        await self.etcd.delete(self._proxy_key(name))

    def _proxy_key(self, name: str) -> str:
        return f"/voicemesh/{self.region}/sip_proxy/nodes/{name}.00000001"

    def _key(self, name: str) -> str:
        return f"/voicemesh/{self.region}/sip_cluster/nodes/{name}.00000001"

    async def claim(self, slot: int, name: str | None) -> None:
        """Gives a slot to a node, or to nobody."""
        key = f"/voicemesh/{self.region}/sip_cluster/slots/{slot}"
        if name is None:
            await self.etcd.delete(key)
        else:
            await self.etcd.put(key, SlotClaim(node=f"{name}.00000001").SerializeToString())

    def metric(self, name: str) -> float:
        """A metric of the proxy."""
        with urllib.request.urlopen(f"http://{self.host}:{self.metrics_port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"voicemesh_sip_proxy_{name} "):
                    return float(line.rpartition(" ")[2])
        raise LookupError(name)

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> float:
        """Seconds until the condition held."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, self.process.log()[-3000:]
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def until_metric(self, name: str, value: float, seconds: float = 10.0) -> float:
        """Seconds until a metric had a value."""
        started = time.monotonic()
        while (found := await asyncio.to_thread(self.metric, name)) != value:
            assert time.monotonic() - started < seconds, f"{name} is {found}"
            await asyncio.sleep(0.02)
        return time.monotonic() - started


@pytest.fixture
async def world(config_node: NodeProcess, etcd_server: EtcdServer) -> AsyncIterator[World]:
    """A serving proxy with nodes "sip_cluster-0" and "sip_cluster-1"."""
    host, region, etcd = loopback(), f"sp-{secrets.token_hex(4)}", Etcd(etcd_server.endpoint)
    process = NodeProcess(
        "sip_proxy",
        ETCD=etcd_server.endpoint,
        REGION=region,
        EGRESS=config_node.target,
        BIND_IP=host,
        METRICS_PORT="9100",
        SIP_ADDRESS=f"{host}:5060",
        SIP_PROXY_OPTIONS_INTERVAL=str(INTERVAL_S),
    )
    nodes = {f"sip_cluster-{number}": FakeNode(loopback()) for number in range(2)}
    caller = Caller(loopback(), (host, 5060))
    made = World(process, etcd, region, host, 9100, nodes, caller)
    try:
        for peer in (*nodes.values(), caller):
            await peer.open()
        for name in nodes:
            await made.announce(name)
        await asyncio.to_thread(process.start)
        await made.until_metric("active_sip_nodes", 2)
        yield made
    finally:
        process.kill()
        for peer in (*nodes.values(), caller):
            peer.close()
        await etcd.close()
