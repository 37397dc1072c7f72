"""CPU of a two-leg call in a SIP node (B2BUA with dial plan and events), beside Sippy b2bua in the same run; and INVITE -> 180 added.

Ours: a local mesh with one proxy, one SIP pod with one engine, Dial Plan, Config, Registrar and two Redis Queue nodes; a trunk dials an
extension. The SIP pod's processes are measured; its sidecar, the proxy, Dial Plan and Redis Queue are rows of their own. Sippy:
b2bua_simple from PyPI in an environment of its own. SIPp at both ends. Added latency: response time to 180 through the platform
less that of SIPp to SIPp.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.harness import (
    ROOT,
    Calls,
    Invalid,
    Result,
    cpu_seconds,
    must_be_free,
    program,
    sipp_uac,
    sipp_uas,
    wait_udp,
)
from tests.e2e.platform import Platform, sipp_phones

RATE, CALLS, WARM = 25, 500, 50
TALK_MS = 300
"""How long a call lasts: Sippy does not answer a BYE that comes right after the ACK, which is then sent again."""
PEER_LOST = 5
"""Calls of `CALLS` that the peer may lose; Sippy loses one now and then."""
COUNTS = {
    "sip_proxy": 1,
    "sip_cluster": 1,
    "tenant": 0,
    "orchestration": 0,
    "front_end": 0,
    "agent_state": 0,
    "call_state": 0,
}
CALLER, PEER, PHONE = ("127.0.62.1", 5060), ("127.0.62.2", 5060), ("127.0.62.3", 5060)
BENCH = "sip_node_udp"


def run() -> Iterator[Result]:
    """Ours and Sippy's CPU a call, latency added, and the rows beside."""
    direct = _direct()
    cpu, calls = asyncio.run(_platform())
    peer = _sippy()
    yield Result(BENCH, "cpu_per_call", "us", cpu["sip_cluster-0"], "sippy b2bua", peer)
    for name in ("sip_cluster-0.envoy", "sip_proxy-0", "dial_plan-0", "redis_queue"):
        yield Result(BENCH, f"cpu_per_call.{name}", "us", cpu[name])
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        added = calls.percentile(share) - direct.percentile(share)
        yield Result("invite_180_added", name, "ms", added)


def _direct() -> Calls:
    """SIPp to SIPp: what the two ends cost by themselves."""
    for address in (CALLER, PHONE):
        must_be_free(address)
    with tempfile.TemporaryDirectory() as folder, program(sipp_uas(PHONE), Path(folder) / "uas.log"):
        wait_udp(PHONE)
        calls = sipp_uac(CALLER, PHONE, "1901", calls=CALLS, rate=RATE, talk_ms=TALK_MS)
        calls.check(CALLS)
    return calls


async def _platform() -> tuple[dict[str, float], Calls]:
    """CPU microseconds a call by process, and what SIPp counted."""
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    with tempfile.TemporaryDirectory() as folder:
        async with Platform(Path(folder) / "mesh", COUNTS, environment) as platform:
            return await asyncio.to_thread(_load, platform)


def _load(platform: Platform) -> tuple[dict[str, float], Calls]:
    with sipp_phones(platform, "t1", ["1901"], answer_ms=0):
        source = (platform.ip(201, 60), 5060)
        sipp_uac(source, platform.proxy, "1901", calls=WARM, rate=20).check(WARM)
        before = _spent(platform)
        calls = sipp_uac(source, platform.proxy, "1901", calls=CALLS, rate=RATE, talk_ms=TALK_MS)
        calls.check(CALLS)
        after = _spent(platform)
    return {name: (after[name] - before[name]) / CALLS * 1e6 for name in before}, calls


def _spent(platform: Platform) -> dict[str, float]:
    processes = platform.mesh.processes
    groups = {
        "sip_cluster-0": ["sip_cluster-0"],
        "sip_cluster-0.envoy": ["sip_cluster-0.envoy"],
        "sip_proxy-0": ["sip_proxy-0"],
        "dial_plan-0": ["dial_plan-0"],
        "redis_queue": [
            name for name in processes if name.startswith("redis_queue") and not name.endswith("envoy")
        ],
    }
    return {
        group: cpu_seconds([pid for name in names if (pid := processes[name].pid) is not None])
        for group, names in groups.items()
    }


def _sippy() -> float:
    """CPU microseconds a call of Sippy's b2bua."""
    python = ROOT / ".tools" / "sippy" / "bin" / "python"
    if not python.exists():
        subprocess.run(["python3", "-m", "venv", str(python.parents[1])], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "sippy==2.5.0"]
        if subprocess.run(pip, check=False).returncode != 0:
            raise Invalid("sippy could not be installed")
    for address in (CALLER, PEER, PHONE):
        must_be_free(address)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        command = [
            str(python), "-m", "sippy.b2bua_simple", "-f", "-l", PEER[0], "-p", str(PEER[1]), "-n", f"{PHONE[0]}:{PHONE[1]}",
        ]  # fmt: skip
        environment = {"SIPLOG_LOGFILE_FILE": str(logs / "sip.log"), "SIPLOG_LVL": "ERR"}
        with (
            program(command, logs / "sippy.log", **environment) as sippy,
            program(sipp_uas(PHONE), logs / "uas.log"),
        ):
            wait_udp(PEER)
            wait_udp(PHONE)
            sipp_uac(CALLER, PEER, "1901", calls=WARM, rate=20)
            before = cpu_seconds([sippy.pid])
            calls = sipp_uac(CALLER, PEER, "1901", calls=CALLS, rate=RATE, talk_ms=TALK_MS)
            calls.check(CALLS, lost=PEER_LOST)
            return (cpu_seconds([sippy.pid]) - before) / calls.successful * 1e6
