"""Settings of the long runs, from CHAOS_* variables."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.schedule import PLANS

MINUTES: Mapping[str, float] = {
    "short": 0.25, "kills": 20, "thousand": 20, "fast_kills": 3,
    "freezes": 4, "rolling": 6, "etcd": 2.5, "members": 2.5, "frozen_leader": 1.5, "redis": 1.5,
    "cuts": 4, "clocks": 2.5, "stores": 2, "mixed": 5,
}  # fmt: skip
"""How long new calls are made in each plan: until every kind of process had its turn."""
DEFAULT = ("kills", "freezes", "rolling", "etcd", "members", "redis")
"""Plans of `make chaos`: what an operator asks first."""


@dataclass(frozen=True)
class ChaosSettings:
    """How a long run goes."""

    minutes: float = 0.0
    """CHAOS_MINUTES: how long new calls are made, 0.2 to 600; 0: as long as each plan takes by itself (MINUTES)."""
    seed: int = 0
    """CHAOS_SEED: the schedule's seed; drawn and printed when not given."""
    rate: float = 5.0
    """CHAOS_RATE: calls a second, a fifth of them long direct ones. Meant to be half of the highest clean load that `make
    bench NAME=routed_calls` prints."""
    plans: tuple[str, ...] = DEFAULT
    """CHAOS_PLANS: names from schedule.py, by commas; `all` for every one."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> ChaosSettings:
        """Raises ValueError naming every variable that is wrong."""
        problems: list[str] = []

        def number(name: str, default: float, least: float, most: float) -> float:
            text = environ.get(name, "")
            try:
                value = float(text) if text else default
            except ValueError:
                value = least - 1
            if text and not least <= value <= most:
                problems.append(f"{name}={text}: must be a number from {least:g} to {most:g}")
            return value

        minutes = number("CHAOS_MINUTES", 0.0, 0.2, 600)
        rate = number("CHAOS_RATE", cls.rate, 0.1, 1000)
        seed = int(number("CHAOS_SEED", random.SystemRandom().randrange(1, 1_000_000), 0, 1e9))
        named = environ.get("CHAOS_PLANS", ",".join(DEFAULT))
        plans = tuple(PLANS) if named == "all" else tuple(name.strip() for name in named.split(","))
        problems += [f"CHAOS_PLANS: no plan is called {name!r}" for name in plans if name not in PLANS]
        if problems:
            raise ValueError("; ".join(problems))
        return cls(minutes, seed, rate, plans)

    def minutes_of(self, plan: str) -> float:
        """How long a plan runs."""
        return self.minutes or MINUTES[plan]
