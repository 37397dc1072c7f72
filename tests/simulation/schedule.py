"""What a seed means: who calls and who answers, the weather, and what dies, stands still or is cut off, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import Enum

from tests.simulation.world import MS, SECOND, Weather

SERVICES = ("sip_cluster", "call_state", "agent_state", "tenant", "orchestration")


class Fault(Enum):
    """What happens to a process, or to what all share."""

    KILL = "kill -9"
    PAUSE = "SIGSTOP"
    CUT = "cut off from etcd"
    DRAIN = "SIGTERM"
    REDIS = "Redis silent"
    ETCD = "etcd silent"
    QUEUE = "Redis Queue silent"


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault. `lasts_us`: until it goes on, is reachable again, or is started again. `write`: it does not strike at its time
    but when Redis has carried out so many writes of the process, before their answer is there; 0: at its time."""

    at_us: int
    fault: Fault
    service: str
    index: int
    lasts_us: int
    write: int = 0

    def __str__(self) -> str:
        who = f"{self.service}-{self.index}" if self.service else "all"
        when = f"write {self.write:3}" if self.write else f"{self.at_us / SECOND:7.3f} s"
        return f"{when} {self.fault.value} {who} for {self.lasts_us / SECOND:.3f} s"


@dataclass(slots=True)
class Schedule:
    """Everything that chance decides before the run; the rest is decided on the way, by the same seed."""

    seed: int
    agents: int
    callers: int
    nodes: dict[str, int]
    weather: Weather
    window_us: int
    wrapup_s: int
    rivals: int
    """Clients that reserve agents beside the tenant."""
    pauses: int
    """NotReady and Ready requests of agents."""
    clerks: int
    """Requests of clients that attach user data to calls."""
    faults: list[Planned] = field(default_factory=list)

    def moves(self, service: str) -> bool:
        """Whether slots of a service may change their owner: else nobody will read what it stores."""
        return any(planned.service == service for planned in self.faults)

    def describe(self) -> str:
        """For a person who looks at a failing seed."""
        weather = self.weather
        head = (
            f"seed {self.seed}: {self.agents} agents, {self.callers} callers, {self.rivals} rivals, nodes {self.nodes}, "
            f"loss {weather.loss:.3f}, doubled {weather.double:.3f}, slow {weather.slow:.3f}, "
            f"window {self.window_us // MS} ms, after-call work {self.wrapup_s} s"
        )
        return "\n".join([head, *(f"  {planned}" for planned in self.faults)])


def draw(seed: int) -> Schedule:
    """The schedule of a seed. What is added later draws from a generator of its own, so that old seeds keep their faults."""
    rng = random.Random(f"schedule {seed}")
    rough = rng.random() < 0.5
    weather = Weather(
        loss=rng.uniform(0.005, 0.08) if rough else 0.0,
        double=rng.uniform(0, 0.1) if rough else 0.0,
        delay_ms=rng.choice((0.5, 2.0, 10.0)),
        slow=rng.uniform(0, 0.05) if rough else 0.0,
    )
    schedule = Schedule(
        seed,
        agents=rng.randint(1, 3),
        callers=rng.randint(1, 4),
        nodes={service: rng.randint(2, 3) for service in SERVICES},
        weather=weather,
        window_us=rng.choice((0, 100 * MS)),
        wrapup_s=rng.choice((0, 0, 1, 3)),
        rivals=rng.choice((0, 0, 0, 1, 2)),
        pauses=rng.choice((0, 0, 1, 2)),
        clerks=random.Random(f"clerks {seed}").choice((0, 0, 2, 4)),
    )
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        schedule.faults.append(_fault(rng, schedule))
    schedule.faults.sort(key=lambda planned: planned.at_us)
    _between_write_and_answer(random.Random(f"moments {seed}"), schedule)
    return schedule


def _between_write_and_answer(rng: random.Random, schedule: Schedule) -> None:
    """The moment that matters most: some die, or stand still, when a write is done and they do not know it yet."""
    for place, planned in enumerate(schedule.faults):
        if planned.fault in (Fault.KILL, Fault.PAUSE) and rng.random() < 0.4:
            schedule.faults[place] = replace(planned, write=rng.randint(1, 50))


def _fault(rng: random.Random, schedule: Schedule) -> Planned:
    at = int(rng.uniform(0.3, 25) * SECOND)
    kind = rng.choices(
        (Fault.KILL, Fault.PAUSE, Fault.CUT, Fault.DRAIN, Fault.REDIS, Fault.ETCD, Fault.QUEUE),
        (40, 25, 8, 10, 7, 4, 6),
    )[0]
    if kind in (Fault.REDIS, Fault.ETCD, Fault.QUEUE):
        longest = {Fault.REDIS: 4, Fault.ETCD: 30, Fault.QUEUE: 3}[kind]
        return Planned(at, kind, "", 0, int(rng.uniform(0.05, longest) * SECOND))
    service = rng.choice(SERVICES)
    longest = {Fault.KILL: 6, Fault.PAUSE: 9, Fault.CUT: 8, Fault.DRAIN: 3}[kind]
    return Planned(
        at, kind, service, rng.randrange(schedule.nodes[service]), int(rng.uniform(0.05, longest) * SECOND)
    )
