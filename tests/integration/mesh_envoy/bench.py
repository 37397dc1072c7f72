"""A piece of mesh for tests: etcd, the control plane, sidecars, and small services in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.channels import SERVER_OPTIONS
from mesh.envoy.authorization import EDGE, WATCHMAN
from mesh.etcd import Etcd
from mesh.identity import tokens
from mesh.local import ports, run_dir
from mesh.local.commands import Commands
from mesh.local.identities import Identities
from mesh.local.layout import Instance, Layout
from mesh.local.process import Command, ManagedProcess
from mesh.local.readiness import answers

REGION = "test"
DEADLINE_S = 20.0
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def until(condition: Callable[[], Awaitable[bool]], timeout: float = DEADLINE_S) -> None:
    """Polls until the condition holds; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if await condition():
            return
        assert time.monotonic() < deadline, f"not so within {timeout} s: {condition}"
        await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Served:
    """A call that reached a service."""

    path: str
    metadata: Mapping[str, str]


class Echo(grpc.GenericRpcHandler):
    """A service that answers every unary method of every contract with an empty message, and says its name."""

    def __init__(self, name: str, fault: Callable[[], Awaitable[grpc.StatusCode]] | None = None) -> None:
        """`fault` is asked at each call for the status to answer."""
        self.name = name
        self.fault = fault
        self.calls: list[Served] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Finds a method: any."""
        metadata = {str(key): str(value) for key, value in details.invocation_metadata}
        served = Served(details.method, metadata)

        async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            self.calls.append(served)
            code = await self.fault() if self.fault else grpc.StatusCode.OK
            if (
                code is not grpc.StatusCode.OK
            ):  # without headers first: what has begun to be answered is not retried
                await context.abort(code, f"{self.name} was told so")
            await context.send_initial_metadata((("served-by", self.name),))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


class Bench:
    """Everything of one test, on a network of its own."""

    def __init__(
        self,
        folder: Path,
        counts: Mapping[str, int],
        *,
        engines: int = 1,
        edge: bool = False,
        edge_limits: tuple[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self._edge = edge
        self._edge_limits = edge_limits
        self._counts = counts
        self._engines = engines
        self.processes: dict[str, ManagedProcess] = {}
        self.servers: dict[str, grpc.aio.Server] = {}
        self._open: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        """etcd, control plane, a sidecar for each instance."""
        self._net = ports.take_net(None)
        sockets = run_dir.prepare(self.folder)
        self.layout = Layout(self._net.net, sockets, self._counts, self._engines)
        hosts = {EDGE: [self.layout.infrastructure(5)], WATCHMAN: []}
        hosts.update(
            {i.service: [x.ip for x in self.layout.instances(i.service)] for i in self.layout.instances()}
        )
        self.identities = Identities(self.folder / "identity", hosts)
        self.identities.write()
        self.commands = Commands(self.layout, self.folder, REGION, "info", {})
        self.etcd = Etcd(self.layout.etcd)
        for member in self.commands.etcd():
            await self.spawn(member)
        await self.spawn(self.commands.xds())
        for instance in self.layout.instances():
            await self.spawn(self.commands.sidecar(instance))
        if self._edge:
            node = self.commands.edge_node()
            if self._edge_limits:
                node = replace(node, tenant_rate=self._edge_limits[0], tenant_burst=self._edge_limits[1])
            await self.spawn(self.commands.edge(node))
            await until(lambda: answers(self.layout.edge))
        for instance in self.layout.instances():
            await until(partial(self.listening, instance))

    async def listening(self, instance: Instance) -> bool:
        """Whether its sidecar has its configuration."""
        ready = [await answers(node.address) for node in instance.nodes]
        return all(ready) and _exists(instance.egress)

    async def spawn(self, command: Command) -> ManagedProcess:
        """Starts a process."""
        process = ManagedProcess(
            command, self.folder / "logs" / f"{command.name}.log", lambda line: None, print
        )
        self.processes[command.name] = process
        await process.start()
        return process

    async def stop(self) -> None:
        """Ends everything."""
        for channel in self._open:
            await channel.close()
        for server in self.servers.values():
            await server.stop(None)
        await asyncio.gather(*(process.finish(2.0) for process in self.processes.values()))
        await self.etcd.close()
        run_dir.clear(self.folder, self.layout.sockets)
        self._net.release()

    def instance(self, name: str) -> Instance:
        """An instance by its process name."""
        return next(i for i in self.layout.instances() if i.name == name)

    async def serve(self, name: str, service: Echo, engine: int = 0) -> str:
        """Serves on the node's socket and puts its record; gives the incarnation."""
        node = self.instance(name).nodes[engine]
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{node.listen}")
        await server.start()
        self.servers[node.node] = server
        return await self.announce(name, engine=engine)

    async def announce(
        self,
        name: str,
        *,
        engine: int = 0,
        incarnation: str = "",
        state: NodeState.ValueType = NodeState.NODE_STATE_SERVING,
        capacity: int = 10,
    ) -> str:
        """Writes the node's record."""
        instance = self.instance(name)
        node = instance.nodes[engine]
        incarnation = incarnation or f"{node.node}.00000001"
        record = NodeRecord(
            node=node.node,
            incarnation=incarnation,
            service=instance.service,
            address=node.address,
            capacity=capacity,
            state=state,
        )
        await self.etcd.put(self.key(instance.service, incarnation), record.SerializeToString())
        return incarnation

    async def withdraw(self, service: str, incarnation: str) -> None:
        """Deletes a record, as the end of a lease does."""
        await self.etcd.delete(self.key(service, incarnation))

    @staticmethod
    def key(service: str, incarnation: str) -> str:
        """Where a record stands."""
        return f"/voicemesh/{REGION}/{service}/nodes/{incarnation}"

    def egress(self, name: str) -> grpc.aio.Channel:
        """The channel of a service instance to its sidecar."""
        return self._keep(grpc.aio.insecure_channel(f"unix:{self.instance(name).egress}", options=OPTIONS))

    def mutual(self, address: str, identity: str) -> grpc.aio.Channel:
        """A channel straight to an ingress with the certificate of `identity`."""
        folder = self.identities.folder(identity)
        credentials = grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(),
            (folder / "key.pem").read_bytes(),
            (folder / "cert.pem").read_bytes(),
        )
        return self._keep(grpc.aio.secure_channel(address, credentials, OPTIONS))

    def outside(self) -> grpc.aio.Channel:
        """A client's channel to the edge."""
        credentials = grpc.ssl_channel_credentials(self.identities.ca_file.read_bytes())
        return self._keep(grpc.aio.secure_channel(self.layout.edge, credentials, OPTIONS))

    def bearer(self, tenant: str, *scopes: str, subject: str = "test") -> tuple[str, str]:
        """The metadata of a token."""
        key = self.identities.signing_key
        token = tokens.issue(key, subject=subject, tenant=tenant, scopes=scopes, now=time.time())
        return ("authorization", f"Bearer {token}")

    def plain(self, address: str) -> grpc.aio.Channel:
        """A channel without TLS."""
        return self._keep(grpc.aio.insecure_channel(address, options=OPTIONS))

    def _keep(self, channel: grpc.aio.Channel) -> grpc.aio.Channel:
        self._open.append(channel)
        return channel

    async def admin(self, address: str, path: str) -> str:
        """An answer of an Envoy's admin interface."""

        def ask() -> str:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return str(answer.read().decode())

        return await asyncio.to_thread(ask)

    async def rejected(self) -> list[str]:
        """Configuration that any Envoy refused: lines of its statistics."""
        admins = [instance.admin for instance in self.layout.instances()]
        admins += [self.layout.edge_admin] if self._edge else []
        found = []
        for admin in admins:
            lines = (await self.admin(admin, "/stats?filter=update_rejected&usedonly")).splitlines()
            found += [f"{admin} {line}" for line in lines if line and not line.endswith(": 0")]
        return found

    async def admin_json(self, address: str, path: str) -> Any:
        """The same, parsed."""
        return json.loads(await self.admin(address, path))


def _exists(path: str) -> bool:
    return Path(path).exists()


@contextlib.asynccontextmanager
async def bench(
    folder: Path,
    *,
    engines: int = 1,
    edge: bool = False,
    edge_limits: tuple[int, int] | None = None,
    **counts: int,
) -> AsyncIterator[Bench]:
    """A piece of mesh with those services' sidecars."""
    mesh = Bench(folder, counts, engines=engines, edge=edge, edge_limits=edge_limits)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.stop()


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    code: grpc.StatusCode
    served_by: str = ""
    reason: str = ""
    details: str = ""


async def call(
    channel: grpc.aio.Channel, path: str, *metadata: tuple[str, str], timeout: float = 5.0
) -> Answer:
    """Calls a unary method with an empty request and tells what happened."""
    method: Any = channel.unary_unary(path)
    running = method(b"", metadata=metadata, timeout=timeout, wait_for_ready=True)
    try:
        await running
    except grpc.aio.AioRpcError as error:
        found = {**dict(error.initial_metadata() or ()), **dict(error.trailing_metadata() or ())}
        reason, server = str(found.get("x-voicemesh-reason", "")), str(found.get("served-by", ""))
        return Answer(error.code(), server, reason, str(error.details()))
    headers = dict(await running.initial_metadata())
    return Answer(grpc.StatusCode.OK, served_by=str(headers.get("served-by", "")))
