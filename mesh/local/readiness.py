"""Whether a mesh is ready: every node SERVING in etcd, and its health asked through its sidecar with mutual
TLS."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from voice.mesh.v1 import node_service_pb2, node_service_pb2_grpc
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd, EtcdError
from mesh.local.layout import Instance, Node

CHECK_TIMEOUT_S = 1.0


async def answers(address: str) -> bool:
    """Whether something accepts TCP connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CHECK_TIMEOUT_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def reaches(admin: str, services: Iterable[str]) -> bool:
    """Whether the Envoy with that admin interface has a healthy node of each service."""
    try:
        clusters = json.loads(await asyncio.to_thread(_get, f"http://{admin}/clusters?format=json"))
    except OSError:
        return False
    healthy = {
        cluster["name"]
        for cluster in clusters["cluster_statuses"]
        if any(
            host["health_status"].get("eds_health_status", "HEALTHY") == "HEALTHY"
            for host in cluster.get("host_statuses", [])
        )
    }
    return healthy.issuperset(services)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=CHECK_TIMEOUT_S) as answer:
        return str(answer.read().decode())


class Readiness:
    """Asks etcd and the sidecars until nobody is missing."""

    def __init__(self, etcd: Etcd, region: str, identity: Path) -> None:
        """`identity` is the folder of the watchman's certificate."""
        self._etcd = etcd
        self._region = region
        self._credentials = grpc.ssl_channel_credentials(
            (identity / "ca.pem").read_bytes(),
            (identity / "key.pem").read_bytes(),
            (identity / "cert.pem").read_bytes(),
        )
        self._healthy: set[str] = set()

    async def missing(self, instances: Iterable[Instance]) -> dict[str, str]:
        """Node id -> why it is not ready yet. Empty means ready."""
        wanted = {node.node: (node, instance.service) for instance in instances for node in instance.nodes}
        states = await self._states({service for _, service in wanted.values()})
        problems: dict[str, str] = {}
        for name, state in ((name, states.get(name)) for name in wanted):
            if state is None:
                problems[name] = "has not joined"
            elif state != NodeState.NODE_STATE_SERVING:
                problems[name] = NodeState.Name(state).removeprefix("NODE_STATE_").lower().replace("_", " ")
        serving = [node for name, (node, _) in wanted.items() if name not in problems]
        found = await asyncio.gather(*(self._health(node) for node in serving))
        problems.update({node.node: problem for node, problem in zip(serving, found, strict=True) if problem})
        return problems

    async def dependencies(self, node: Node) -> str:
        """What a node that has joined waits for, as it says itself; empty when it does not answer."""
        async with self._channel(node) as channel:
            stub = node_service_pb2_grpc.NodeServiceStub(channel)
            try:
                answer = await stub.GetNode(node_service_pb2.GetNodeRequest(), timeout=CHECK_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return ""
        return ", ".join(f"{one.name} ({one.problem})" for one in answer.dependencies if not one.up)

    def forget(self) -> None:
        """Asks every node for its health again."""
        self._healthy.clear()

    async def _states(self, services: Iterable[str]) -> dict[str, NodeState.ValueType]:
        states: dict[str, NodeState.ValueType] = {}
        for service in services:
            try:
                snapshot = await self._etcd.get_prefix(f"/voicemesh/{self._region}/{service}/nodes/")
            except EtcdError:
                continue
            for item in snapshot.items:
                record = NodeRecord.FromString(item.value)
                if states.get(record.node) != NodeState.NODE_STATE_SERVING:
                    states[record.node] = record.state
        return states

    async def _health(self, node: Node) -> str:
        if node.node in self._healthy:
            return ""
        async with self._channel(node) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(
                    health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_S, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                return f"no answer through its sidecar: {error.code().name}"
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return "says it is not healthy"
        self._healthy.add(node.node)
        return ""

    def _channel(self, node: Node) -> grpc.aio.Channel:
        options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(node.address, self._credentials, options)
