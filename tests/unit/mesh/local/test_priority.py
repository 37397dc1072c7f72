"""What everybody waits for is started with less niceness, and so is all that it starts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mesh.local import etcd_group, redis_group
from mesh.local.layout import Layout
from mesh.local.priority import STORES
from mesh.local.process import Command, ManagedProcess


def test_stores_go_before_everything_else(tmp_path: Path) -> None:
    layout = Layout(10, Path("/run/s"), etcd_size=3)
    stores = [*etcd_group.commands(layout, tmp_path, {}), *redis_group.commands(layout, tmp_path, {})]
    assert {command.name.partition("-")[0] for command in stores} == {"etcd", "redis"}
    assert {command.niceness for command in stores} == {STORES}
    assert STORES < 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may go below its own niceness")
async def test_a_process_and_its_children_run_with_its_niceness(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    command = Command("nice", ["sh", "-c", f"sh -c nice > {file}; sleep 60"], dict(os.environ), niceness=-5)
    process = ManagedProcess(command, tmp_path / "log", lambda _: None, lambda _: None)
    await process.start()
    try:
        async with asyncio.timeout(10):
            while not file.exists() or not file.read_text().strip():
                await asyncio.sleep(0.01)
        assert int(file.read_text()) == os.getpriority(os.PRIO_PROCESS, 0) - 5
        assert process.pid is not None
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0) - 5
    finally:
        await process.finish(5)
