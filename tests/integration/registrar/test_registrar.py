"""REGISTER as the proxy hands it on, with Config, etcd and Redis: bindings, their end, and what is reported."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
import pytest
import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.config.v1 import config_service_pb2 as cpb
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject
from voice.dial_plan.v1.dial_plan_service_pb2 import ResolveRequest
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub
from voice.registrar.v1 import registrar_service_pb2 as pb
from voice.registrar.v1.registrar_service_pb2_grpc import RegistrarServiceStub

from mesh.errors import Reason, details
from mesh.identifiers import AGENT_SLOTS
from mesh.log import RedisRequestLog
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess
from tests.integration.servers import RedisServer

HOME, DESK = "sip:1001@10.0.0.1:5060", "sip:1001@10.0.0.2:5060"


def about(seconds: dict[str, int]) -> object:
    """Seconds left, on a machine that may be busy."""
    return pytest.approx(seconds, abs=5)


class Proxy:
    """What a proxy asks a Registrar."""

    def __init__(self, channel: grpc.aio.Channel, tenant: str) -> None:
        self.stub = RegistrarServiceStub(channel)
        self.tenant = tenant

    async def register(
        self, dn: str, cseq: int, *contacts: tuple[str, int], call_id: str = "c1", **more: object
    ) -> dict[str, int]:
        """Contact -> seconds left, of every binding afterwards."""
        updates = [pb.ContactUpdate(uri=uri, expires=expires, q=1000) for uri, expires in contacts]
        request = pb.RegisterRequest(
            tenant=self.tenant,
            dn=dn,
            call_id=call_id,
            cseq=cseq,
            contacts=updates,
            **more,  # type: ignore[arg-type]
        )
        answer = await self.stub.Register(request, timeout=5)
        now_us = time.time_ns() // 1000
        return {r.contact: round((r.expires_us - now_us) / 1e6) for r in answer.registrations}


@contextlib.asynccontextmanager
async def proxy_at(node: NodeProcess, tenant: str) -> AsyncIterator[Proxy]:
    async with grpc.aio.insecure_channel(
        node.target, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield Proxy(channel, tenant)


class Reports:
    """What the agent request log was told of a tenant, in order."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.inputs: list[AgentInput] = []

    def told(self, dn: str) -> list[tuple[bool, str]]:
        """(in service, cause) of a device, each report once however often it was sent."""
        mine = {i.input_id: i for i in self.inputs if i.subject == f"dn:{dn}"}
        return [(i.device.in_service, i.device.cause) for i in mine.values()]

    async def until(self, dn: str, count: int, seconds: float = 10.0) -> list[tuple[bool, str]]:
        await eventually(lambda: len(self.told(dn)) >= count, seconds)
        return self.told(dn)


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "not in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture
async def phones(client: Client, tenant: str) -> str:
    """The tenant with phones 1001 to 1040."""
    await client.load(tenant, [extension(str(number), password="pw") for number in range(1001, 1041)])
    queue = o.Dn(number="7000", type=o.DN_TYPE_ACD_QUEUE, switch="sip", enabled=True)
    await client.create(tenant, ConfigObject(dn=queue))
    return tenant


@contextlib.asynccontextmanager
async def followed(url: str, tenant: str) -> AsyncIterator[Reports]:
    """Follows the log of every slot."""
    connection = redis.asyncio.Redis.from_url(url)
    log = RedisRequestLog(connection)
    await log.start()
    reader = log.reader()
    for slot in range(AGENT_SLOTS):
        reader.add(slot, "0")
    found = Reports(tenant)

    async def read() -> None:
        async for batch in reader:
            found.inputs.extend(i for i in batch.inputs if i.tenant == tenant)

    task = asyncio.create_task(read())
    try:
        yield found
    finally:
        await reader.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.stop()
        await connection.aclose()


@pytest.fixture
async def reports(redis_server: RedisServer, phones: str) -> AsyncIterator[Reports]:
    """What is told of the tenant in the shared Redis."""
    async with followed(redis_server.url, phones) as found:
        yield found


async def in_config(client: Client, tenant: str, dn: str) -> list[str]:
    request = cpb.GetRegistrationsRequest(tenant=tenant, dn=dn)
    answer = await client.devices.GetRegistrations(request, timeout=5)
    return [binding.contact for binding in answer.registrations.registrations]


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.feature("RG-01", "RG-02", "CF-08")
async def test_register_refresh_several_contacts_expire_wildcard(
    start_registrar: Callable[..., NodeProcess], phones: str, client: Client, dial_plan_node: NodeProcess
) -> None:
    async with proxy_at(start_registrar(), phones) as proxy:
        assert await proxy.register("1001", 1, (HOME, 600)) == about({HOME: 600})
        assert await in_config(client, phones, "1001") == [HOME]
        assert await proxy.register("1001", 2, (HOME, 900)) == about({HOME: 900})
        assert await proxy.register("1001", 1, (DESK, 8), call_id="c2") == about({HOME: 900, DESK: 8})
        assert await in_config(client, phones, "1001") == [HOME, DESK]
        async with grpc.aio.insecure_channel(dial_plan_node.target) as channel:
            ask = ResolveRequest(tenant=phones, destination="1001", caller_dn="1002")
            found = await DialPlanServiceStub(channel).Resolve(ask, timeout=2)
            assert [contact.uri for contact in found.contacts] == [HOME, DESK]
        assert await proxy.register("1001", 9, call_id="query") == about({HOME: 900, DESK: 8})
        deadline = time.monotonic() + 25
        while DESK in await proxy.register("1001", 9, call_id="query"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert await proxy.register("1001", 3, wildcard=True) == {}
        assert await in_config(client, phones, "1001") == []
        bindings = await proxy.stub.GetBindings(pb.GetBindingsRequest(tenant=phones, dn="1001"), timeout=2)
        assert not bindings.registrations


async def test_what_is_refused_and_why(start_registrar: Callable[..., NodeProcess], phones: str) -> None:
    async with proxy_at(start_registrar(REGISTRAR_MIN_EXPIRES_S="60"), phones) as proxy:
        await proxy.register("1001", 5, (HOME, 600))
        brief = details(await refused(proxy.register("1001", 6, (HOME, 59))))
        assert (brief.reason, brief.metadata["min_expires"]) == (Reason.REASON_INVALID_ATTRIBUTE, "60")
        assert brief.violations[0][0] == "contacts[0].expires"
        assert (
            details(await refused(proxy.register("1001", 4, (HOME, 600)))).reason == Reason.REASON_WRONG_STATE
        )
        for dn in ("9999", "7000"):
            assert (
                details(await refused(proxy.register(dn, 1, (HOME, 600)))).reason == Reason.REASON_UNKNOWN_DN
            )
        many = [(f"sip:1001@10.0.1.{n}", 600) for n in range(10)]
        too_many = await refused(proxy.register("1001", 6, *many))
        assert details(too_many).reason == Reason.REASON_QUEUE_FULL
        wrong = details(
            await refused(proxy.register("1001", 6, ("tel:1001", 600), (HOME, 600), wildcard=True))
        )
        assert {field for field, _ in wrong.violations} == {"wildcard", "contacts[0].uri"}
        # The same REGISTER again, as after a lost answer.
        assert await proxy.register("1001", 5, (HOME, 600)) == about({HOME: 600})


@pytest.mark.feature("RG-03")
async def test_devices_are_reported_on_first_binding_and_on_the_last_one_gone(
    start_registrar: Callable[..., NodeProcess], phones: str, reports: Reports
) -> None:
    async with proxy_at(start_registrar(), phones) as proxy:
        await proxy.register("1001", 1, (HOME, 600))
        assert await reports.until("1001", 1) == [(True, "register")]
        await proxy.register("1001", 2, (HOME, 600))
        await proxy.register("1001", 1, (DESK, 600), call_id="c2")
        await proxy.register("1001", 3, (HOME, 0))
        await proxy.register("1001", 2, (DESK, 0), call_id="c2")
        assert await reports.until("1001", 2) == [(True, "register"), (False, "unregister")]
        started = time.time()
        await proxy.register("1002", 1, (HOME, 2))
        told = await reports.until("1002", 2)
        assert told == [(True, "register"), (False, "expired")]
        assert 2.0 <= time.time() - started < 12.0
        await proxy.register("1001", 1, (HOME, 600), call_id="c3")
        assert (await reports.until("1001", 3))[2] == (True, "register")
        assert len(reports.inputs) == 5, "nothing was reported twice"


async def test_nodes_at_once_keep_every_binding_and_report_once(
    start_registrar: Callable[..., NodeProcess], phones: str, reports: Reports, client: Client
) -> None:
    first, second = start_registrar(), start_registrar()
    async with proxy_at(first, phones) as one, proxy_at(second, phones) as other:
        contacts = [f"sip:1001@10.0.0.{n}" for n in range(8)]
        await asyncio.gather(
            *(
                (one, other)[n % 2].register("1001", 1, (uri, 600), call_id=f"c{n}")
                for n, uri in enumerate(contacts)
            )
        )
        assert sorted(await in_config(client, phones, "1001")) == contacts
        dns = [str(number) for number in range(1002, 1032)]
        await asyncio.gather(*((one, other)[n % 2].register(dn, 1, (HOME, 600)) for n, dn in enumerate(dns)))
        for dn in ("1001", *dns):
            assert await reports.until(dn, 1) == [(True, "register")]
        assert len(reports.inputs) == 31


async def test_a_device_goes_out_at_its_time_though_its_registrar_was_killed(
    start_registrar: Callable[..., NodeProcess], phones: str, reports: Reports
) -> None:
    first, second = start_registrar(), start_registrar()
    dns = [str(number) for number in range(1001, 1021)]
    async with proxy_at(first, phones) as proxy:
        await asyncio.gather(*(proxy.register(dn, 1, (HOME, 6)) for dn in dns))
        ends = time.time() + 6
        for dn in dns:
            await reports.until(dn, 1)
    first.kill()
    async with proxy_at(second, phones) as proxy:
        # Half of them are refreshed through the survivor: no false report about those.
        await asyncio.gather(*(proxy.register(dn, 2, (HOME, 600)) for dn in dns[:10]))
        for dn in dns[10:]:
            assert (await reports.until(dn, 2, 15))[1] == (False, "expired")
            assert time.time() >= ends - 1
        assert all(reports.told(dn) == [(True, "register")] for dn in dns[:10])


@pytest.mark.feature("RG-06")
async def test_a_registrar_killed_mid_refresh_reports_nobody_out_of_service(
    start_registrar: Callable[..., NodeProcess], phones: str, reports: Reports, client: Client
) -> None:
    """Forty phones refresh without pause while the node that serves half of them and owns half of the slots is
    killed; each goes on with the other node, as a proxy's retry does, under the same CSeq."""
    first, second = start_registrar(), start_registrar()
    dns = [str(number) for number in range(1001, 1041)]
    ends = asyncio.Event()
    refreshed: dict[str, int] = dict.fromkeys(dns, 0)

    async def phone(dn: str, ways: list[Proxy]) -> None:
        cseq = 0
        while not ends.is_set():
            cseq += 1
            while True:
                try:
                    assert HOME in await ways[0].register(dn, cseq, (HOME, 8))
                    break
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), (
                        error
                    )
                    ways.reverse()
            refreshed[dn] += 1
            await asyncio.sleep(0.5)

    async with proxy_at(first, phones) as one, proxy_at(second, phones) as other:
        tasks = [
            asyncio.create_task(phone(dn, [one, other] if n % 2 else [other, one]))
            for n, dn in enumerate(dns)
        ]
        for dn in dns:
            assert await reports.until(dn, 1) == [(True, "register")]
        first.kill()
        before = dict(refreshed)
        # Longer than any binding would live without a refresh, and than the lease of the dead node.
        await eventually(lambda: all(refreshed[dn] >= before[dn] + 6 for dn in dns), 60)
        await asyncio.sleep(9)
        ends.set()
        await asyncio.gather(*tasks)
        assert all(reports.told(dn) == [(True, "register")] for dn in dns), (
            "nobody was reported out of service"
        )
        for dn in dns:
            await other.register(dn, 10_000, wildcard=True)
        for dn in dns:
            assert await reports.until(dn, 2, 20) == [(True, "register"), (False, "unregister")]
    ids = collections.Counter(entry.input_id for entry in reports.inputs)
    assert len(ids) == 80


@pytest.mark.feature("RG-07")
async def test_a_device_goes_out_at_its_own_time_after_a_restart(
    start_registrar: Callable[..., NodeProcess], phones: str, reports: Reports
) -> None:
    node = start_registrar()
    async with proxy_at(node, phones) as proxy:
        await proxy.register("1001", 1, (HOME, 600))
        await proxy.register("1002", 1, (HOME, 20))
        ends = time.time() + 20
        await reports.until("1002", 1)
    assert node.terminate() == 0
    node.start()
    assert time.time() < ends, (
        "the machine is too busy for this test: the restart took longer than the binding"
    )
    assert (await reports.until("1002", 2, 30))[1] == (False, "expired")
    told = next(i.device for i in reports.inputs if i.subject == "dn:1002" and not i.device.in_service)
    assert -0.1 < told.time_us / 1e6 - ends < 1.5
    async with proxy_at(node, phones) as proxy:
        await proxy.register("1001", 2, wildcard=True)
        assert await reports.until("1001", 2) == [(True, "register"), (False, "unregister")]
    ids = [entry.input_id for entry in reports.inputs]
    assert len(ids) == len(set(ids)) == 4


async def test_registering_goes_on_without_redis_and_reports_follow(
    start_registrar: Callable[..., NodeProcess],
    own_redis: Callable[..., RedisServer],
    phones: str,
    client: Client,
) -> None:
    server = own_redis()
    node = start_registrar(REDIS=server.url)
    async with proxy_at(node, phones) as proxy:
        await proxy.register("1001", 1, (HOME, 600))
        async with followed(server.url, phones) as before:
            await before.until("1001", 1)
        server.kill()
        assert await proxy.register("1002", 1, (HOME, 600)) == about({HOME: 600})
        assert await proxy.register("1001", 2, wildcard=True) == {}
        assert await in_config(client, phones, "1002") == [HOME]
        # It comes back empty: the fences are raised again and what was not reported is.
        server.start()
        async with followed(server.url, phones) as after:
            assert await after.until("1002", 1, 30) == [(True, "register")]
            # Before it, perhaps, the first report once more: Redis may have gone before it was written as made.
            await eventually(lambda: after.told("1001")[-1:] == [(False, "unregister")], 30)
            await proxy.register("1003", 1, (HOME, 600))
            assert await after.until("1003", 1, 30) == [(True, "register")]
