"""A disk that is full: Redis writes its log to a small file system, which is then filled to the last byte."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio

SIZE_MB = 64
"""Size of the file system: the log's rewrite must fit, then little more."""
REWRITE_S = 20.0


@contextlib.asynccontextmanager
async def full_disk(address: str, folder: Path) -> AsyncIterator[None]:
    """Within the block the Redis at `address` finds no room for its append-only file. Needs root."""
    host, _, port = address.rpartition(":")
    client = redis.asyncio.Redis(host=host, port=int(port))
    await _run("mkdir", "-p", str(folder))
    await _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "none", str(folder))
    try:
        before = (await client.config_get("dir"))["dir"]
        await _log_in(client, str(folder))
        ballast = folder / "ballast"
        try:
            await asyncio.to_thread(_fill, ballast)
            yield
        finally:
            ballast.unlink(missing_ok=True)
            await _log_in(client, str(before))
    finally:
        await client.aclose()
        await _run("umount", "-l", str(folder))


async def _log_in(client: redis.asyncio.Redis, folder: str) -> None:
    """Lets Redis keep its log in another folder from now on; returns when it is written."""
    await client.config_set("appendonly", "no")
    await client.config_set("dir", folder)
    await client.config_set("appendonly", "yes")
    async with asyncio.timeout(REWRITE_S):
        while True:
            state = await client.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(0.05)


def _fill(file: Path) -> None:
    block = b"\0" * 65536
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as out:
        while True:
            if out.write(block) < len(block):
                return


async def _run(*argv: str) -> None:
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
