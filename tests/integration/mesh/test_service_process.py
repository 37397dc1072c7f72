"""A service as a process: in the mesh over real etcd and Redis, stopped by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from voice.mesh.v1 import node_service_pb2 as node
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceStub

from mesh import channels
from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer

ROOT = Path(__file__).resolve().parents[3]


async def eventually(what: Callable[[], Any], seconds: float = 40.0) -> Any:
    """Waits until `what()` gives something true, and returns that."""
    async with asyncio.timeout(seconds):
        while True:
            found = await what()
            if found:
                return found
            await asyncio.sleep(0.02)


class Process:
    """The probe service with what is needed to look at it."""

    def __init__(
        self, process: asyncio.subprocess.Process, folder: Path, etcd: Etcd | None, region: str
    ) -> None:
        self.process = process
        self.folder = folder
        self._etcd = etcd
        self._region = region

    async def record(self) -> NodeRecord | None:
        """Its node record in etcd."""
        assert self._etcd is not None
        found = await self._etcd.get_prefix(f"/voicemesh/{self._region}/probe/nodes/")
        return NodeRecord.FromString(found.items[0].value) if found.items else None

    async def state(self) -> int:
        """The state it announces; -1 without a record."""
        record = await self.record()
        return record.state if record else -1

    async def ended(self) -> int:
        """Its exit code."""
        return await asyncio.wait_for(self.process.wait(), 60)

    def log(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


@contextlib.asynccontextmanager
async def probe(
    folder: Path, etcd: Etcd | None = None, region: str = "test", /, **env: str
) -> AsyncIterator[Process]:
    """Starts the probe; whatever happens it is gone at the end."""
    environment = {
        "PATH": os.environ["PATH"],
        "VOICEMESH_REGION": region,
        "VOICEMESH_LISTEN": str(folder / "s"),
        "VOICEMESH_RUN_DIR": str(folder),
        "VOICEMESH_ADDRESS": "127.0.0.1:1",
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.mesh.probe_service",
            cwd=ROOT, env=environment | env, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield Process(process, folder, etcd, region)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_a_node_joins_serves_drains_and_leaves(
    tmp_path: Path, etcd: Etcd, etcd_server: EtcdServer, redis_server: RedisServer, region: str
) -> None:
    backends = {"VOICEMESH_ETCD": etcd_server.endpoint, "VOICEMESH_REDIS": redis_server.url}
    async with probe(tmp_path, etcd, region, **backends) as running:

        async def serving() -> bool:
            return await running.state() == NodeState.NODE_STATE_SERVING

        await eventually(serving)
        async with channels.direct(f"unix:{tmp_path}/s") as channel:
            said = await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=5)
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
        record = await running.record()
        assert record == said.node
        assert record is not None
        assert record.address == "127.0.0.1:1"
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert {d.name: d.up for d in said.dependencies} == {"etcd": True, "redis": True}
        assert 0 < said.lease_left_ms <= 2000

        (tmp_path / "hold").touch()
        running.process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            return await running.state() == NodeState.NODE_STATE_DRAINING

        await eventually(draining)
        (tmp_path / "hold").unlink()
        assert await running.ended() == 0
        assert await running.record() is None
    assert (tmp_path / "drained").exists()
    assert not (tmp_path / "s").exists()
    assert running.log()[-1]["event"] == "stopped"


async def test_an_outage_of_redis_is_shown_and_does_not_end_serving(
    tmp_path: Path, etcd: Etcd, etcd_server: EtcdServer, own_redis: Callable[..., RedisServer], region: str
) -> None:
    """Every node has the same Redis: taking all of them out of service would help nobody. To begin it is needed."""
    redis = own_redis()
    redis.pause()
    backends = {"VOICEMESH_ETCD": etcd_server.endpoint, "VOICEMESH_REDIS": redis.url}
    async with probe(tmp_path, etcd, region, **backends) as running:

        async def dependencies() -> dict[str, bool]:
            async with channels.direct(f"unix:{tmp_path}/s") as channel:
                try:
                    said = await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=5)
                except grpc.aio.AioRpcError:
                    return {}
            return {dependency.name: dependency.up for dependency in said.dependencies}

        async def health() -> object:
            async with channels.direct(f"unix:{tmp_path}/s") as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status

        async def serving() -> bool:
            return await running.state() == NodeState.NODE_STATE_SERVING

        async def without_redis() -> bool:
            return await dependencies() == {"etcd": True, "redis": False}

        await eventually(without_redis)
        assert await running.state() == NodeState.NODE_STATE_NOT_READY
        assert await health() == health_pb2.HealthCheckResponse.NOT_SERVING
        redis.resume()
        await eventually(serving)
        redis.pause()
        await eventually(without_redis)
        assert await serving()
        assert await health() == health_pb2.HealthCheckResponse.SERVING
        redis.resume()
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == 0


async def test_wrong_settings_end_with_2_and_every_problem(tmp_path: Path) -> None:
    wrong = {"VOICEMESH_CAPACITY": "many", "VOICEMESH_METRICS_PORT": "x"}
    async with probe(tmp_path, None, **wrong) as running:
        assert await running.ended() == 2
    said = (tmp_path / "log").read_text()
    assert said.splitlines() == [
        "probe: VOICEMESH_METRICS_PORT: must be a whole number",
        "probe: VOICEMESH_CAPACITY: must be a whole number",
    ]


async def test_a_missing_setting_that_the_service_needs_ends_with_2(tmp_path: Path) -> None:
    async with probe(tmp_path) as running:
        assert await running.ended() == 2
    assert (tmp_path / "log").read_text().splitlines() == ["probe: VOICEMESH_REDIS: missing"]


async def test_a_failed_start_ends_with_1_and_leaves_no_record(
    tmp_path: Path, etcd: Etcd, etcd_server: EtcdServer, redis_server: RedisServer, region: str
) -> None:
    backends = {"VOICEMESH_ETCD": etcd_server.endpoint, "VOICEMESH_REDIS": redis_server.url}
    async with probe(tmp_path, etcd, region, VOICEMESH_PROBE_FAIL="start", **backends) as running:
        assert await running.ended() == 1
        assert await running.record() is None
    errors = [line for line in running.log() if line["event"] == "could not start"]
    assert "told to fail" in errors[0]["exception"]


async def test_a_failed_build_ends_with_1_and_says_why(tmp_path: Path) -> None:
    async with probe(tmp_path, None, "test", VOICEMESH_PROBE_FAIL="build") as running:
        assert await running.ended() == 1
    (line,) = running.log()
    assert line["event"] == "could not start"
    assert "told to fail in build" in line["exception"]


async def test_recorded_spans_are_written_before_the_process_ends(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    trace_file = tmp_path / "spans"
    env = {"VOICEMESH_REDIS": redis_server.url, "VOICEMESH_TRACE_FILE": str(trace_file)}
    async with probe(tmp_path, None, **env) as running:
        async with channels.direct(f"unix:{tmp_path}/s") as channel:
            await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=60, wait_for_ready=True)
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    (span,) = [json.loads(line) for line in trace_file.read_text().splitlines()]
    assert span["name"] == "NodeService.GetNode"
    assert span["resource"]["attributes"]["service.instance.id"] == "probe-0"
