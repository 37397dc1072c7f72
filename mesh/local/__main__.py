"""`python -m mesh.local`: starts the platform on this machine, makes the demo call, stays up until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import signal
import sys

from mesh.local.binaries import MissingProgram
from mesh.local.guide import guide
from mesh.local.mesh import LocalMesh, StartFailed
from mesh.local.ports import NetTaken, PortTaken
from mesh.local.run_dir import ForeignFolder
from mesh.local.settings import CommandLine, SettingsError, from_command_line

EXPECTED = (StartFailed, PortTaken, NetTaken, MissingProgram, ForeignFolder)
"""Failures that are told in words, not as a stack of calls."""


async def run(command: CommandLine) -> int:
    """Runs a mesh until told to stop. Gives the exit code."""
    mesh = LocalMesh(command.settings, progress=print)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.ensure_future(_start_and_call(mesh, command))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # stopped before the call was over: as asked, unless the call was all that was asked for
        code = await work if work.done() else int(command.once)
        if work.done() and code == 0 and not command.once:
            print("running; Ctrl-C stops everything")
            await stopping
        return code
    except EXPECTED as error:
        print(f"voicemesh: {error}", file=sys.stderr)
        return 1
    finally:
        work.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError, *EXPECTED):
            await work
        print("stopping")
        await mesh.stop()


async def _start_and_call(mesh: LocalMesh, command: CommandLine) -> int:
    await mesh.start()
    print(guide(mesh))
    if not command.demo or importlib.util.find_spec("demo") is None:
        return 0
    demo = importlib.import_module("demo.call")
    return int(await demo.run(mesh) or 0)


def main() -> int:
    """Exit codes: 0 ended as asked, 1 did not start or the call failed, 2 wrong settings."""
    try:
        command = from_command_line(sys.argv[1:])
    except SettingsError as error:
        for problem in error.problems:
            print(f"voicemesh: {problem}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # progress is for people, also through a pipe
        sys.stdout.reconfigure(line_buffering=True)
    return asyncio.run(run(command))


if __name__ == "__main__":
    sys.exit(main())
