"""What the members of etcd say of themselves: which of them leads, whether one serves, what each holds."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
from collections.abc import Mapping

import grpc.aio
from etcdserverpb import rpc_pb2 as pb
from etcdserverpb import rpc_pb2_grpc as rpc

from mesh.etcd import Etcd
from mesh.etcd_values import CHANNEL_OPTIONS
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


async def digests(mesh: LocalMesh, seconds: float) -> Mapping[str, str]:
    """Digest of every key each member holds, all as they were at one revision. A member that is behind catches up first;
    EtcdError and AioRpcError when one does not answer within `seconds`."""
    etcd = Etcd(mesh.etcd)
    try:
        _, revision = await etcd.identity()
    finally:
        await etcd.close()
    return {name: await _digest(address, revision, seconds) for name, address in addresses(mesh).items()}


async def _digest(address: str, revision: int, seconds: float) -> str:
    """A linearizable read waits until the member asked has everything; what it tells then is its own copy."""
    everything = pb.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        answer = await rpc.KVStub(channel).Range(everything, timeout=seconds)
    found = hashlib.sha256()
    for item in answer.kvs:
        found.update(item.SerializeToString(deterministic=True))
    return found.hexdigest()


async def _asked(address: str, path: str) -> str:
    """The answer over HTTP; empty without one, and when it is a refusal."""
    return await asyncio.to_thread(_read, f"http://{address}{path}")


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            return str(answer.read().decode())
    except OSError:  # URLError, HTTPError and a timeout are some
        return ""
