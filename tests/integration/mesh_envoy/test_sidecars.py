"""Two sidecars between a caller and small services: mutual TLS, addressing, membership, authorization."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

import grpc
import pytest
from voice.mesh.v1.node_pb2 import NodeState

from mesh.local.commands import base_environment
from mesh.local.process import Command
from mesh.local.settings import REPOSITORY
from tests.integration.mesh_envoy.bench import Answer, Bench, Echo, bench, call, until

NODE = "x-voicemesh-node"
SIP_NODE = "/voice.sip_cluster.v1.SipNodeService"
OK, UNAVAILABLE, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED


async def get_call(channel: grpc.aio.Channel, *metadata: tuple[str, str], timeout: float = 5.0) -> Answer:
    """A method that reads."""
    return await call(channel, f"{SIP_NODE}/GetCall", *metadata, timeout=timeout)


async def execute(channel: grpc.aio.Channel) -> Answer:
    """A method that acts."""
    return await call(channel, f"{SIP_NODE}/Execute")


async def execute_within(channel: grpc.aio.Channel, timeout: float) -> Answer:
    """A method that acts, with a deadline of its own."""
    return await call(channel, f"{SIP_NODE}/Execute", timeout=timeout)


async def reaches(channel: grpc.aio.Channel, *names: str, calls: int = 12) -> bool:
    """Whether calls by turns reach exactly those nodes."""
    found = [await get_call(channel) for _ in range(calls)]
    return {answer.served_by for answer in found if answer.code is OK} == set(names) and all(
        answer.code is OK for answer in found
    )


def executions(service: Echo) -> int:
    """How often Execute got through."""
    return sum(1 for served in service.calls if served.path.endswith("/Execute"))


async def two_nodes(mesh: Bench) -> tuple[Echo, Echo, str, str]:
    """Two serving nodes and their incarnations."""
    first, second = Echo("first"), Echo("second")
    one, two = await mesh.serve("sip_cluster-0", first), await mesh.serve("sip_cluster-1", second)
    return first, second, one, two


@pytest.mark.feature("XC-02")
async def test_a_call_goes_through_two_sidecars_with_mutual_tls(tmp_path: Path) -> None:
    async with bench(tmp_path, front_end=1, sip_cluster=2) as mesh:
        first, _, one, two = await two_nodes(mesh)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "first", "second"))

        # the caller's name comes from its certificate, whatever it says itself
        lie = ("x-voicemesh-peer", "spiffe://voicemesh.local/ns/voice/sa/tenant")
        assert (await get_call(egress, (NODE, one), lie)).served_by == "first"
        assert (
            first.calls[-1].metadata["x-voicemesh-peer"] == "spiffe://voicemesh.local/ns/voice/sa/front_end"
        )

        # no way in without a certificate of the mesh
        ingress = mesh.instance("sip_cluster-0").nodes[0].address
        before = len(first.calls)
        assert (await get_call(mesh.plain(ingress), timeout=1.0)).code is not OK
        assert len(first.calls) == before
        assert (await get_call(mesh.mutual(ingress, "front_end"))).served_by == "first"

        # one sidecar dead: its own node is out of reach, the other is not
        process = mesh.processes["sip_cluster-0.envoy"]
        await process.finish(1.0)
        assert (await get_call(egress, (NODE, two))).served_by == "second"
        assert (await get_call(egress, (NODE, one), timeout=2.0)).code is UNAVAILABLE
        await until(lambda: reaches(egress, "second"))


async def test_every_configuration_is_taken_and_complete(tmp_path: Path) -> None:
    async with bench(tmp_path, engines=2, front_end=1, sip_cluster=1) as mesh:
        await mesh.serve("sip_cluster-0", Echo("zero"), engine=0)
        await mesh.serve("sip_cluster-0", Echo("one"), engine=1)
        pod, caller = mesh.instance("sip_cluster-0"), mesh.instance("front_end-0")
        await until(lambda: reaches(mesh.egress("front_end-0"), "zero", "one"))

        listeners = await mesh.admin_json(pod.admin, "/listeners?format=json")
        names = {entry["name"] for entry in listeners["listener_statuses"]}
        assert names == {"egress", "ingress.sip_cluster-00", "ingress.sip_cluster-01"}

        clusters = await mesh.admin_json(caller.admin, "/clusters?format=json")
        hosts = {entry["name"]: entry.get("host_statuses", []) for entry in clusters["cluster_statuses"]}
        assert len(hosts["sip_cluster"]) == len(hosts["sip_cluster.node"]) == 2
        assert "local.front_end-0" in hosts
        assert await mesh.rejected() == []


async def test_one_node_is_addressed_exactly_or_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, front_end=1, sip_cluster=2) as mesh:
        _, _, one, two = await two_nodes(mesh)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "first", "second"))
        assert {(await get_call(egress, (NODE, one))).served_by for _ in range(10)} == {"first"}
        assert {(await get_call(egress, (NODE, two))).served_by for _ in range(10)} == {"second"}

        for unknown in ("sip_cluster-0.ffffffff", "nonsense", ""):
            answer = await get_call(egress, (NODE, unknown), timeout=2.0)
            assert (answer.code, answer.reason) == (UNAVAILABLE, "node-gone"), unknown

        # draining: reached by name, not by turns
        await mesh.announce("sip_cluster-1", state=NodeState.NODE_STATE_DRAINING)
        await until(lambda: reaches(egress, "first"))
        assert (await get_call(egress, (NODE, two))).served_by == "second"

        # nobody serves: new work is refused, not sent to one that drains
        await mesh.announce("sip_cluster-0", state=NodeState.NODE_STATE_NOT_READY)

        async def refused() -> bool:
            answer = await get_call(egress, timeout=2.0)
            return (answer.code, answer.reason) == (UNAVAILABLE, "nobody-serves")

        await until(refused)
        assert (await get_call(egress, (NODE, one))).served_by == "first"

        # a new incarnation: the old name is gone at once
        await mesh.announce("sip_cluster-1", incarnation="sip_cluster-1.00000002")
        await mesh.withdraw("sip_cluster", two)

        async def renamed() -> bool:
            new = await get_call(egress, (NODE, "sip_cluster-1.00000002"), timeout=2.0)
            old = await get_call(egress, (NODE, two), timeout=2.0)
            return (new.served_by, old.reason) == ("second", "node-gone")

        await until(renamed)


async def test_a_caller_outside_of_the_table_is_refused(tmp_path: Path) -> None:
    """SipNodeService.Execute: front_end may, registrar may not; neither may call what no service may."""
    async with bench(tmp_path, front_end=1, registrar=1, sip_cluster=1) as mesh:
        servicer = Echo("only")
        await mesh.serve("sip_cluster-0", servicer)
        allowed, foreign = mesh.egress("front_end-0"), mesh.egress("registrar-0")
        await until(lambda: reaches(allowed, "only", calls=1))

        assert (await execute(allowed)).code is OK

        async def refused() -> bool:  # its sidecar may learn of the node a moment later
            return (await execute(foreign)).code is DENIED

        await until(refused)
        assert executions(servicer) == 1

        # past the egress, straight at the ingress: the certificate decides all the same
        ingress = mesh.instance("sip_cluster-0").nodes[0].address
        assert (await execute(mesh.mutual(ingress, "registrar"))).code is DENIED
        assert (await execute(mesh.mutual(ingress, "edge"))).code is DENIED
        assert executions(servicer) == 1


async def test_traffic_goes_on_while_the_control_plane_is_dead(tmp_path: Path) -> None:
    async with bench(tmp_path, front_end=1, sip_cluster=2) as mesh:
        _, _, _, two = await two_nodes(mesh)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "first", "second"))
        await mesh.processes["xds"].finish(1.0)
        codes = [(await get_call(egress)).code for _ in range(200)]
        assert set(codes) == {OK}

        # what changed meanwhile is in once it is back
        await mesh.withdraw("sip_cluster", two)
        assert await reaches(egress, "first", "second")
        await mesh.spawn(mesh.commands.xds())
        await until(lambda: reaches(egress, "first"))


async def test_an_outage_of_etcd_empties_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, front_end=1, sip_cluster=2) as mesh:
        await two_nodes(mesh)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "first", "second"))

        mesh.processes["etcd"].stop()
        assert await reaches(egress, "first", "second", calls=50)
        mesh.processes["etcd"].cont()

        # a control plane that starts while etcd is away answers nothing rather than nothing's endpoints
        await mesh.processes["etcd"].finish(1.0)
        mesh.processes["xds"].kill()
        await asyncio.sleep(0)
        assert await reaches(egress, "first", "second", calls=50)

        async def restarted() -> bool:
            return mesh.processes["xds"].restarts >= 1 and mesh.processes["xds"].running

        await until(restarted)
        assert await reaches(egress, "first", "second", calls=50)


@pytest.mark.slow
@pytest.mark.feature("XC-03")
async def test_one_bad_instance_of_three_hurts_no_call_that_reads(tmp_path: Path) -> None:
    """Half of the calls to one instance of three take a second and fail: callers do not see it, and there is
    no retry storm."""
    turn = itertools.count()

    async def bad() -> grpc.StatusCode:
        if next(turn) % 2:
            return OK
        await asyncio.sleep(1.0)
        return UNAVAILABLE

    async with bench(tmp_path, front_end=1, sip_cluster=3) as mesh:
        services = [Echo("good"), Echo("better"), Echo("bad", bad)]
        for number, service in enumerate(services):
            await mesh.serve(f"sip_cluster-{number}", service)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "good", "better", "bad", calls=30))
        before = sum(len(service.calls) for service in services)

        calls, at_once = 1000, 50
        answers: list[Answer] = []

        async def worker() -> None:
            while len(answers) < calls:
                answers.append(await get_call(egress, timeout=5.0))

        await asyncio.gather(*(worker() for _ in range(at_once)))
        good = sum(1 for answer in answers if answer.code is OK)
        attempts = sum(len(service.calls) for service in services) - before
        assert good / len(answers) >= 0.999
        assert attempts / len(answers) <= 1.2
        assert len(services[2].calls) > len(answers) / 10, "the bad one was not asked: nothing was shown"


async def test_a_method_that_acts_is_not_repeated_after_a_node_has_seen_it(tmp_path: Path) -> None:
    async def down() -> grpc.StatusCode:
        return UNAVAILABLE

    async with bench(tmp_path, front_end=1, sip_cluster=1) as mesh:
        service = Echo("only", down)
        await mesh.serve("sip_cluster-0", service)
        egress = mesh.egress("front_end-0")

        async def seen() -> bool:
            await execute(egress)
            return bool(service.calls)

        await until(seen)
        service.calls.clear()
        assert (await execute(egress)).code is UNAVAILABLE
        assert len(service.calls) == 1
        await get_call(egress)
        assert len(service.calls) == 1 + 3, "a read is tried three times in all"


async def test_many_calls_are_open_at_once_on_one_connection(tmp_path: Path) -> None:
    """A service has one connection to its sidecar; subscriptions alone are hundreds. Envoy's own limit is
    1,024."""
    together, released = 1500, asyncio.Event()

    async def hold() -> grpc.StatusCode:
        await released.wait()
        return OK

    async with bench(tmp_path, front_end=1, sip_cluster=1) as mesh:
        service = Echo("only")
        await mesh.serve("sip_cluster-0", service)
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "only", calls=1))
        service.fault = hold
        service.calls.clear()
        calls: list[asyncio.Task[Answer]] = []

        async def all_there() -> bool:
            return len(service.calls) == len(calls)

        # in steps: with more than 1,000 calls not yet taken up, gRPC's server begins to cancel some at random
        while len(calls) < together:
            calls += [asyncio.create_task(get_call(egress, timeout=60)) for _ in range(300)]
            await until(all_there)
        released.set()
        assert {answer.code for answer in await asyncio.gather(*calls)} == {OK}


async def test_a_frozen_service_is_noticed(tmp_path: Path) -> None:
    """Nothing closes its connection; only pings tell. A call that waits on it ends long before its deadline."""
    program = (
        "import asyncio, sys, grpc\n"
        "from mesh.channels import SERVER_OPTIONS\n"
        "from tests.integration.mesh_envoy.bench import Echo\n"
        "async def main():\n"
        "    server = grpc.aio.server(options=SERVER_OPTIONS)\n"
        "    server.add_generic_rpc_handlers((Echo('frozen'),))\n"
        "    server.add_insecure_port('unix:' + sys.argv[1])\n"
        "    await server.start()\n"
        "    await server.wait_for_termination()\n"
        "asyncio.run(main())\n"
    )
    async with bench(tmp_path, front_end=1, sip_cluster=1) as mesh:
        socket = mesh.instance("sip_cluster-0").nodes[0].listen
        command = Command("service", [sys.executable, "-c", program, socket], base_environment(), REPOSITORY)
        process = await mesh.spawn(command)
        await mesh.announce("sip_cluster-0")
        egress = mesh.egress("front_end-0")
        await until(lambda: reaches(egress, "frozen", calls=1))
        process.stop()
        started = time.monotonic()
        answer = await execute_within(egress, 60.0)
        assert answer.code is not OK
        assert time.monotonic() - started < 30.0
        process.cont()
        await until(lambda: reaches(egress, "frozen", calls=1))
