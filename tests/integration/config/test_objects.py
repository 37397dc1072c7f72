"""Objects over gRPC, a real Config process and a real etcd."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import grpc.aio
import pytest
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import Reason, details
from mesh.metadata import PEER_KEY, TENANT_KEY
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess

T = o.ObjectType


async def refused(call: object) -> tuple[int | None, dict[str, str]]:
    """Reason and violations of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    said = details(caught.value)
    return said.reason, dict(said.violations)


async def one_of_each(client: Client, tenant: str) -> dict[str, ConfigObject]:
    """An object of every type, as created."""
    wanted = {
        "skill": ConfigObject(skill=o.Skill(name="English")),
        "application": ConfigObject(application=o.Application(name="sipserver", type="TServer")),
        "host": ConfigObject(host=o.Host(name="h1", address="10.0.0.1")),
        "script": ConfigObject(script=o.Script(name="main", type="EnhancedRouting")),
        "transaction": ConfigObject(
            transaction=o.Transaction(name="dates"),
            options=[o.OptionSection(name="d", options=[o.Option(name="2026-12-25", value="closed")])],
        ),
        "dial_rule": ConfigObject(dial_rule=o.DialRule(name="out", pattern="9X.", replacement="${DIGITS:1}")),
        "dn": extension("1001", password="secret"),
        "agent_login": ConfigObject(agent_login=o.AgentLogin(code="A1", switch="sip", wrapup_s=5)),
        "place": ConfigObject(place=o.Place(name="desk", dns=["1001"])),
        "person": ConfigObject(
            person=o.Person(
                user_name="ada",
                employee_id="E1",
                is_agent=True,
                agent_logins=["A1"],
                skills=[o.SkillLevel(skill="English", level=9)],
                place="desk",
            )
        ),
        "agent_group": ConfigObject(agent_group=o.AgentGroup(name="all", members=["ada"])),
    }
    return {kind: await client.create(tenant, message) for kind, message in wanted.items()}


@pytest.mark.feature("CF-01", "CF-13")
async def test_every_type_is_found_by_every_key(client: Client, tenant: str) -> None:
    made = await one_of_each(client, tenant)
    for kind, message in made.items():
        type = T.Value(f"OBJECT_TYPE_{kind.upper()}")
        assert message.dbid > 0
        assert message.revision > 0
        assert await client.get(tenant, type, dbid=message.dbid) == message
        listed = await client.config.ListObjects(pb.ListObjectsRequest(tenant=tenant, type=type), timeout=5)
        assert list(listed.objects) == [message]
    by_key: tuple[tuple[str, dict[str, object]], ...] = (
        ("dn", {"number": "1001"}),
        ("dn", {"number": "1001", "switch": "sip", "dn_type": 1}),
        ("agent_login", {"number": "A1"}),
        ("person", {"user_name": "ada"}),
        ("person", {"employee_id": "E1"}),
        *(
            (kind, {"name": getattr(made[kind], kind).name})
            for kind in made
            if kind not in ("dn", "agent_login", "person")
        ),
    )
    for kind, key in by_key:
        type = T.Value(f"OBJECT_TYPE_{kind.upper()}")
        assert await client.get(tenant, type, **key) == made[kind], (kind, key)
    switch = await client.get(tenant, T.OBJECT_TYPE_SWITCH, tserver_dbid=7)
    assert switch == await client.get(tenant, T.OBJECT_TYPE_SWITCH, name="sip")
    found = await client.get(tenant, T.OBJECT_TYPE_TENANT, name=tenant)
    assert found.tenant.tenant_id == tenant


async def test_a_key_of_another_type_is_refused(client: Client, tenant: str) -> None:
    reason, named = await refused(client.get(tenant, T.OBJECT_TYPE_DN, employee_id="E1"))
    assert reason == Reason.REASON_INVALID_ATTRIBUTE
    assert "employee_id" in named
    reason, _ = await refused(client.get(tenant, T.OBJECT_TYPE_DN, number="nobody"))
    assert reason == Reason.REASON_UNKNOWN_OBJECT


@pytest.mark.feature("CF-04")
async def test_a_route_point_by_number_tells_url_and_parameters(client: Client, tenant: str) -> None:
    settings = o.RoutePointSettings(
        application_url="http://apps.example/main.scxml?ani=[ANI]",
        alternate_url="file:/apps/fallback.scxml",
        parameters=[o.Option(name="skill", value="English"), o.Option(name="level", value="5")],
        routing_timeout_ms=60000,
    )
    dn = o.Dn(number="8000", type=o.DN_TYPE_ROUTING_POINT, switch="sip", enabled=True, route_point=settings)
    await client.create(tenant, ConfigObject(dn=dn))
    found = await client.get(tenant, T.OBJECT_TYPE_DN, number="8000")
    assert found.dn.route_point == settings


@pytest.mark.feature("CF-05")
async def test_trunks_tell_prefix_capacity_and_contact(client: Client, tenant: str) -> None:
    for name, prefix, priority in (("trunk-a", "", 1), ("trunk-b", "+49", 2)):
        trunk = o.TrunkSettings(
            contact="10.0.0.5:5060", sources=["10.0.0.0/24"], prefix=prefix, priority=priority, capacity=30
        )
        dn = o.Dn(number=name, type=o.DN_TYPE_TRUNK, switch="sip", enabled=True, trunk=trunk)
        await client.create(tenant, ConfigObject(dn=dn))
    softswitch = o.Dn(number="softswitch", type=o.DN_TYPE_VOIP_SERVICE, switch="sip", enabled=True)
    await client.create(
        tenant,
        ConfigObject(
            dn=softswitch,
            options=[
                o.OptionSection(
                    name="TServer",
                    options=[
                        o.Option(name="service-type", value="softswitch"),
                        o.Option(name="contact", value="sip:10.0.0.9:5060"),
                    ],
                )
            ],
        ),
    )
    listed = await client.config.ListObjects(
        pb.ListObjectsRequest(tenant=tenant, type=T.OBJECT_TYPE_DN), timeout=5
    )
    trunks = {m.dn.number: m.dn.trunk for m in listed.objects if m.dn.type == o.DN_TYPE_TRUNK}
    assert {name: (t.prefix, t.capacity, t.contact) for name, t in trunks.items()} == {
        "trunk-a": ("", 30, "10.0.0.5:5060"),
        "trunk-b": ("+49", 30, "10.0.0.5:5060"),
    }
    services = [m for m in listed.objects if m.dn.type == o.DN_TYPE_VOIP_SERVICE]
    assert [(m.dn.number, m.options[0].options[1].value) for m in services] == [
        ("softswitch", "sip:10.0.0.9:5060")
    ]


@pytest.mark.feature("CF-07")
async def test_domains_lead_to_tenants_and_belong_to_one(client: Client, tenant: str) -> None:
    changes, _ = await client.snapshot("")
    domains = {
        domain: change.tenant
        for change in changes
        if change.object.HasField("tenant")
        for domain in change.object.tenant.domains
    }
    assert domains[f"{tenant}.example"] == tenant
    thief = f"x-{secrets.token_hex(4)}"
    taken = ConfigObject(tenant=o.Tenant(tenant_id=thief, domains=[f"{tenant}.EXAMPLE"]))
    reason, named = await refused(client.create(thief, taken))
    assert reason == Reason.REASON_ALREADY_EXISTS
    assert "object.tenant.domains[0]" in named
    # The domain is free again once its tenant gives it up.
    mine = await client.get(tenant, T.OBJECT_TYPE_TENANT, name=tenant)
    del mine.tenant.domains[:]
    await client.update(tenant, mine)
    assert (await client.create(thief, taken)).tenant.tenant_id == thief


@pytest.mark.feature("CF-11")
async def test_objects_are_checked_against_each_other(client: Client, tenant: str) -> None:
    await client.create(tenant, extension("1001"))
    reason, named = await refused(client.create(tenant, extension("1001")))
    assert (reason, list(named)) == (Reason.REASON_ALREADY_EXISTS, ["object.dn.number"])
    # The same number as another type is another DN.
    queue = ConfigObject(dn=o.Dn(number="1001", type=o.DN_TYPE_ACD_QUEUE, switch="sip"))
    assert (await client.create(tenant, queue)).dbid
    lost = extension("1002")
    lost.dn.switch = "nowhere"
    reason, named = await refused(client.create(tenant, lost))
    assert (reason, named) == (
        Reason.REASON_UNKNOWN_OBJECT,
        {"object.dn.switch": 'there is no switch "nowhere"'},
    )
    broken = ConfigObject(dn=o.Dn(number="", type=o.DN_TYPE_TRUNK, switch="sip"))
    reason, named = await refused(client.create(tenant, broken))
    assert reason == Reason.REASON_INVALID_ATTRIBUTE
    assert set(named) == {"object.dn.number", "object.dn.trunk"}


@pytest.mark.feature("CF-11")
@pytest.mark.parametrize(("field", "value"), [("number", "1009"), ("type", 2), ("switch", "other")])
async def test_identity_of_a_dn_does_not_change(
    client: Client, tenant: str, field: str, value: object
) -> None:
    await client.create(tenant, ConfigObject(switch=o.Switch(name="other")))
    made = await client.create(tenant, extension("1001"))
    setattr(made.dn, field, value)
    reason, named = await refused(client.update(tenant, made))
    assert (reason, named) == (Reason.REASON_INVALID_ATTRIBUTE, {f"object.dn.{field}": "is immutable"})


@pytest.mark.feature("CF-12")
async def test_of_two_writers_one_gets_a_conflict(client: Client, tenant: str) -> None:
    made = await client.create(tenant, extension("1001"))
    writers = []
    for overflow in ("2001", "2002"):
        mine = ConfigObject()
        mine.CopyFrom(made)
        mine.dn.overflow = overflow
        writers.append(client.update(tenant, mine))
    outcomes = await asyncio.gather(*writers, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, ConfigObject)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert (len(won), len(lost)) == (1, 1)
    said = details(lost[0])
    assert said.reason == Reason.REASON_REVISION_CONFLICT
    assert said.detail is not None
    assert (said.detail.expected, said.detail.actual) == (made.revision, won[0].revision)  # type: ignore[attr-defined]
    assert await client.get(tenant, T.OBJECT_TYPE_DN, number="1001") == won[0]


@pytest.mark.feature("CF-13")
async def test_what_is_used_is_not_deleted(client: Client, tenant: str) -> None:
    made = await one_of_each(client, tenant)
    switch = await client.get(tenant, T.OBJECT_TYPE_SWITCH, name="sip")
    used_by = {
        (T.OBJECT_TYPE_SWITCH, switch.dbid): 'DN "1001"',
        (T.OBJECT_TYPE_DN, made["dn"].dbid): 'place "desk"',
        (T.OBJECT_TYPE_AGENT_LOGIN, made["agent_login"].dbid): 'person "ada"',
        (T.OBJECT_TYPE_SKILL, made["skill"].dbid): 'person "ada"',
        (T.OBJECT_TYPE_PLACE, made["place"].dbid): 'person "ada"',
        (T.OBJECT_TYPE_PERSON, made["person"].dbid): 'agent_group "all"',
    }
    for (type, dbid), user in used_by.items():
        with pytest.raises(grpc.aio.AioRpcError, match=user) as caught:
            await client.delete(tenant, type, dbid)
        assert details(caught.value).reason == Reason.REASON_OBJECT_IN_USE
    renamed = made["skill"]
    renamed.skill.name = "Englisch"
    assert (await refused(client.update(tenant, renamed)))[0] == Reason.REASON_OBJECT_IN_USE
    # From the users down everything goes, the tenant last.
    order = (
        "agent_group",
        "person",
        "agent_login",
        "place",
        "dn",
        "skill",
        "application",
        "host",
        "script",
        "transaction",
        "dial_rule",
    )
    for kind in order:
        await client.delete(tenant, T.Value(f"OBJECT_TYPE_{kind.upper()}"), made[kind].dbid, 0)
    owner = await client.get(tenant, T.OBJECT_TYPE_TENANT, name=tenant)
    assert (await refused(client.delete(tenant, T.OBJECT_TYPE_TENANT, owner.dbid)))[
        0
    ] == Reason.REASON_OBJECT_IN_USE
    await client.delete(tenant, T.OBJECT_TYPE_SWITCH, switch.dbid)
    await client.delete(tenant, T.OBJECT_TYPE_TENANT, owner.dbid)
    assert (await refused(client.get(tenant, T.OBJECT_TYPE_TENANT, name=tenant)))[
        0
    ] == Reason.REASON_UNKNOWN_OBJECT


async def test_a_reference_and_the_deletion_of_its_object_never_both_happen(
    client: Client,
    tenant: str,
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
) -> None:
    other = connect(start_config())
    for turn in range(15):
        skill = await client.create(tenant, ConfigObject(skill=o.Skill(name=f"S{turn}")))
        person = ConfigObject(
            person=o.Person(
                user_name=f"p{turn}", employee_id=f"E{turn}", skills=[o.SkillLevel(skill=f"S{turn}", level=1)]
            )
        )
        outcomes = await asyncio.gather(
            client.delete(tenant, T.OBJECT_TYPE_SKILL, skill.dbid),
            other.create(tenant, person),
            return_exceptions=True,
        )
        failed = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(failed) == 1, outcomes
        assert details(failed[0]).reason in (Reason.REASON_OBJECT_IN_USE, Reason.REASON_UNKNOWN_OBJECT)


async def test_one_request_id_creates_once(client: Client, tenant: str) -> None:
    made = await asyncio.gather(*(client.create(tenant, extension("1001"), "r1") for _ in range(5)))
    assert all(message == made[0] for message in made)


async def test_dbids_are_never_used_again(client: Client, tenant: str) -> None:
    first = await client.create(tenant, extension("1001"))
    await client.delete(tenant, T.OBJECT_TYPE_DN, first.dbid)
    assert (await client.create(tenant, extension("1001"))).dbid > first.dbid


async def test_pages_of_a_list_are_in_order_and_complete(client: Client, tenant: str) -> None:
    await client.load(tenant, [extension(f"{number}") for number in range(2000, 2025)])
    found, token = list[int](), ""
    while True:
        request = pb.ListObjectsRequest(tenant=tenant, type=T.OBJECT_TYPE_DN, page_size=10, page_token=token)
        page = await client.config.ListObjects(request, timeout=5)
        found.extend(message.dbid for message in page.objects)
        token = page.next_page_token
        if not token:
            break
    assert found == sorted(found)
    assert len(set(found)) == 25


async def test_passwords_are_for_services_that_need_them(client: Client, tenant: str) -> None:
    await client.create(tenant, extension("1001", password="s3cret"))
    login = ConfigObject(agent_login=o.AgentLogin(code="A1", switch="sip", password="pin"))
    await client.create(tenant, login)

    async def seen_by(service: str, type: int, key: dict[str, str]) -> ConfigObject:
        request = pb.GetObjectRequest(tenant=tenant, type=type, **key)  # type: ignore[arg-type]
        peer = ((PEER_KEY, f"spiffe://voicemesh.local/ns/voice/sa/{service}"),)
        return (await client.config.GetObject(request, timeout=5, metadata=peer)).object

    assert (await seen_by("sip_proxy", T.OBJECT_TYPE_DN, {"number": "1001"})).dn.password == "s3cret"
    masked = await seen_by("dial_plan", T.OBJECT_TYPE_DN, {"number": "1001"})
    assert masked.dn.password == "********"
    for service in ("agent_state", "tenant"):  # they compare by CheckPassword and need to see none
        assert (await seen_by(service, T.OBJECT_TYPE_DN, {"number": "1001"})).dn.password == "********"
        login = await seen_by(service, T.OBJECT_TYPE_AGENT_LOGIN, {"number": "A1"})
        assert login.agent_login.password == "********"
    hashed = await seen_by("sip_proxy", T.OBJECT_TYPE_AGENT_LOGIN, {"number": "A1"})
    assert hashed.agent_login.password.startswith("$scrypt$")
    # Who read the mask and writes it back changes nothing about the password.
    masked.dn.overflow = "1002"
    await client.update(tenant, masked)
    kept = await seen_by("sip_proxy", T.OBJECT_TYPE_DN, {"number": "1001"})
    assert (kept.dn.password, kept.dn.overflow) == ("s3cret", "1002")
    assert all("s3cret" not in str(message) for message in await client.export(tenant))


async def test_clients_write_no_tenants(client: Client, tenant: str) -> None:
    mine = await client.get(tenant, T.OBJECT_TYPE_TENANT, name=tenant)
    as_client = ((TENANT_KEY, tenant), (PEER_KEY, "spiffe://voicemesh.local/ns/voice/sa/edge"))
    request = pb.UpdateObjectRequest(tenant=tenant, object=mine)
    reason, _ = await refused(client.config.UpdateObject(request, timeout=5, metadata=as_client))
    assert reason == Reason.REASON_NOT_AUTHORIZED
    created = pb.CreateObjectRequest(tenant=tenant, object=extension("1001"))
    answer = await client.config.CreateObject(created, timeout=5, metadata=as_client)
    assert answer.object.dbid
