"""Registrations, logins and passwords over gRPC, real Config processes and a real etcd."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import grpc.aio
import pytest
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import Reason, details
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess

T = o.ObjectType


def now_us() -> int:
    return time.time_ns() // 1000


async def put_bindings(
    client: Client, tenant: str, dn: str, bindings: list[r.Registration], revision: int = 0
) -> int:
    wanted = pb.DnRegistrations(dn=dn, registrations=bindings, revision=revision)
    request = pb.PutRegistrationsRequest(tenant=tenant, registrations=wanted)
    return (await client.devices.PutRegistrations(request, timeout=5)).revision


async def get_bindings(client: Client, tenant: str, dn: str) -> pb.DnRegistrations:
    request = pb.GetRegistrationsRequest(tenant=tenant, dn=dn)
    return (await client.devices.GetRegistrations(request, timeout=5)).registrations


async def log_in(client: Client, tenant: str, agent_id: str, dn: str, session: str = "") -> r.Login:
    login = r.Login(
        agent_id=agent_id,
        dn=dn,
        queues=["7000"],
        since_us=now_us(),
        session_id=session or secrets.token_hex(4),
    )
    request = pb.PutLoginRequest(tenant=tenant, login=login)
    return (await client.devices.PutLogin(request, timeout=5)).login


async def log_out(client: Client, tenant: str, agent_id: str, session: str = "") -> None:
    request = pb.DeleteLoginRequest(tenant=tenant, agent_id=agent_id, session_id=session)
    await client.devices.DeleteLogin(request, timeout=5)


async def reason_of(call: object) -> int | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return details(caught.value).reason


@pytest.fixture
async def agents(client: Client, tenant: str) -> str:
    """The tenant, with phones 1001-1003 and agents A1-A3 (ada, bob, cy)."""
    objects = [extension(f"100{n}") for n in (1, 2, 3)]
    objects += [
        ConfigObject(agent_login=o.AgentLogin(code=f"A{n}", switch="sip", wrapup_s=n)) for n in (1, 2, 3)
    ]
    objects.append(ConfigObject(place=o.Place(name="desk", dns=["1001"])))
    for n, name in enumerate(("ada", "bob", "cy"), 1):
        person = o.Person(user_name=name, employee_id=f"E{n}", is_agent=True, agent_logins=[f"A{n}"])
        objects.append(ConfigObject(person=person))
    await client.load(tenant, objects)
    return tenant


@pytest.mark.feature("CF-02")
async def test_bindings_are_kept_told_and_end(client: Client, agents: str) -> None:
    soon = r.Registration(
        contact="sip:1001@10.0.0.1", expires_us=now_us() + 3_000_000, call_id="c", cseq=3, q=500
    )
    later = r.Registration(contact="sip:1001@10.0.0.2", expires_us=now_us() + 60_000_000, path=["sip:p1;lr"])
    revision = await put_bindings(client, agents, "1001", [soon, later])
    found = await get_bindings(client, agents, "1001")
    assert found.revision == revision
    assert list(found.registrations) == [soon, later]
    deadline = time.monotonic() + 15
    while len((await get_bindings(client, agents, "1001")).registrations) == 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert now_us() >= soon.expires_us
    assert list((await get_bindings(client, agents, "1001")).registrations) == [later]
    assert await put_bindings(client, agents, "1001", [], revision) == 0
    assert not (await get_bindings(client, agents, "1001")).registrations
    assert await reason_of(get_bindings(client, agents, "9999")) == Reason.REASON_UNKNOWN_DN


async def test_bindings_are_replaced_only_from_their_revision(client: Client, agents: str) -> None:
    binding = r.Registration(contact="sip:1001@10.0.0.1", expires_us=now_us() + 60_000_000)
    revision = await put_bindings(client, agents, "1001", [binding])
    outcomes = await asyncio.gather(
        *(put_bindings(client, agents, "1001", [binding], revision) for _ in range(4)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, int)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert (len(won), len(lost)) == (1, 3)
    assert {details(error).reason for error in lost} == {Reason.REASON_REVISION_CONFLICT}


async def test_bindings_end_with_their_dn(client: Client, agents: str) -> None:
    binding = r.Registration(contact="sip:1003@10.0.0.1", expires_us=now_us() + 60_000_000)
    await put_bindings(client, agents, "1003", [binding])
    dn = await client.get(agents, T.OBJECT_TYPE_DN, number="1003")
    await client.delete(agents, T.OBJECT_TYPE_DN, dn.dbid)
    assert await reason_of(put_bindings(client, agents, "1003", [binding])) == Reason.REASON_UNKNOWN_DN
    changes, _ = await client.snapshot(agents)
    assert not [change for change in changes if change.HasField("registrations")]


@pytest.mark.feature("CF-03")
async def test_a_login_is_kept_told_and_removed(client: Client, agents: str) -> None:
    stored = await log_in(client, agents, "A1", "1001", "s1")
    assert (stored.place, stored.user_name, stored.session_id) == ("desk", "ada", "s1")
    for key in ({"dn": "1001"}, {"agent_id": "A1"}):
        request = pb.GetLoginRequest(tenant=agents, **key)
        assert (await client.devices.GetLogin(request, timeout=5)).login == stored
    await log_out(client, agents, "A1", "another session")
    assert (
        await client.devices.GetLogin(pb.GetLoginRequest(tenant=agents, dn="1001"), timeout=5)
    ).login == stored
    await log_out(client, agents, "A1", "s1")
    gone = client.devices.GetLogin(pb.GetLoginRequest(tenant=agents, agent_id="A1"), timeout=5)
    assert await reason_of(gone) == Reason.REASON_AGENT_NOT_LOGGED_IN
    await log_out(client, agents, "A1")


async def test_one_agent_a_dn_and_one_dn_an_agent(client: Client, agents: str) -> None:
    await log_in(client, agents, "A1", "1001")
    assert await reason_of(log_in(client, agents, "A2", "1001")) == Reason.REASON_DN_HAS_AGENT
    assert await reason_of(log_in(client, agents, "A1", "1002")) == Reason.REASON_AGENT_ID_IN_USE
    assert await reason_of(log_in(client, agents, "A9", "1002")) == Reason.REASON_WRONG_AGENT_ID
    assert await reason_of(log_in(client, agents, "A2", "1009")) == Reason.REASON_UNKNOWN_DN
    again = await log_in(client, agents, "A1", "1001", "new session")
    assert again.session_id == "new session"


async def test_logins_at_once_on_two_nodes_never_collide(
    client: Client,
    agents: str,
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
) -> None:
    nodes = (client, connect(start_config()))
    for _ in range(10):
        tries = [(agent, dn) for agent in ("A1", "A2", "A3") for dn in ("1001", "1002", "1003")]
        outcomes = await asyncio.gather(
            *(log_in(nodes[at % 2], agents, agent, dn) for at, (agent, dn) in enumerate(tries)),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, r.Login)]
        assert 1 <= len(winners) <= 3
        assert (
            len({login.agent_id for login in winners}) == len({login.dn for login in winners}) == len(winners)
        )
        refusals = {details(e).reason for e in outcomes if isinstance(e, grpc.aio.AioRpcError)}
        assert refusals <= {Reason.REASON_DN_HAS_AGENT, Reason.REASON_AGENT_ID_IN_USE}
        for login in winners:
            await log_out(nodes[1], agents, login.agent_id)


async def test_an_agent_can_log_in_as_soon_as_she_exists_and_not_when_she_is_gone(
    client: Client, agents: str
) -> None:
    started = time.monotonic()
    code = await client.create(agents, ConfigObject(agent_login=o.AgentLogin(code="A7", switch="sip")))
    person = await client.create(
        agents,
        ConfigObject(person=o.Person(user_name="dee", employee_id="E7", is_agent=True, agent_logins=["A7"])),
    )
    await log_in(client, agents, "A7", "1003")
    assert time.monotonic() - started < 2.0
    in_use = client.delete(agents, T.OBJECT_TYPE_PERSON, person.dbid)
    assert await reason_of(in_use) == Reason.REASON_OBJECT_IN_USE
    await log_out(client, agents, "A7")
    await client.delete(agents, T.OBJECT_TYPE_PERSON, person.dbid)
    await client.delete(agents, T.OBJECT_TYPE_AGENT_LOGIN, code.dbid)
    assert await reason_of(log_in(client, agents, "A7", "1003")) == Reason.REASON_WRONG_AGENT_ID


async def test_passwords_are_checked(client: Client, agents: str) -> None:
    login = await client.get(agents, T.OBJECT_TYPE_AGENT_LOGIN, number="A2")
    login.agent_login.password = "pin-42"
    await client.update(agents, login)

    async def check(agent_id: str, password: str) -> pb.CheckPasswordResponse:
        request = pb.CheckPasswordRequest(tenant=agents, agent_id=agent_id, password=password)
        return await client.devices.CheckPassword(request, timeout=5)

    answer = await check("A2", "pin-42")
    assert (answer.user_name, answer.wrapup_s) == ("bob", 2)
    assert await reason_of(check("A2", "pin-43")) == Reason.REASON_PASSWORD_MISMATCH
    assert await reason_of(check("A9", "")) == Reason.REASON_WRONG_AGENT_ID
    assert (await check("A1", "")).user_name == "ada"


async def test_a_binding_that_breaks_a_rule_is_named(client: Client, agents: str) -> None:
    bad = r.Registration(contact="", expires_us=0, q=2000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_bindings(client, agents, "1001", [bad])
    at = "registrations.registrations[0]"
    assert {field for field, _ in details(caught.value).violations} == {
        f"{at}.contact",
        f"{at}.q",
        f"{at}.expires_us",
    }
