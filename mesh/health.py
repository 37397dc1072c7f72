"""Health by dependency: a node serves new work only while everything it depends on is up.

What all nodes share (etcd, Redis) is needed to begin, but its outage is no reason to stop: no other node would do
better, and calls go on without either of them (design §6). Such an outage is shown, and the node keeps serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics

CHECK_EVERY_S = 0.5
"""Pause between two rounds of checks, seconds."""
CHECK_TIMEOUT_S = 1.0
"""Time one check may take, seconds."""
FAILURES_UNTIL_DOWN = 2
"""Failed rounds in a row after which a dependency that was up counts as down: one lost packet is no
outage."""

Check = Callable[[], Awaitable[bool]]
log = logger("health")


@dataclass
class Dependency:
    """Something the node needs to serve."""

    name: str
    check: Check
    up: bool = False
    problem: str = "not checked yet"
    """Why it is down; "" while it is up."""
    failures: int = 0
    """Failed checks in a row."""
    shared: bool = False
    """Every node of the service depends on it alike: once it was up, its outage does not end serving."""
    was_up: bool = False

    @property
    def lets_serve(self) -> bool:
        """Whether the node may serve, as far as this dependency goes."""
        return self.up or (self.shared and self.was_up)


class Health:
    """Checks the dependencies and says when the node's health changes."""

    def __init__(self, metrics: Metrics, on_change: Callable[[bool], Awaitable[None]]) -> None:
        self._on_change = on_change
        self._dependencies: dict[str, Dependency] = {}
        self._said: bool | None = None
        self._gauge = metrics.gauge("dependency_up", "1 while the dependency is up", ["dependency"])

    def depends(self, name: str, check: Check, *, shared: bool = False) -> None:
        """Adds a dependency; `shared`: see `Dependency.shared`. ValueError when the name is taken."""
        if name in self._dependencies:
            raise ValueError(f"dependency {name!r} is there already")
        self._dependencies[name] = Dependency(name, check, shared=shared)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """All of them, as last checked."""
        return tuple(self._dependencies.values())

    @property
    def healthy(self) -> bool:
        """Whether the node may serve, by the last checks; true when it depends on nothing."""
        return all(dependency.lets_serve for dependency in self._dependencies.values())

    async def watch(self) -> None:
        """Checks for ever."""
        while True:
            await self.check_all()
            await asyncio.sleep(CHECK_EVERY_S)

    async def check_all(self) -> None:
        """One round of checks, side by side; tells of a change once it is over."""
        await asyncio.gather(*(self._check(dependency) for dependency in self.dependencies))
        healthy = self.healthy
        if healthy != self._said:
            self._said = healthy
            await self._on_change(healthy)

    async def _check(self, dependency: Dependency) -> None:
        problem = await _problem(dependency.check)
        if not problem:
            if not dependency.up:
                log.info("dependency up", dependency=dependency.name)
            dependency.up, dependency.problem, dependency.failures = True, "", 0
            dependency.was_up = True
        else:
            dependency.failures += 1
            if dependency.up and dependency.failures >= FAILURES_UNTIL_DOWN:
                log.warning("dependency down", dependency=dependency.name, problem=problem)
                dependency.up = False
            if not dependency.up:
                dependency.problem = problem
        self._gauge.labels(dependency.name).set(dependency.up)


async def _problem(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return "" if await check() else "the check says no"
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a check raises means that the dependency is down
        return f"{type(error).__name__}: {error}"[:200]
