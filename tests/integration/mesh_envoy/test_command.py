"""`python -m mesh.local` as people run it: its exit codes and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from mesh.local.layout import DEFAULT_COUNTS
from mesh.local.settings import REPOSITORY

NOTHING = [f"--without={service}" for service in DEFAULT_COUNTS]


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Starts the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEMESH_", "ONCE"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh.local",
        *arguments,
        cwd=REPOSITORY,
        env={**kept, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Waits for its end: exit code, output, errors."""
    try:
        out, error = await asyncio.wait_for(process.communicate(), 90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode or 0, out.decode(), error.decode()


async def test_it_stays_up_until_told_and_leaves_with_zero(tmp_path: Path) -> None:
    process = await start("--no-demo", "--net=free", f"--run-dir={tmp_path}", *NOTHING)
    assert process.stdout is not None
    said = []
    async with asyncio.timeout(60):
        while "running; Ctrl-C" not in (line := (await process.stdout.readline()).decode()):
            assert line, "ended early"
            said.append(line)
    assert any("ready: edge" in line for line in said)
    assert any("grpcurl" in line for line in said)
    process.send_signal(signal.SIGINT)
    code, out, error = await finish(process)
    assert (code, error) == (0, "")
    assert "stopping" in out


async def test_once_without_a_call_to_make_ends_by_itself(tmp_path: Path) -> None:
    process = await start("--no-demo", "--net=free", f"--run-dir={tmp_path}", *NOTHING, ONCE="1")
    code, out, _ = await finish(process)
    assert code == 0
    assert "running" not in out


async def test_wrong_settings_are_all_told_and_nothing_is_started(tmp_path: Path) -> None:
    code, _, error = await finish(await start("--count=nobody=1", "--net=5", f"--run-dir={tmp_path}"))
    assert code == 2
    assert "no service is called 'nobody'" in error
    assert "net: 5 is not in" in error
    assert os.listdir(tmp_path) == []


async def test_a_foreign_server_on_a_port_is_told_in_words(tmp_path: Path) -> None:
    """Somebody's etcd listens on all addresses."""
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.249.0.1", 2379))
        foreign.listen()
        code, _, error = await finish(
            await start("--no-demo", "--net=249", f"--run-dir={tmp_path}", *NOTHING)
        )
    assert code == 1
    assert "127.249.0.1:2379 (etcd clients) is taken by" in error
    assert f"process {os.getpid()}" in error
    assert "Traceback" not in error
