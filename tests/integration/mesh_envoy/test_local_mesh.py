"""A small local mesh with real services: ready, reached through the edge, healed after a kill."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from pathlib import Path

import grpc
import httpx
import pytest
from voice.config.v1 import config_service_pb2, config_service_pb2_grpc, object_pb2
from voice.mesh.v1 import node_service_pb2, node_service_pb2_grpc
from voice.mesh.v1.node_pb2 import NodeState

from mesh.identity import tokens
from mesh.local import LocalMesh, LocalSettings
from mesh.local.guide import guide
from mesh.local.layout import DEFAULT_COUNTS
from mesh.local.mesh import StartFailed
from mesh.local.settings import REPOSITORY


def edge_channel(mesh: LocalMesh) -> grpc.aio.Channel:
    """A client's channel to the edge."""
    credentials = grpc.ssl_channel_credentials(mesh.ca_file.read_bytes())
    return grpc.aio.secure_channel(mesh.edge, credentials, (("grpc.use_local_subchannel_pool", 1),))


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


async def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line as a person pastes it."""
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", line],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def left_behind(pids: list[int | None], folder: Path) -> list[str]:
    """Processes and files that should be gone."""
    found = [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
    return found + [
        path.name for path in folder.iterdir() if path.name not in {".voicemesh-run", "logs", "envoy"}
    ]


async def names_of_dns(channel: grpc.aio.Channel, tenant: str, token: str) -> set[str]:
    """Numbers of a tenant's DNs, asked through the edge."""
    stub = config_service_pb2_grpc.ConfigServiceStub(channel)
    request = config_service_pb2.ListObjectsRequest(tenant=tenant, type=object_pb2.OBJECT_TYPE_DN)
    answer = await stub.ListObjects(request, metadata=(bearer(token),), timeout=5, wait_for_ready=True)
    return {found.dn.number for found in answer.objects}


@pytest.mark.slow
@pytest.mark.feature("XC-02", "XC-15")
async def test_a_mesh_starts_answers_through_the_edge_and_heals(tmp_path: Path) -> None:
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), "config": 1, "redis_queue": 2}
    said: list[str] = []
    settings = LocalSettings(counts=counts, run_dir=tmp_path, net=None)
    async with LocalMesh(settings, said.append) as mesh, edge_channel(mesh) as channel:
        assert any("ready" in line for line in said)
        operator = mesh.token("t1", tokens.OPERATOR)
        nodes = node_service_pb2_grpc.NodeServiceStub(channel)
        for instance in mesh.instances():
            asked = (bearer(operator), ("voicemesh-service", instance.service))
            answer = await nodes.GetNode(node_service_pb2.GetNodeRequest(), metadata=asked, timeout=5)
            assert answer.node.service == instance.service
            assert answer.node.state == NodeState.NODE_STATE_SERVING
            assert all(dependency.up for dependency in answer.dependencies)

        client = mesh.token("t1", tokens.CLIENT)
        assert await names_of_dns(channel, "t1", client)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await names_of_dns(channel, "t2", client)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

        async with httpx.AsyncClient() as scraper:
            for node, address in mesh.metrics.items():
                page = await scraper.get(f"http://{address}/metrics")
                assert page.status_code == 200, node
                assert "voicemesh_" in page.text

        # the lines that people are shown work as they stand
        lines = [line.strip() for line in guide(mesh).splitlines() if "grpcurl" in line]
        assert len(lines) == 3
        for line in lines:
            run = await shell(line)
            assert run.returncode == 0, f"{line}\n{run.stderr}"
            assert "voice." in run.stdout or "objects" in run.stdout

        # what goes wrong says why, by grpcurl and by REST
        wrong = f'{lines[2].partition(" -d ")[0]} -d \'{{"tenant": "t1"}}\' {mesh.edge} voice.config.v1.ConfigService/CreateObject'
        run = await shell(wrong)
        assert run.returncode != 0
        for said_so in ("InvalidArgument", "REASON_INVALID_ATTRIBUTE", '"field": "object"', "trace_id"):
            assert said_so in run.stderr
        context = ssl.create_default_context(cafile=str(mesh.ca_file))
        async with httpx.AsyncClient(verify=context, headers=[bearer(client)]) as rest:
            found = await rest.get(f"https://{mesh.edge}/v1/tenants/t1/objects/OBJECT_TYPE_DN?dbid=999999")
            assert found.status_code == 404
            assert found.json()["details"][0]["reason"] == "REASON_UNKNOWN_OBJECT"

        # a sidecar gone: that node alone is out of reach, for it is the only way in
        await mesh.process("redis_queue-1.envoy").finish(1.0)
        missing = await mesh.missing()
        assert missing.keys() == {"redis_queue-1"}
        assert "no answer through its sidecar" in missing["redis_queue-1"]
        await mesh.process("redis_queue-1.envoy").start()
        await mesh.wait_ready(timeout=30)

        mesh.process("config-0").kill()
        deadline = time.monotonic() + 30
        while not mesh.process("config-0").restarts:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await mesh.wait_ready(timeout=30)
        assert await names_of_dns(channel, "t1", client)
        processes = [process.pid for process in mesh.processes.values()]
    assert left_behind(processes, tmp_path) == []


async def test_a_mesh_that_does_not_become_ready_says_who_is_missing(tmp_path: Path) -> None:
    """A dial plan without Config never serves; the environment of the services is a setting."""
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), "dial_plan": 1}
    settings = LocalSettings(counts=counts, run_dir=tmp_path, net=None, start_timeout=6.0)
    with pytest.raises(
        StartFailed, match=r"not ready after 6 s: 1 nodes missing\n  dial_plan-0: not ready, waits for config"
    ):
        async with LocalMesh(settings):
            pytest.fail("it cannot be ready")


async def test_a_service_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), "dial_plan": 1}
    broken = {"VOICEMESH_LOG_LEVEL": "shouting"}
    settings = LocalSettings(counts=counts, run_dir=tmp_path, net=None, environment=broken)
    with pytest.raises(
        StartFailed, match=r"(?s)dial_plan-0 will not start.*VOICEMESH_LOG_LEVEL: must be one of"
    ):
        async with LocalMesh(settings):
            pytest.fail("it cannot be ready")
