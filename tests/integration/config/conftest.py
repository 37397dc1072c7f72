"""Config nodes and their clients."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import grpc.aio
import pytest
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub, DeviceServiceStub
from voice.config.v1.object_pb2 import ConfigObject, Dn, Switch, Tenant

from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer

SECRET = "ab" * 32


class Client:
    """Both contracts of Config at one node, with short ways to say common things."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.config = ConfigServiceStub(channel)
        self.devices = DeviceServiceStub(channel)

    async def create(self, tenant: str, message: ConfigObject, request_id: str = "") -> ConfigObject:
        request = pb.CreateObjectRequest(tenant=tenant, object=message, request_id=request_id)
        return (await self.config.CreateObject(request, timeout=5)).object

    async def update(self, tenant: str, message: ConfigObject) -> ConfigObject:
        request = pb.UpdateObjectRequest(tenant=tenant, object=message)
        return (await self.config.UpdateObject(request, timeout=5)).object

    async def get(self, tenant: str, type: int, **key: object) -> ConfigObject:
        request = pb.GetObjectRequest(tenant=tenant, type=type, **key)  # type: ignore[arg-type]
        return (await self.config.GetObject(request, timeout=5)).object

    async def delete(self, tenant: str, type: int, dbid: int, revision: int = 0) -> None:
        request = pb.DeleteObjectRequest(tenant=tenant, type=type, dbid=dbid, revision=revision)  # type: ignore[arg-type]
        await self.config.DeleteObject(request, timeout=5)

    async def load(
        self, tenant: str, objects: list[ConfigObject], timeout: float = 60
    ) -> pb.ImportObjectsResponse:
        async def parts() -> AsyncIterator[pb.ImportObjectsRequest]:
            for at in range(0, len(objects), 500):
                yield pb.ImportObjectsRequest(tenant=tenant, objects=objects[at : at + 500])

        return await self.config.ImportObjects(parts(), timeout=timeout)

    async def export(self, tenant: str) -> list[ConfigObject]:
        call = self.config.ExportObjects(pb.ExportObjectsRequest(tenant=tenant), timeout=60)
        return [message async for part in call for message in part.objects]

    async def snapshot(self, tenant: str) -> tuple[list[pb.Change], int]:
        """The whole state and the revision to resume after."""
        call = self.config.Watch(pb.WatchRequest(tenant=tenant, registrations=True, logins=True))
        changes = list[pb.Change]()
        try:
            async for response in call:
                changes.extend(response.changes)
                if response.synced:
                    return changes, response.revision
        finally:
            call.cancel()
        raise AssertionError("the watch ended before it was synced")


@pytest.fixture(scope="package")
def config_region() -> str:
    """The region of the shared Config node."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(scope="package")
def start_config(etcd_server: EtcdServer, config_region: str) -> Iterator[Callable[..., NodeProcess]]:
    """Starts Config nodes; they share etcd, region and key unless told otherwise."""
    nodes: list[NodeProcess] = []
    numbers = itertools.count()

    def start(**variables: str) -> NodeProcess:
        settings = {
            "ETCD_CONFIG": etcd_server.endpoint,
            "REGION": config_region,
            "CONFIG_SECRET_KEYS": SECRET,
            "CONFIG_SCRYPT_LOG_N": "10",
            **variables,
        }
        node = NodeProcess("config", next(numbers), **settings)
        nodes.append(node)
        return node.start()

    try:
        yield start
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture(scope="package")
def config_node(start_config: Callable[..., NodeProcess]) -> NodeProcess:
    """A Config node for all tests of Config, without tenants at first; do not pause or stop it."""
    return start_config()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[NodeProcess], Client]]:
    """Makes clients of nodes."""
    channels: list[grpc.aio.Channel] = []

    def client(node: NodeProcess) -> Client:
        channel = grpc.aio.insecure_channel(node.target, options=[("grpc.use_local_subchannel_pool", 1)])
        channels.append(channel)
        return Client(channel)

    yield client
    for channel in channels:
        await channel.close()


@pytest.fixture
def client(config_node: NodeProcess, connect: Callable[[NodeProcess], Client]) -> Client:
    """A client of the shared node."""
    return connect(config_node)


@pytest.fixture
async def tenant(client: Client) -> str:
    """A new tenant with a switch "sip"."""
    name = f"t-{secrets.token_hex(4)}"
    await client.create(name, ConfigObject(tenant=Tenant(tenant_id=name, domains=[f"{name}.example"])))
    await client.create(name, ConfigObject(switch=Switch(name="sip", tserver_dbid=7)))
    return name


def extension(number: str, **fields: object) -> ConfigObject:
    """A phone."""
    return ConfigObject(dn=Dn(number=number, type=1, switch="sip", enabled=True, **fields))  # type: ignore[arg-type]
