"""Service nodes as processes of their own, without sidecars: they listen on a Unix socket and call each other's
directly, so nobody says who a caller is (VOICEMESH_REQUIRE_PEER=0)."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.servers import end, environment, loopback, wait_until

ROOT = Path(__file__).parents[2]
START_S = 40.0
DEMO = "demo/tenants"
"""Folder of the demo tenants, from the repository's root."""


def observable() -> dict[str, str]:
    """Settings of a node whose metrics are read: an address of its own, where the port is nobody else's."""
    return {"BIND_IP": loopback(), "METRICS_PORT": "9100"}


class NodeProcess:
    """One `python -m services.<service>` with a folder of its own."""

    def __init__(self, service: str, index: int = 0, **variables: str) -> None:
        """`variables`: further VOICEMESH_ settings, without that prefix."""
        self.service = service
        self.module = f"services.{service}"
        """What is run: another module may stand in for the service."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"vm-{service[:6]}-"))
        self.socket = self.folder / "s"
        self.target = f"unix:{self.socket}"
        settings = {
            "NODE": f"{service}-{index}",
            "LISTEN": str(self.socket),
            "RUN_DIR": str(self.folder / "run"),
            "BIND_IP": "127.0.0.1",
            "REQUIRE_PEER": "0",
            **variables,
        }
        self._settings = settings
        self._environment = environment(**{f"VOICEMESH_{name}": value for name, value in settings.items()})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> NodeProcess:
        """Starts it and, unless told otherwise, waits until it serves."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=self._environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_serving()
        return self

    def wait_serving(self) -> None:
        """Returns when the node says SERVING."""
        wait_until(self.serving, START_S, lambda: f"{self.service} serving: {self.log()[-3000:]}")

    def serving(self) -> bool:
        """Whether the node says SERVING now."""
        with grpc.insecure_channel(self.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text(errors="replace")

    def metrics(self) -> str:
        """What Prometheus reads; the node was started with `observable()`."""
        url = f"http://{self._settings['BIND_IP']}:{self._settings['METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def terminate(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(20)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9 (also a paused one)."""
        if self.process is not None:
            end(self.process)
            self.process = None
