"""Import, export and the seed of a new installation."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import pytest
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import Reason, details
from services.config.load import read_folder
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import DEMO, ROOT, NodeProcess
from tests.integration.servers import environment

AGENTS = 10_000
IMPORT_S = 60.0
"""Bound of the import of 40,016 objects on a machine shared with others, seconds; alone it takes some ten."""


def big_tenant(tenant: str, agents: int) -> list[ConfigObject]:
    """A tenant in the worst order: who refers comes before what is referred to."""
    skills = [f"Skill{n}" for n in range(10)]
    objects = [
        ConfigObject(agent_group=o.AgentGroup(name="all", members=[f"agent{n}" for n in range(agents)]))
    ]
    for n in range(agents):
        person = o.Person(
            user_name=f"agent{n}",
            employee_id=f"E{n}",
            is_agent=True,
            agent_logins=[f"A{n}"],
            place=f"Place{n}",
            skills=[o.SkillLevel(skill=skills[(n + k) % 10], level=k) for k in range(3)],
        )
        objects.append(ConfigObject(person=person))
        objects.append(ConfigObject(place=o.Place(name=f"Place{n}", dns=[f"{100000 + n}"])))
        objects.append(ConfigObject(agent_login=o.AgentLogin(code=f"A{n}", switch="sip", wrapup_s=10)))
        objects.append(extension(f"{100000 + n}", password=f"pw{n}"))
    objects += [ConfigObject(skill=o.Skill(name=name)) for name in skills]
    objects.append(ConfigObject(switch=o.Switch(name="sip")))
    objects.append(ConfigObject(tenant=o.Tenant(tenant_id=tenant, domains=[f"{tenant}.example"])))
    return objects


def comparable(objects: list[ConfigObject]) -> dict[bytes, int]:
    """Objects without DBID and revision, with how often each is there."""
    found = dict[bytes, int]()
    for message in objects:
        bare = ConfigObject()
        bare.CopyFrom(message)
        bare.ClearField("dbid")
        bare.ClearField("revision")
        key = bare.SerializeToString(deterministic=True)
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.slow
@pytest.mark.feature("CF-16")
async def test_ten_thousand_agents_in_seconds_and_out_again(
    client: Client, connect: Callable[[NodeProcess], Client], start_config: Callable[..., NodeProcess]
) -> None:
    tenant = f"t-{secrets.token_hex(4)}"
    objects = big_tenant(tenant, AGENTS)
    started = time.monotonic()
    done = await client.load(tenant, objects, timeout=120)
    took = time.monotonic() - started
    assert (done.created, done.updated, done.unchanged) == (len(objects), 0, 0)
    assert took < IMPORT_S, f"took {took:.1f} s"
    exported = await client.export(tenant)
    assert len(exported) == len(objects)
    # Again: nothing to do, though passwords are stored in another form than they are given.
    again = await client.load(tenant, objects, timeout=120)
    assert (again.created, again.updated, again.unchanged) == (0, 0, len(objects))
    # Into another region of the installation: what comes out there is the same.
    elsewhere = connect(start_config(REGION=f"other-{secrets.token_hex(3)}"))
    await elsewhere.load(tenant, exported, timeout=120)
    assert comparable(await elsewhere.export(tenant)) == comparable(exported)


@pytest.mark.feature("CF-16")
async def test_nothing_is_written_when_anything_is_wrong(client: Client, tenant: str) -> None:
    before = comparable(await client.export(tenant))
    wrong = [
        extension("1001"),
        ConfigObject(place=o.Place(name="desk", dns=["1001", "1002"])),
        extension("1001"),
        ConfigObject(skill=o.Skill(name="two words")),
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.load(tenant, wrong)
    said = details(caught.value)
    assert (said.reason, {field for field, _ in said.violations}) == (
        Reason.REASON_INVALID_ATTRIBUTE,
        {"objects[3].skill.name"},
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.load(tenant, wrong[:3])
    said = details(caught.value)
    assert {field for field, _ in said.violations} == {"objects[1].place.dns[1]", "objects[2].dn.number"}
    assert comparable(await client.export(tenant)) == before


async def test_an_import_replaces_what_is_there_and_leaves_the_rest(client: Client, tenant: str) -> None:
    first = await client.load(tenant, [extension("1001"), extension("1002")])
    assert first.created == 2
    changed = extension("1001", overflow="1002")
    second = await client.load(tenant, [changed, extension("1002"), extension("1003")])
    assert (second.created, second.updated, second.unchanged) == (1, 1, 1)
    found = await client.get(tenant, o.OBJECT_TYPE_DN, number="1001")
    assert found.dn.overflow == "1002"


async def test_an_import_for_no_tenant_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.load("t-nobody", [extension("1001")])
    assert details(caught.value).reason == Reason.REASON_UNKNOWN_TENANT


async def test_nodes_that_start_together_seed_the_demo_tenants_once(
    start_config: Callable[..., NodeProcess], connect: Callable[[NodeProcess], Client]
) -> None:
    region = f"seed-{secrets.token_hex(3)}"
    nodes = [start_config(REGION=region, CONFIG_SEED=DEMO, BIND_IP="127.0.0.1") for _ in range(2)]
    wanted = read_folder(Path(ROOT / DEMO), {"net": "0"})
    assert set(wanted) == {"t1", "t2", "t3"}
    for node in nodes:
        client = connect(node)
        for tenant, objects in wanted.items():
            assert len(await client.export(tenant)) == len(objects)
    numbers = [
        {message.dn.number for message in objects if message.HasField("dn")} for objects in wanted.values()
    ]
    assert numbers[0] == numbers[1] == numbers[2]


def test_the_loader_imports_a_folder_into_a_running_node(start_config: Callable[..., NodeProcess]) -> None:
    node = start_config(REGION=f"load-{secrets.token_hex(3)}", REQUIRE_PEER="1")
    command = [sys.executable, "-m", "services.config.load", DEMO, "--target", node.target, "--set", "net=33"]
    for wanted in ("104 created, 0 updated, 0 unchanged", "0 created, 0 updated, 104 unchanged"):
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines() == [f"{tenant}: {wanted}" for tenant in ("t1", "t2", "t3")], (
            done.stderr
        )
    command[3] = str(node.folder)
    assert (
        subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, timeout=60).returncode == 2
    )


def test_a_node_with_another_key_does_not_serve(
    config_node: NodeProcess, start_config: Callable[..., NodeProcess], config_region: str
) -> None:
    stranger = NodeProcess(
        "config",
        99,
        ETCD_CONFIG=config_node._environment["VOICEMESH_ETCD_CONFIG"],
        REGION=config_region,
        CONFIG_SECRET_KEYS="cd" * 32,
    )
    try:
        stranger.start(wait=False)
        deadline = time.monotonic() + 60
        while "set VOICEMESH_CONFIG_SECRET_KEYS" not in stranger.log():
            assert time.monotonic() < deadline, stranger.log()
            time.sleep(0.05)
        assert not stranger.serving()
    finally:
        stranger.kill()
