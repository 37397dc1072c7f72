"""Virtual time, seeded chance and processes: what everything in the simulation stands on.

Nothing here waits: the next thing that happens is taken from a heap, and the clock is set to its time. Chance comes from one
generator with the schedule's seed, so that a seed is a schedule: the same seed gives the same run, event by event.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mesh.lease import PERIOD_S, TTL_S

START_US = 1_800_000_000_000_000
"""When every schedule begins, UTC microseconds."""
MS = 1000
SECOND = 1_000_000
LEASE_TTL = int(TTL_S * SECOND)
KEEP_ALIVE = int(PERIOD_S * SECOND)
"""How often a lease is kept alive."""


@dataclass(slots=True)
class Weather:
    """How bad the network and the store are in a schedule."""

    loss: float = 0.0
    """Chance that a message, or the answer to it, is lost."""
    double: float = 0.0
    """Chance that a datagram arrives twice."""
    delay_ms: float = 1.0
    """Mean of delays."""
    slow: float = 0.0
    """Chance that a message takes up to `SLOW_MS`: it overtakes, or is overtaken."""


SLOW_MS = 400.0
RESTLESS = 50_000
"""A schedule takes some hundreds of steps, the worst some thousands; one that takes so many goes round in circles."""


class Violation(Exception):
    """An invariant does not hold."""


@dataclass(slots=True, eq=False)
class World:
    """Clock, chance, weather, and what went wrong."""

    seed: int
    rng: random.Random
    weather: Weather = field(default_factory=Weather)
    now: int = START_US
    tracing: bool = False
    lines: list[str] = field(default_factory=list)
    """Trace of the run, when asked for."""
    violations: list[str] = field(default_factory=list)
    excused: str = ""
    """Why the run proves nothing: a double failure that the design does not promise to survive."""
    happened: int = 0
    """Things that happened, for the rate."""
    mutations: frozenset[str] = frozenset()
    """Safeguards that are taken out in this run (`mutations.py`)."""
    _heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _count: int = 0

    def after(self, delay_us: int, act: Callable[..., None], *args: Any) -> None:
        """`act(*args)` happens after a delay in microseconds."""
        self._count = count = self._count + 1
        heapq.heappush(self._heap, (self.now + delay_us, count, act, args))

    def run(self, until: int) -> None:
        """Lets happen what is due up to a time, in order."""
        heap = self._heap
        pop = heapq.heappop
        while heap and heap[0][0] <= until and not (self.violations or self.excused):
            when, _, act, args = pop(heap)
            self.now = when
            self.happened += 1
            if self.happened > RESTLESS:
                self.violated("everything comes to rest", f"{RESTLESS} things have happened")
                return
            act(*args)
        if not self.violations:
            self.now = until

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to happen."""
        return not self._heap

    def delay(self) -> int:
        """How long a message takes, microseconds."""
        weather, chance = self.weather, self.rng.random
        if weather.slow and chance() < weather.slow:
            return int(chance() * SLOW_MS * MS)
        return 50 + int(chance() * weather.delay_ms * 2000)

    def lost(self) -> bool:
        """Whether a message is lost."""
        loss = self.weather.loss
        return bool(loss) and self.rng.random() < loss

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.rng.random() < probability

    def between(self, low_ms: float, high_ms: float) -> int:
        """A duration in microseconds."""
        return int(self.rng.uniform(low_ms, high_ms) * MS)

    def violated(self, invariant: str, text: str) -> None:
        """An invariant does not hold: the run ends."""
        self.violations.append(f"{invariant}: {text} (at {(self.now - START_US) / SECOND:.3f} s)")
        self.trace("VIOLATION", self.violations[-1])

    def trace(self, who: str, text: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.lines.append(f"{(self.now - START_US) / SECOND:10.6f}  {who:<18} {text}")


class Process:
    """A process of a service: it runs, stands still (SIGSTOP), or is dead until it is started again.

    What was to happen in it while it stood still happens when it goes on, at once and in order; what was to happen in one
    that died never does.
    """

    def __init__(self, world: World, service: str, index: int) -> None:
        self.world = world
        self.service = service
        self.name = f"{service}-{index}"
        self.starts = 0
        self.incarnation = ""
        self.alive = False
        self.stopped = False
        self.cut_off = False
        """Cut off from etcd only."""
        self.deadline_us = 0
        """Until when the lease speaks for it; 0: as long as it is kept alive."""
        self.lease = 0
        self.writes = 0
        """Writes of this process that Redis has carried out."""
        self.on_write: dict[int, Callable[[], None]] = {}
        """What happens at such a number of them."""
        self._held: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def begin(self) -> None:
        """A new life."""
        self.starts += 1
        self.incarnation = f"{self.name}.{self.starts}"
        self.alive, self.stopped, self.cut_off = True, False, False
        self._held.clear()

    def end(self) -> None:
        """kill -9."""
        self.alive = False
        self.starts += 1
        self._held.clear()

    def resume(self) -> None:
        """SIGCONT: what has waited happens now."""
        self.stopped = False
        held = self._held
        while held and not self.stopped and self.alive:
            act, args = held.popleft()
            act(*args)

    def after(self, delay_us: int, act: Callable[..., None], *args: Any) -> None:
        """`act(*args)` happens in this life of the process, after a delay."""
        self.world.after(delay_us, self._enter, self.starts, act, args)

    def receive(self, act: Callable[..., None], *args: Any, first: bool = False) -> None:
        """Something arrives now; to a process that stands still it may come `first` of all that waits."""
        if first and self.stopped:
            self._held.appendleft((act, args))
        else:
            self._enter(self.starts, act, args)

    def _enter(self, life: int, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if life != self.starts or not self.alive:
            return
        if self.stopped:
            self._held.append((act, args))
            return
        act(*args)

    def lease_good(self) -> bool:
        """Whether the process may act on its claims alone (mesh.lease.Lease.good)."""
        return not self.deadline_us or self.world.now < self.deadline_us
