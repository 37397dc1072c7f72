"""What is done to the platform and when: drawn from a seed, printed, and the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

STATEFUL = ("sip_cluster", "orchestration", "tenant", "agent_state", "call_state")
"""Services whose nodes own slots."""
SERVICES = (
    "sip_cluster", "redis_queue", "orchestration", "tenant", "agent_state", "call_state", "sip_proxy", "front_end",
    "registrar", "dial_plan", "config",
)  # fmt: skip
FREEZE_S = 10.0
"""How long a process is stopped: five leases."""
OUTAGE_S = 60.0
"""How long etcd is away."""
MEMBERS = ("etcd-0", "etcd-1", "etcd-2")
"""Members of etcd, on the platform of the plans in WITH_MEMBERS."""
WITH_MEMBERS = ("members", "frozen_leader")
"""Plans whose etcd has members."""
LEADER = "etcd-leader"
"""In a schedule: whichever member leads at that moment."""
MEMBER_EVERY_S = 20.0
"""From one member's end to the next one's: it stays away for 3 s, then catches up."""


@dataclass(frozen=True)
class Fault:
    """One thing that is done to one process."""

    at: float
    """Seconds from the moment the load stands."""
    kind: str
    """kill, freeze, drain, cut, skew, stutter, disk_full; see `faults.py`."""
    process: str
    """Name of the process in the local mesh."""
    seconds: float = 0.0
    """How long, for what has a duration."""
    amount: float = 0.0
    """skew: seconds added to the clock; stutter: share of the time the process stands still."""

    def __str__(self) -> str:
        more = f" for {self.seconds:g} s" if self.seconds else ""
        return f"{self.at:7.1f} s  {self.kind:9} {self.process}{more}{f' ({self.amount:+g})' if self.amount else ''}"


@dataclass(frozen=True)
class Schedule:
    """All faults of a run, in order of time."""

    plan: str
    seed: int
    seconds: float
    """How long new calls are made."""
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        head = f"plan {self.plan}, seed {self.seed}, {self.seconds:g} s of load, {len(self.faults)} faults"
        return "\n".join([head, *(f"  {fault}" for fault in self.faults)])


Counts = Mapping[str, int]
"""Instances of each service."""


def draw(plan: str, seed: int, minutes: float, counts: Counts) -> Schedule:
    """The schedule of a plan. Raises KeyError for a plan that does not exist."""
    rng = random.Random(f"{plan}/{seed}")
    seconds = minutes * 60
    faults = sorted(PLANS[plan](rng, seconds, counts), key=lambda fault: fault.at)
    return Schedule(plan, seed, seconds, tuple(faults))


def one_of(rng: random.Random, service: str, counts: Counts) -> str:
    """Any instance of a service."""
    return f"{service}-{rng.randrange(counts[service])}"


def _kinds(counts: Counts) -> list[str]:
    return [service for service in SERVICES if counts.get(service, 0)]


def _in_turn(rng: random.Random, counts: Counts, further: Sequence[str] = ()) -> Iterator[str]:
    """Processes of each kind in turn, in an order of their own each round, for ever."""
    while True:
        round_ = [one_of(rng, service, counts) for service in _kinds(counts)] + list(further)
        rng.shuffle(round_)
        yield from round_


def _kills(rng: random.Random, seconds: float, counts: Counts, every: float = 60.0) -> Iterator[Fault]:
    """kill -9 of each kind of process in turn, sidecars and the control plane too, one a minute."""
    sidecars = [f"{one_of(rng, service, counts)}.envoy" for service in STATEFUL if counts.get(service)]
    victims = _in_turn(rng, counts, [rng.choice(sidecars), "xds"])
    at = min(10.0, seconds / 4)
    while at < seconds:
        yield Fault(at + rng.uniform(0, every / 4), "kill", next(victims))
        at += every


def _fast_kills(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """The same, one every eight seconds: an heir dies while it takes over."""
    return _kills(rng, seconds, counts, every=8.0)


def _freezes(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """SIGSTOP past the lease, then SIGCONT, of each kind of process in turn."""
    victims = _in_turn(rng, counts)
    at = 5.0
    while at + FREEZE_S < seconds:
        yield Fault(at, "freeze", next(victims), FREEZE_S)
        at += FREEZE_S + 10.0


def _rolling(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """SIGTERM to every instance in turn; the next one when the last one serves again."""
    names = [f"{service}-{index}" for service in _kinds(counts) for index in range(counts[service])]
    rng.shuffle(names)
    at = 5.0
    for name in names:
        yield Fault(at, "drain", name)
        at += max((seconds - 15.0) / len(names), 1.0)


def _etcd(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """etcd stands still for a minute, then is killed and comes back."""
    away = min(OUTAGE_S, seconds / 3)
    yield Fault(5.0, "freeze", "etcd", away)
    yield Fault(5.0 + away + min(20.0, seconds / 4) * rng.random(), "kill", "etcd")


def _members(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """Members of etcd, one after the other: each killed, each told to end, then the leader killed; and again."""
    at = 5.0
    while True:
        kills, ends = rng.sample(MEMBERS, len(MEMBERS)), rng.sample(MEMBERS, len(MEMBERS))
        turns = [("kill", name) for name in kills] + [("drain", name) for name in ends] + [("kill", LEADER)]
        for kind, name in turns:
            strike = at + rng.uniform(0, MEMBER_EVERY_S / 5)
            if strike >= seconds - 5.0:
                return
            yield Fault(strike, kind, name)
            at += MEMBER_EVERY_S


def _frozen_leader(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """Whichever member of etcd leads stands still past every lease, goes on, and finds a successor."""
    at = 8.0
    while at + FREEZE_S < seconds:
        yield Fault(at + rng.uniform(0, 4), "freeze", LEADER, rng.uniform(FREEZE_S / 2, FREEZE_S - 4))
        at += FREEZE_S + 14.0


def _redis(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """The Redis primary is killed; half a minute later its heir."""
    yield Fault(10.0, "kill", "redis-primary")
    if seconds > 60:
        yield Fault(40.0 + rng.uniform(0, 5), "kill", "redis-primary")


def _cuts(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """Each kind of process is cut off from the network for longer than its lease, its sidecar with it."""
    victims = _in_turn(rng, counts)
    at = 8.0
    while at + 8.0 < seconds:
        yield Fault(at, "cut", next(victims), 8.0)
        at += 20.0


def _clocks(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """One owner of each kind runs with its wall clock up to 500 ms off; others of its kind are then killed."""
    at = 5.0
    for service in STATEFUL:
        if counts.get(service, 0) < 2 or at > seconds - 10:
            continue
        victim = rng.randrange(counts[service])
        yield Fault(
            at, "skew", f"{service}-{victim}", amount=round(rng.choice((-1, 1)) * rng.uniform(0.3, 0.5), 3)
        )
        yield Fault(at + 12.0, "kill", f"{service}-{(victim + 1) % counts[service]}")
        at += 24.0


def _stores(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """Stores that are slow, and a disk that is full."""
    third = seconds / 3
    yield Fault(5.0, "stutter", "redis-primary", third - 10.0, amount=round(rng.uniform(0.5, 0.9), 2))
    yield Fault(5.0 + third, "stutter", "etcd", third - 10.0, amount=round(rng.uniform(0.5, 0.9), 2))
    yield Fault(5.0 + 2 * third, "disk_full", "redis-primary", third - 15.0)


def _mixed(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """Any of it at any time, two at once now and then."""
    plans: list[Callable[[random.Random, float, Counts], Iterator[Fault]]] = [
        _kills,
        _freezes,
        _cuts,
        _fast_kills,
    ]
    at = 5.0
    while at < seconds - 15.0:
        fault = next(rng.choice(plans)(rng, 60.0, counts))
        yield replace(fault, at=at, seconds=min(fault.seconds, 8.0))
        at += rng.uniform(2.0, 20.0)


def _short(rng: random.Random, seconds: float, counts: Counts) -> Iterator[Fault]:
    """One of each owner and a queue node, close together; a SIP node with calls."""
    victims = [
        one_of(rng, service, counts) for service in ("orchestration", "tenant", "agent_state", "redis_queue")
    ]
    rng.shuffle(victims)
    step = seconds / (len(victims) + 2)
    for number, victim in enumerate(victims):
        yield Fault(1.0 + number * step, "kill", victim)
    yield Fault(1.0 + len(victims) * step, "kill", one_of(rng, "sip_cluster", counts))


PLANS: Mapping[str, Callable[[random.Random, float, Counts], Iterator[Fault]]] = {
    "short": _short,
    "kills": _kills,
    "thousand": _kills,
    "fast_kills": _fast_kills,
    "freezes": _freezes,
    "rolling": _rolling,
    "etcd": _etcd,
    "members": _members,
    "frozen_leader": _frozen_leader,
    "redis": _redis,
    "cuts": _cuts,
    "clocks": _clocks,
    "stores": _stores,
    "mixed": _mixed,
}
"""Name -> how its faults are drawn."""
