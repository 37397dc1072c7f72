"""Nodes of one small service as processes (`node_process.py`), and a directory that watches them as any client does."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from mesh.discovery import Directory
from mesh.etcd import Etcd
from tests.integration.servers import environment

COUNT = 128
TTL_S = 2.0
Event = dict[str, Any]


class NodeProcess:
    """A node, and everything it has said."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.events: list[Event] = []
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(
        self, etcd: str, redis_url: str, region: str, settle_s: float = 0.3, *, renews: bool = False
    ) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.mesh.node_process",
            *(etcd, redis_url, region, self.incarnation, str(COUNT), str(settle_s)),
            "renews" if renews else "releases",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.events.append(json.loads(line))

    def tell(self, command: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def of(self, what: str, **fields: object) -> list[Event]:
        return [
            event
            for event in self.events
            if event["what"] == what and all(event.get(name) == value for name, value in fields.items())
        ]

    async def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        if self.process is not None:
            await self.process.wait()
        if self._reading is not None:
            await self._reading


class Cluster:
    """Nodes of one service, and a directory that watches them as any client does."""

    def __init__(self, etcd_endpoint: str, redis_url: str, region: str) -> None:
        self.endpoint, self.redis_url, self.region = etcd_endpoint, redis_url, region
        self.etcd = Etcd(etcd_endpoint)
        self.directory = Directory(self.etcd, region, "sip_cluster")
        self.nodes: list[NodeProcess] = []

    async def add(self, *incarnations: str, settle_s: float = 0.3, renews: bool = False) -> list[NodeProcess]:
        added = [NodeProcess(incarnation) for incarnation in incarnations]
        self.nodes += added
        await asyncio.gather(
            *(
                node.start(self.endpoint, self.redis_url, self.region, settle_s, renews=renews)
                for node in added
            )
        )
        await until(lambda: all(node.of("joined") for node in added), 60, "nodes did not start")
        return added

    def loads(self) -> Counter[str]:
        owners = (self.directory.owner(slot) for slot in range(COUNT))
        return Counter(owner.incarnation for owner in owners if owner is not None)

    def describe(self) -> str:
        """What is seen from outside and what the nodes have said, for a test that fails."""
        said = {node.incarnation: Counter(event["what"] for event in node.events) for node in self.nodes}
        live = [record.incarnation for record in self.directory.nodes()]
        return f"owners {dict(self.loads())}, live {live}, nodes said {said}"

    def even(self, *incarnations: str) -> Callable[[], bool]:
        """Whether exactly these nodes own all slots, evenly, and serve them."""

        def check() -> bool:
            loads = self.loads()
            return (
                set(loads) == set(incarnations)
                and sum(loads.values()) == COUNT
                and max(loads.values()) - min(loads.values()) <= 1
                and all(self._served(slot) for slot in range(COUNT))
            )

        return check

    def _served(self, slot: int) -> bool:
        owner = self.directory.owner(slot)
        nodes = [node for node in self.nodes if owner and node.incarnation == owner.incarnation]
        epoch = self.directory.epoch(slot)
        return bool(
            nodes
            and (
                nodes[0].of("acquired", slot=slot, epoch=epoch)
                or nodes[0].of("renewed", slot=slot, epoch=epoch)
            )
        )

    async def owned(self) -> list[int]:
        """Slots that nodes with a good lease say they serve, each as often as it is served."""
        before = [len(node.of("owned")) for node in self.nodes]
        for node in self.nodes:
            node.tell("owned")
        counts = list(zip(self.nodes, before, strict=True))
        await until(lambda: all(len(node.of("owned")) > count for node, count in counts), 5)
        said = [node.of("owned")[-1] for node in self.nodes]
        return sorted(slot for answer in said if answer["good"] for slot in answer["slots"])

    def holders(self) -> list[tuple[int, int, str, int, int]]:
        """(slot, epoch, node, from, until) of every time a slot was held, ns; until is far off when it still is."""
        held = []
        for node in self.nodes:
            for event in node.of("acquired"):
                slot, epoch = event["slot"], event["epoch"]
                ends = [end["at"] for end in node.of("released", slot=slot, epoch=epoch)]
                held.append((slot, epoch, node.incarnation, event["at"], min(ends, default=1 << 62)))
        return held

    async def close(self) -> None:
        await asyncio.gather(*(node.end() for node in self.nodes))
        await self.directory.stop()
        await self.etcd.close()


async def until(condition: Callable[[], bool], seconds: float, what: object = "") -> float:
    """Seconds until the condition held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, what() if callable(what) else what
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def until_owned(cluster: Cluster) -> None:
    """Until nodes with a good lease serve every slot once."""
    deadline = time.monotonic() + 15
    while (owned := await cluster.owned()) != list(range(COUNT)):
        assert time.monotonic() < deadline, f"lost or doubled: {owned}"
