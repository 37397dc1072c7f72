"""SIP nodes as processes."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.integration.servers import end, environment


def new_region() -> str:
    """A region of a test's own; letters only, since the digits at the end of a region's name are its number."""
    return "sip-" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8))


class Engine:
    """One engine process."""

    def __init__(
        self, index: int, host: str, region: str, etcd: str, redis: str, egress: Path, **more: str
    ) -> None:
        self.host = host
        self.sip = (host, 5060)
        self.listen = egress.parent / f"node-{index}.sock"
        self.log = egress.parent / f"node-{index}.log"
        self.variables = {
            "VOICEMESH_REGION": region,
            "VOICEMESH_SERVICE": "sip_cluster",
            "VOICEMESH_NODE": f"sip_cluster-{index}",
            "VOICEMESH_BIND_IP": host,
            "VOICEMESH_ADDRESS": f"{host}:7000",
            "VOICEMESH_LISTEN": str(self.listen),
            "VOICEMESH_EGRESS": f"unix:{egress}",
            "VOICEMESH_ETCD": etcd,
            "VOICEMESH_REDIS": redis,
            "VOICEMESH_METRICS_PORT": "9100",
            "VOICEMESH_SIP_ADDRESS": f"{host}:5060",
            "VOICEMESH_SIP_CLUSTER_DIRECT": "1",
            "VOICEMESH_REQUIRE_PEER": "0",
            "VOICEMESH_CAPACITY": "100",
            "VOICEMESH_DRAIN_SECONDS": "15",
            **more,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, module: str = "services.sip_cluster.engine") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], stdout=log, stderr=log, env=environment(**self.variables)
            )

    def metrics(self, port: int = 9100) -> dict[str, float]:
        """All samples by name and labels, as the text format writes them."""
        with urllib.request.urlopen(f"http://{self.host}:{port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def healthy(self, port: int = 9100) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ready(self, slots: int = 1024, seconds: float = 40.0) -> None:
        """Waits until the node serves and owns that many slots."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process is not None and self.process.poll() is None, self.text()
            if self.healthy() and self.metrics().get("voicemesh_sip_cluster_slots", 0) >= slots:
                return
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def text(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-6000:]

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process is not None:
            end(self.process)
