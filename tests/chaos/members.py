"""What the members of etcd say of themselves: which of them leads, whether one serves, what each holds."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping

from mesh.etcd import Etcd
from mesh.local import LocalMesh
from mesh.local.layout import ETCD_PORT

ANSWER_S = 2.0
"""Longest wait for one answer, seconds."""
POLL_S = 0.1


def addresses(mesh: LocalMesh) -> dict[str, str]:
    """Process name -> host:port of each member."""
    return {name: f"{ip}:{ETCD_PORT}" for name, ip in mesh.layout.etcd_members.items()}


async def serves(address: str) -> bool:
    """Whether the member there serves: it has a leader, and a read that needs the quorum was answered."""
    return '"health":"true"' in await _asked(address, "/health")


async def leader(mesh: LocalMesh, seconds: float) -> str:
    """Name of the member that leads. Waits while there is none, TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            for name, address in addresses(mesh).items():
                if "\netcd_server_is_leader 1\n" in await _asked(address, "/metrics"):
                    return name
            await asyncio.sleep(POLL_S)


async def hashes(mesh: LocalMesh, seconds: float) -> Mapping[str, int]:
    """Hash of everything each member holds, all at one revision. Waits for members that are behind; TimeoutError after
    `seconds`."""
    etcd = Etcd(mesh.etcd)
    try:
        _, revision = await etcd.identity()
    finally:
        await etcd.close()
    body = json.dumps({"revision": str(revision)}).encode()
    found: dict[str, int] = {}
    async with asyncio.timeout(seconds):
        while missing := addresses(mesh).keys() - found.keys():
            for name in missing:
                answer = await _asked(addresses(mesh)[name], "/v3/maintenance/hash", body)
                if '"hash"' in answer:
                    found[name] = int(json.loads(answer)["hash"])
            await asyncio.sleep(POLL_S)
    return found


async def _asked(address: str, path: str, body: bytes | None = None) -> str:
    """The answer over HTTP; empty without one, and when it is a refusal."""
    return await asyncio.to_thread(_read, urllib.request.Request(f"http://{address}{path}", body))


def _read(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return str(answer.read().decode())
    except OSError:  # URLError, HTTPError and a timeout are some
        return ""
