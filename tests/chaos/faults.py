"""Doing to processes what a schedule says, and undoing it however the run ends.

kill       SIGKILL to the process and its children; the supervisor starts it again. A member of etcd: done when it serves again
freeze     SIGSTOP, SIGCONT after a while
drain      SIGTERM; done when it serves again
cut        no packet from or to it for a while (network.py)
skew       its wall clock is off from now on (clock_skew.c)
stutter    it stands still for a share of each tenth of a second
disk_full  Redis cannot write its log for a while
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import redis.asyncio

from mesh.local import LocalMesh, ManagedProcess
from tests.chaos import members, network
from tests.chaos.disk import full_disk
from tests.chaos.facts import Struck
from tests.chaos.schedule import LEADER, Fault, Schedule

HERE = Path(__file__).resolve().parent
STUTTER_S = 0.1
"""Period of a stutter, seconds."""
BACK_S = 60.0
"""Longest wait for a process that was ended to serve again, seconds."""
PRIMARY = "redis-primary"
"""In a schedule: whichever Redis is the primary at that moment."""


class Striker:
    """Carries out faults on one mesh. `close` heals what is left."""

    def __init__(self, mesh: LocalMesh, folder: Path, say: Callable[[str], None]) -> None:
        self.struck: list[Struck] = []
        self._mesh = mesh
        self._folder = folder
        self._say = say
        self._groups: dict[str, int] = {}
        self._cuts: set[str] = set()
        self._frozen: dict[str, int] = {}

    # -- before ------------------------------------------------------------------------------------------

    async def prepare(self, schedule: Schedule) -> None:
        """Starts again what needs it for its fault: under a group id of its own, with a clock that can be moved."""
        again: set[str] = set()
        for fault in schedule.faults:
            if fault.kind == "cut" and fault.process not in self._groups:
                self._groups[fault.process] = network.group_id(self._mesh.layout.net, len(self._groups))
                for name in (fault.process, f"{fault.process}.envoy"):
                    self._under_group(self._mesh.process(name), self._groups[fault.process])
                    again.add(name)
            if fault.kind == "skew":
                self._with_clock(self._mesh.process(fault.process))
                again.add(fault.process)
        for name in sorted(again):
            process = self._mesh.process(name)
            await process.finish(5.0)
            await process.start()
        if again:
            await self._mesh.wait_ready(BACK_S)

    def _under_group(self, process: ManagedProcess, group: int) -> None:
        process.command = replace(process.command, argv=network.in_group(process.command.argv, group))

    def _with_clock(self, process: ManagedProcess) -> None:
        library = self._folder / "clock_skew.so"
        if not library.exists():
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "clock_skew.c"), "-ldl"],
                check=True,
            )
        self._set_clock(process.name, 0.0)
        environment = {"LD_PRELOAD": str(library), "VOICEMESH_CLOCK_SKEW": str(self._clock(process.name))}
        process.command = replace(process.command, environment={**process.command.environment, **environment})

    def _clock(self, name: str) -> Path:
        return self._folder / f"{name}.clock"

    def _set_clock(self, name: str, seconds: float) -> None:
        with self._clock(name).open("r+b" if self._clock(name).exists() else "wb") as file:
            file.write(struct.pack("=q", round(seconds * 1e9)))

    # -- the faults --------------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Does it, waits until it is over, notes it. A process that does not run at that moment is left alone."""
        named = await self._named(fault)
        process = self._mesh.process(named.process)
        began = time.time()
        self._say(f"{named}")
        actions: dict[str, Callable[[Fault, ManagedProcess], Awaitable[None]]] = {
            "kill": self._kill, "freeze": self._freeze, "drain": self._drain, "cut": self._cut, "skew": self._skew,
            "stutter": self._stutter, "disk_full": self._disk_full,
        }  # fmt: skip
        with contextlib.suppress(ProcessLookupError):
            await actions[named.kind](named, process)
            self.struck.append(Struck(named.kind, named.process, began, time.time()))

    async def _named(self, fault: Fault) -> Fault:
        if fault.process == PRIMARY:
            return replace(fault, process=await primary(self._mesh))
        if fault.process == LEADER:
            return replace(fault, process=await members.leader(self._mesh, BACK_S))
        return fault

    async def _kill(self, fault: Fault, process: ManagedProcess) -> None:
        started = process.restarts
        process.kill()
        await self._back(process, started)

    async def _back(self, process: ManagedProcess, started: int) -> None:
        """Waits until it runs again; a member of etcd, which others stand on, until it serves."""
        await _until(lambda: process.restarts > started and process.running)
        if address := members.addresses(self._mesh).get(process.name):
            async with asyncio.timeout(BACK_S):
                while not await members.serves(address):
                    await asyncio.sleep(0.1)

    async def _freeze(self, fault: Fault, process: ManagedProcess) -> None:
        pid = process.pid
        process.stop()
        self._frozen[fault.process] = pid or 0
        await asyncio.sleep(fault.seconds)
        self._thaw(fault.process)

    def _thaw(self, name: str) -> None:
        process, pid = self._mesh.process(name), self._frozen.pop(name, 0)
        if pid and process.pid == pid:
            process.cont()

    async def _drain(self, fault: Fault, process: ManagedProcess) -> None:
        started = process.restarts
        process.terminate()
        await self._back(process, started)
        await self._mesh.wait_ready(BACK_S)

    async def _cut(self, fault: Fault, process: ManagedProcess) -> None:
        place = self._place(fault.process)
        self._cuts.add(fault.process)
        await asyncio.to_thread(network.cut, *place)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(network.join, *place)
        self._cuts.discard(fault.process)

    def _place(self, name: str) -> tuple[int, int, list[str]]:
        addresses = [instance.ip for instance in self._mesh.instances() if instance.name == name]
        return self._mesh.layout.net, self._groups[name], addresses

    async def _skew(self, fault: Fault, process: ManagedProcess) -> None:
        self._set_clock(fault.process, fault.amount)

    async def _stutter(self, fault: Fault, process: ManagedProcess) -> None:
        until = time.monotonic() + fault.seconds
        still = STUTTER_S * fault.amount
        pid = process.pid
        try:
            while time.monotonic() < until and process.pid == pid:
                process.stop()
                self._frozen[fault.process] = pid or 0
                await asyncio.sleep(still)
                self._thaw(fault.process)
                await asyncio.sleep(STUTTER_S - still)
        finally:
            self._thaw(fault.process)

    async def _disk_full(self, fault: Fault, process: ManagedProcess) -> None:
        address = self._mesh.layout.redis if fault.process == "redis" else self._mesh.layout.redis_replica
        async with full_disk(address, self._folder / "full"):
            await asyncio.sleep(fault.seconds)

    # -- after -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Heals: nothing is frozen or cut off any more. Clocks stay."""
        for name in list(self._frozen):
            with contextlib.suppress(ProcessLookupError):
                self._thaw(name)
        for name in list(self._cuts):
            network.join(*self._place(name))


async def primary(mesh: LocalMesh) -> str:
    """Name of the process that is the Redis primary. Waits while there is none, or while an old one does not know yet that
    it has been replaced. TimeoutError after BACK_S."""
    addresses = {"redis": mesh.layout.redis, "redis-replica": mesh.layout.redis_replica}
    async with asyncio.timeout(BACK_S):
        while True:
            found = [name for name, address in addresses.items() if await role(address) == "master"]
            if len(found) == 1:
                return found[0]
            await asyncio.sleep(0.2)


async def role(address: str) -> str:
    """What a Redis says it is: "master", "slave"; empty when it does not answer."""
    host, _, port = address.rpartition(":")
    client = redis.asyncio.Redis(host=host, port=int(port), socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return str((await client.info("replication"))["role"])
    except (redis.RedisError, OSError, TimeoutError):
        return ""
    finally:
        await client.aclose()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BACK_S):
        while not condition():
            await asyncio.sleep(0.05)
