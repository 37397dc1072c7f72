"""Supervision of a local mesh's processes with real ones: restart, freeze, end, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.local import ports
from mesh.local.commands import base_environment
from mesh.local.process import Command, ManagedProcess
from mesh.local.settings import REPOSITORY
from tests.integration.mesh_envoy.bench import until

CHILD = "import subprocess, sys; subprocess.Popen(['sleep', '1000']); print('up', flush=True); "


@contextlib.asynccontextmanager
async def managed(folder: Path, program: str) -> AsyncIterator[tuple[ManagedProcess, list[str]]]:
    """A supervised Python program, and what was said of it."""
    said: list[str] = []
    command = Command("program", [sys.executable, "-S", "-c", program], base_environment())
    process = ManagedProcess(command, folder / "logs" / "program.log", lambda line: None, said.append)
    await process.start()
    try:
        yield process, said
    finally:
        await process.finish(2.0)


def state(pid: int) -> str:
    """Process state as /proc tells it: R, S, T, Z, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return "gone"


def children(pid: int) -> list[int]:
    """Children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def logged(process: ManagedProcess, times: int = 1) -> None:
    """Waits until the program has said that it is up."""

    async def up() -> bool:
        return process.tail().count("up") >= times

    await until(up)


async def test_a_killed_process_comes_back_and_its_children_do_not_stay(tmp_path: Path) -> None:
    async with managed(tmp_path, CHILD + "sys.stdin.read(); import time; time.sleep(1000)") as (
        process,
        said,
    ):
        await logged(process)
        first = process.pid
        assert first is not None
        (child,) = children(first)
        process.kill()

        async def back() -> bool:
            return process.pid not in {None, first}

        await until(back)
        assert process.restarts == 1
        assert state(child) in {"gone", "Z"}
        assert "signal SIGKILL" in said[0]


async def test_a_frozen_process_is_frozen_and_goes_on(tmp_path: Path) -> None:
    async with managed(tmp_path, "print('up', flush=True); import time; time.sleep(1000)") as (process, _):
        await logged(process)
        pid = process.pid
        assert pid is not None
        process.stop()

        async def frozen() -> bool:
            return state(pid) == "T"

        await until(frozen)
        process.cont()

        async def going() -> bool:
            return state(pid) == "S"

        await until(going)
        assert process.pid == pid


async def test_a_process_that_ignores_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    async with managed(tmp_path, program) as (process, said):
        await logged(process)
        pid = process.pid
        assert pid is not None
        await process.finish(0.3)
        assert state(pid) in {"gone", "Z"}
        assert not process.running
        assert said == []
        with pytest.raises(ProcessLookupError):
            process.kill()


async def test_a_process_that_keeps_ending_waits_longer_each_time(tmp_path: Path) -> None:
    async with managed(tmp_path, "raise SystemExit(3)") as (process, said):

        async def thrice() -> bool:
            return len(process.exits) >= 3

        await until(thrice)
        assert [code for _, code in process.exits][:3] == [3, 3, 3]
        gaps = [
            later[0] - earlier[0]
            for earlier, later in zip(process.exits, list(process.exits)[1:], strict=False)
        ]
        assert gaps[1] > gaps[0] >= 0.2
        assert "exit code 3" in said[0]


async def test_a_process_that_waits_for_its_next_start_is_ended_at_once(tmp_path: Path) -> None:
    async with managed(tmp_path, "raise SystemExit(3)") as (process, said):

        async def waiting() -> bool:
            return len(said) >= 4

        await until(waiting)
        started = time.monotonic()
        await process.finish(5.0)
        assert time.monotonic() - started < 1.0
        assert not process.running


STARTER = """
import asyncio, sys
from pathlib import Path
from mesh.local import LocalMesh, LocalSettings
from mesh.local.layout import DEFAULT_COUNTS

async def main():
    settings = LocalSettings(counts=dict.fromkeys(DEFAULT_COUNTS, 0), run_dir=Path(sys.argv[1]), net=None)
    async with LocalMesh(settings) as mesh:
        print(mesh.layout.net, *(process.pid for process in mesh.processes.values()), flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_whatever_ends_a_mesh_nothing_of_it_is_left(tmp_path: Path, number: signal.Signals) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTER,
        str(tmp_path / "run"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert program.stdout is not None
    line = await asyncio.wait_for(program.stdout.readline(), 60)
    net, *pids = [int(word) for word in line.split()]
    assert len(pids) == 8
    assert all(state(pid) not in {"gone", "Z"} for pid in pids)
    with pytest.raises(ports.NetTaken, match=str(program.pid)):
        ports.take_net(net)
    os.kill(program.pid, number)
    await program.wait()

    async def gone() -> bool:
        return all(state(pid) in {"gone", "Z"} for pid in pids)

    await until(gone)
    lock = ports.take_net(net)
    lock.release()

    async def sockets_gone() -> bool:
        return not list((tmp_path / "run").glob("s/*"))

    await until(sockets_gone)


async def test_an_address_taken_by_somebody_else_is_named_with_its_holder() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.240.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(
            ports.PortTaken, match=f"127.240.0.1:{port} .etcd clients. is taken by .*process {os.getpid()}"
        ):
            ports.check([ports.Need(f"127.240.0.1:{port}", "etcd clients")])
    finally:
        server.close()
        await server.wait_closed()
    ports.check([ports.Need(f"127.240.0.1:{port}", "etcd clients")])
