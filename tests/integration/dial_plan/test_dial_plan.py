"""The dial plan over gRPC, fed by a real Config process."""

from __future__ import annotations

import asyncio
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from voice.config.v1 import config_service_pb2 as cpb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject
from voice.dial_plan.v1 import dial_plan_service_pb2 as pb
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub

from mesh.errors import Reason, details
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess
from tests.integration.servers import loopback

if TYPE_CHECKING:
    from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceAsyncStub

EXT, RP, AGENT, OUT = (
    pb.DEVICE_TYPE_EXTENSION,
    pb.DEVICE_TYPE_ROUTE_POINT,
    pb.DEVICE_TYPE_AGENT,
    pb.DEVICE_TYPE_EXTERNAL,
)
VM, VIRTUAL = pb.DEVICE_TYPE_VOICEMAIL, pb.DEVICE_TYPE_VIRTUAL
NOWHERE, BARRED = Reason.REASON_UNKNOWN_DESTINATION, Reason.REASON_CALL_REJECTED

Ask = Callable[..., Awaitable[pb.ResolveResponse]]


def annex(**options: str) -> list[o.OptionSection]:
    named = [o.Option(name=name.replace("_", "-"), value=value) for name, value in options.items()]
    return [o.OptionSection(name="TServer", options=named)]


def dn(number: str, type: int, **fields: object) -> ConfigObject:
    return ConfigObject(dn=o.Dn(number=number, type=type, switch="sip", enabled=True, **fields))  # type: ignore[arg-type]


def rule(name: str, pattern: str, replacement: str = "", barred: bool = False) -> ConfigObject:
    made = o.DialRule(name=name, pattern=pattern, replacement=replacement, barred=barred)
    return ConfigObject(dial_rule=made)


async def eventually(ask: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> float:
    """Polls until it holds; gives the time it took."""
    started = time.monotonic()
    while not await ask():
        assert time.monotonic() - started < seconds, "not in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


def octet(tenant: str) -> int:
    """A part of an address that is the tenant's own."""
    return int(tenant[2:6], 16) % 250 + 1


@pytest.fixture
async def numbers(client: Client, tenant: str) -> str:
    """The tenant with numbers of every kind, in the US."""
    mine = await client.get(tenant, o.OBJECT_TYPE_TENANT, name=tenant)
    mine.tenant.country = "US"
    await client.update(tenant, mine)
    net = f"10.{octet(tenant)}.{int(tenant[6:8], 16)}"
    voicemail = dn("5555", 29)
    voicemail.options.extend(annex(service_type="voicemail"))
    await client.load(
        tenant,
        [
            *(extension(f"100{n}") for n in range(1, 6)),
            dn("8000", 4, route_point=o.RoutePointSettings(default_dns=["1001"])),
            dn("8005550100", 4),
            dn("8001", 22),
            dn("VQ1", 5),
            dn("7000", 3),
            voicemail,
            dn(
                "t-main",
                14,
                trunk=o.TrunkSettings(contact=f"{net}.1:5060", sources=[f"{net}.0/24"], priority=5),
            ),
            dn(
                "t-uk",
                14,
                trunk=o.TrunkSettings(contact=f"{net}.2:5060", prefix="+44", replace_prefix="0044"),
            ),
            rule("national", "9N.", "${DIGITS:1}"),
            rule("abroad", "9011.", "+${DIGITS:4}"),
            rule("emergency", "911", "911"),
            rule("three", "9XX", "1003"),
            rule("premium", "91900.", barred=True),
            rule("reception", "0", "1001"),
            rule("strip", "77XXXX", "${DIGITS:2}"),
            rule("cut", "66.", "${DIGITS:2:4}"),
            ConfigObject(agent_login=o.AgentLogin(code="A1", switch="sip")),
            ConfigObject(place=o.Place(name="desk", dns=["1001"])),
            ConfigObject(
                person=o.Person(
                    user_name="ada", employee_id="E1", is_agent=True, agent_logins=["A1"], place="desk"
                )
            ),
            ConfigObject(agent_group=o.AgentGroup(name="all", members=["ada"])),
        ],
    )
    return tenant


@pytest.fixture
async def ask(dial_plan: DialPlanServiceAsyncStub, numbers: str) -> Ask:
    """Resolves a destination for 1002 of the tenant, once the node knows the tenant's last object."""

    async def resolve(destination: str, **fields: object) -> pb.ResolveResponse:
        fields = {"tenant": numbers, "caller_dn": "1002", **fields}
        return await dial_plan.Resolve(pb.ResolveRequest(destination=destination, **fields), timeout=2)  # type: ignore[arg-type]

    async def known() -> bool:
        try:
            await resolve("ada", destination_is_agent=True)
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(known)
    return resolve


TABLE = [
    ("1001", EXT, "1001", "1001"),
    ("1005", EXT, "1005", "1005"),
    ("8000", RP, "8000", "8000"),
    ("8001", RP, "8001", "8001"),
    ("8005550100", RP, "8005550100", "8005550100"),
    ("VQ1", VIRTUAL, "VQ1", "VQ1"),
    ("7000", VIRTUAL, "7000", "7000"),
    ("5555", VM, "5555", "5555"),
    ("A1", AGENT, "", "A1"),
    ("ada", AGENT, "", "ada"),
    ("0", EXT, "1001", "1001"),
    ("911", OUT, "t-main", "911"),
    ("912", EXT, "1003", "1003"),
    ("900", EXT, "1003", "1003"),
    ("771004", EXT, "1004", "1004"),
    ("6610029999", EXT, "1002", "1002"),
    ("92125551234", OUT, "t-main", "+12125551234"),
    ("93125551234", OUT, "t-main", "+13125551234"),
    ("9011442079460000", OUT, "t-uk", "00442079460000"),
    ("901149301234567", OUT, "t-main", "+49301234567"),
    ("9011819012345678", OUT, "t-main", "+819012345678"),
    ("+442079460000", OUT, "t-uk", "00442079460000"),
    ("+12125551234", OUT, "t-main", "+12125551234"),
    ("+18005550100", OUT, "t-main", "+18005550100"),
    ("2125551234", OUT, "t-main", "+12125551234"),
    ("12125551234", OUT, "t-main", "+12125551234"),
    ("*72", OUT, "t-main", "*72"),
    ("9190012345", BARRED, "", ""),
    ("919001", BARRED, "", ""),
    ("nobody", NOWHERE, "", ""),
    ("t-main", NOWHERE, "", ""),
    ("1001;phone-context=x", NOWHERE, "", ""),
]


@pytest.mark.feature("DP-01", "DP-02")
async def test_a_table_of_numbers(ask: Ask) -> None:
    assert len(TABLE) >= 30
    for dialled, expected, device, number in TABLE:
        try:
            found = await ask(dialled)
        except grpc.aio.AioRpcError as error:
            assert details(error).reason == expected, dialled
            assert not device
        else:
            assert (found.type, found.dn, found.number) == (expected, device, number), dialled


@pytest.mark.feature("DP-01")
async def test_the_same_numbers_from_outside_stay_inside(ask: Ask, numbers: str) -> None:
    source = pb.Source(
        address=f"10.{octet(numbers)}.{int(numbers[6:8], 16)}.9:5060",
        domain="x.example",
        from_user="3125550000",
    )
    for dialled, type in (("8000", RP), ("+18005550100", RP), ("1001", EXT), ("ada", AGENT)):
        found = await ask(dialled, tenant="", caller_dn="", source=source)
        assert (found.tenant, found.type) == (numbers, type)
        assert (found.caller.trunk, found.caller.number, found.caller.dn) == ("t-main", "+13125550000", "")
    for dialled in ("92125551234", "+442079460000", "911"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(dialled, tenant="", caller_dn="", source=source)
        assert details(caught.value).reason == NOWHERE


async def register(
    client: Client, tenant: str, dn: str, revision: int, *bindings: tuple[str, int, float]
) -> int:
    """Stores bindings (contact, q, seconds)."""
    now_us = time.time_ns() // 1000
    messages = [
        r.Registration(contact=contact, q=q, expires_us=now_us + int(seconds * 1e6), path=["sip:edge;lr"])
        for contact, q, seconds in bindings
    ]
    wanted = cpb.DnRegistrations(dn=dn, registrations=messages, revision=revision)
    request = cpb.PutRegistrationsRequest(tenant=tenant, registrations=wanted)
    return (await client.devices.PutRegistrations(request, timeout=5)).revision


@pytest.mark.feature("DP-04")
async def test_contacts_of_a_device(client: Client, numbers: str, ask: Ask) -> None:
    async def uris() -> list[str]:
        return [contact.uri for contact in (await ask("1001")).contacts]

    assert await uris() == []
    revision = await register(client, numbers, "1001", 0, ("sip:1001@10.0.0.1", 500, 60))

    async def has(*wanted: str) -> bool:
        return await uris() == list(wanted)

    await eventually(lambda: has("sip:1001@10.0.0.1"))
    assert list((await ask("1001")).contacts[0].path) == ["sip:edge;lr"]
    # Two: both, the preferred one first; one of them ends by itself.
    revision = await register(
        client, numbers, "1001", revision, ("sip:1001@10.0.0.1", 500, 60), ("sip:1001@10.0.0.2", 900, 3)
    )
    await eventually(lambda: has("sip:1001@10.0.0.2", "sip:1001@10.0.0.1"))
    await eventually(lambda: has("sip:1001@10.0.0.1"))
    await register(client, numbers, "1001", revision)
    await eventually(lambda: has())


@pytest.mark.feature("DP-05", "CF-09")
async def test_the_agent_on_a_device(client: Client, numbers: str, ask: Ask) -> None:
    assert (await ask("1001")).agent_id == ""
    login = r.Login(agent_id="A1", dn="1001", since_us=1, session_id="s1")
    await client.devices.PutLogin(cpb.PutLoginRequest(tenant=numbers, login=login), timeout=5)

    async def on_device() -> bool:
        return (await ask("1001")).agent_id == "A1"

    await eventually(on_device)
    found = await ask("1001")
    assert (found.agent_user_name, found.place) == ("ada", "desk")
    reached = await ask("A1", destination_is_agent=True)
    assert (reached.type, reached.dn) == (AGENT, "1001")
    groups = await client.get(numbers, o.OBJECT_TYPE_AGENT_GROUP, name="all")
    assert found.agent_user_name in groups.agent_group.members
    await client.devices.DeleteLogin(cpb.DeleteLoginRequest(tenant=numbers, agent_id="A1"), timeout=5)

    async def off_device() -> bool:
        return (await ask("1001")).agent_id == ""

    await eventually(off_device)
    assert (await ask("A1", destination_is_agent=True)).dn == ""


@pytest.mark.feature("DP-06")
async def test_options_by_precedence(client: Client, numbers: str, ask: Ask) -> None:
    async def option(name: str) -> str:
        found = await ask("1001")
        return {pair.key: pair.string_value for pair in found.options.pairs}.get(f"TServer/{name}", "")

    async def change(type: int, options: list[o.OptionSection], **key: object) -> None:
        message = await client.get(numbers, type, **key)
        del message.options[:]
        message.options.extend(options)
        await client.update(numbers, message)

    async def shows(value: str) -> bool:
        return await option("which") == value

    application = ConfigObject(application=o.Application(name="tserver"), options=annex(which="application"))
    made = await client.create(numbers, application)
    switch = await client.get(numbers, o.OBJECT_TYPE_SWITCH, name="sip")
    switch.switch.tserver_dbid = made.dbid
    await client.update(numbers, switch)
    await eventually(lambda: shows("application"))
    await change(o.OBJECT_TYPE_DN, annex(which="device", no_answer_timeout="17"), number="1001")
    await eventually(lambda: shows("device"))
    login = r.Login(agent_id="A1", dn="1001", since_us=1, session_id="s1")
    await client.devices.PutLogin(cpb.PutLoginRequest(tenant=numbers, login=login), timeout=5)
    await change(o.OBJECT_TYPE_PERSON, annex(which="person"), user_name="ada")
    await eventually(lambda: shows("person"))
    code = await client.get(numbers, o.OBJECT_TYPE_AGENT_LOGIN, number="A1")
    code.agent_login.options.extend(annex(which="agent login", no_answer_overflow="1003"))
    await client.update(numbers, code)
    await eventually(lambda: shows("agent login"))
    found = await ask("1001")
    # What a stronger layer does not say, a weaker one does.
    assert (found.no_answer_timeout, found.overflow) == (17, "1003")


@pytest.mark.feature("DP-11")
async def test_a_changed_rule_counts_on_every_node_within_two_seconds(
    client: Client,
    numbers: str,
    ask: Ask,
    config_node: NodeProcess,
    start_dial_plan: Callable[..., NodeProcess],
) -> None:
    other = start_dial_plan(config_node)
    async with grpc.aio.insecure_channel(other.target) as channel:
        second = DialPlanServiceStub(channel)

        async def theirs(destination: str) -> str:
            request = pb.ResolveRequest(tenant=numbers, destination=destination, caller_dn="1002")
            return (await second.Resolve(request, timeout=2)).dn

        assert await theirs("0") == (await ask("0")).dn == "1001"
        found = await client.get(numbers, o.OBJECT_TYPE_DIAL_RULE, name="reception")
        found.dial_rule.replacement = "1004"
        await client.update(numbers, found)

        async def everywhere() -> bool:
            return (await ask("0")).dn == await theirs("0") == "1004"

        assert await eventually(everywhere) < 2.0
    other.kill()


async def test_tenants_by_source(dial_plan: DialPlanServiceAsyncStub, ask: Ask, numbers: str) -> None:
    async def tenant_of(**source: str) -> pb.IdentifyTenantResponse:
        request = pb.IdentifyTenantRequest(source=pb.Source(**source))
        return await dial_plan.IdentifyTenant(request, timeout=2)

    address = f"10.{octet(numbers)}.{int(numbers[6:8], 16)}.200:6000"
    by_trunk = await tenant_of(address=address, domain="whatever.example")
    assert (by_trunk.tenant, by_trunk.trunk) == (numbers, "t-main")
    by_domain = await tenant_of(address="203.0.113.1:5060", domain=f"{numbers}.Example")
    assert (by_domain.tenant, by_domain.trunk) == (numbers, "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tenant_of(address="203.0.113.1:5060", domain="nobody.example")
    assert details(caught.value).reason == Reason.REASON_UNKNOWN_TENANT


async def test_bad_questions_are_refused_by_field(dial_plan: DialPlanServiceAsyncStub) -> None:
    for request, field in (
        (pb.ResolveRequest(destination="1"), "tenant"),
        (pb.ResolveRequest(tenant="t1"), "destination"),
        (pb.ResolveRequest(tenant="t1", destination="1" * 256), "destination"),
        (pb.ResolveRequest(destination="1", source=pb.Source(from_user="x" * 256)), "source.from_user"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await dial_plan.Resolve(request, timeout=2)
        assert [name for name, _ in details(caught.value).violations] == [field]


@pytest.mark.feature("DP-13")
async def test_the_last_good_data_are_served_while_config_is_away(
    client: Client,
    numbers: str,
    start_config: Callable[..., NodeProcess],
    start_dial_plan: Callable[..., NodeProcess],
) -> None:
    config, host = start_config(), loopback()
    node = start_dial_plan(config, BIND_IP=host, METRICS_PORT="9100")
    request = pb.ResolveRequest(tenant=numbers, destination="8000", caller_dn="1002")

    def silent_s() -> float:
        with urllib.request.urlopen(f"http://{host}:9100/metrics", timeout=5) as page:
            name = "voicemesh_dial_plan_config_cache_silent_seconds "
            lines = page.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).removeprefix(name))

    async def dn_now() -> str:
        async with grpc.aio.insecure_channel(
            node.target, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as ch:
            return (await DialPlanServiceStub(ch).Resolve(request, timeout=2)).dn

    assert await dn_now() == "8000"
    assert silent_s() < 6, "it speaks every 5 s while all is well"
    config.kill()
    assert await dn_now() == "8000"
    deadline = time.monotonic() + 20
    while silent_s() < 7:
        assert await dn_now() == "8000"
        assert node.serving()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    config.start()
    deadline = time.monotonic() + 20
    while silent_s() > 5:
        assert time.monotonic() < deadline, "it follows again without a restart"
        await asyncio.sleep(0.1)
    config.kill()
    # Even a node that starts now has them, from its journal.
    assert node.terminate() == 0
    node.start()
    assert await dn_now() == "8000"
    node.kill()


async def test_resolving_takes_little_time(ask: Ask) -> None:
    times = list[float]()
    for number in ("1001", "8000", "92125551234", "ada") * 100:
        started = time.perf_counter()
        await ask(number)
        times.append(time.perf_counter() - started)
    assert statistics.quantiles(times, n=20)[-1] < 0.5, (
        "p95 of a unary call, client included, on a busy machine"
    )
