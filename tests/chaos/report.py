"""What a run has shown: figures, violations, and a file with everything to look at afterwards."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.facts import CallerCall, Facts, Struck, Violation
from tests.chaos.schedule import Schedule

FOLDER = Path(__file__).resolve().parents[2] / "build" / "chaos"
RINGS_S = 1.0
"""A new call is served as usual when it rings (or is answered) within this time of its INVITE, seconds."""
WATCHED_S = 15.0
"""How long after a fault calls are looked at for its effect, seconds."""


@dataclass(frozen=True)
class Recovery:
    """How a fault was felt by those who called after it."""

    fault: str
    process: str
    recovered_s: float
    """Calls sent later than this after the fault were served as usual; 0 when nobody felt it."""
    felt: int
    """Calls sent after the fault that were refused or rang late."""
    of: int
    """Calls sent in the time watched."""


@dataclass(frozen=True)
class Report:
    """One run."""

    schedule: Schedule
    facts: Facts
    violations: list[Violation]
    reopened: int
    stalls: list[tuple[float, float]]
    """(when, seconds) the whole machine stood still: nobody's fault, and everybody's lease."""

    @property
    def complete_share(self) -> float:
        """Share of the calls made that were answered and ended by their caller."""
        calls = self.facts.calls
        return sum(call.complete for call in calls) / len(calls) if calls else 0.0

    def waited(self, share: float) -> float:
        """A percentile of the time from INVITE to the answer of routed calls, seconds; 0 without any."""
        times = sorted(
            c.answered_at - c.invited_at for c in self.facts.calls if c.kind == "routed" and c.answered_at
        )
        return times[min(int(len(times) * share), len(times) - 1)] if times else 0.0

    @property
    def client_failures(self) -> int:
        """Attempts of clients that were not answered."""
        return sum(len(request.failures) for request in self.facts.requests)

    def recoveries(self) -> list[Recovery]:
        """For each fault how long new calls felt it."""
        struck = sorted(self.facts.struck, key=lambda one: one.at)
        nexts = [*(one.at for one in struck[1:]), float("inf")]
        return [recovery(one, self.facts.calls, until) for one, until in zip(struck, nexts, strict=False)]

    def lines(self) -> list[str]:
        """For people."""
        calls, facts = self.facts.calls, self.facts
        refused = Counter(call.refused for call in calls if call.refused)
        head = [
            f"{len(calls)} calls, {self.complete_share:.3%} complete; refused {dict(refused)}, "
            f"established {sum(c.answered_at is not None for c in calls)}, "
            f"re-INVITE refused {sum(bool(c.reinvite_refused) for c in calls)}",
            f"callers waited for an agent: half of them {self.waited(0.5):.1f} s, 99 % at most {self.waited(0.99):.1f} s",
            f"{len(facts.events)} events in {len({e.stream for e in facts.events})} streams, {len(facts.seen)} heard by clients "
            f"({self.reopened} subscriptions opened again)",
            f"{len(facts.requests)} requests, {self.client_failures} attempts failed; "
            f"outcomes {dict(Counter(r.outcome or 'none' for r in facts.requests))}",
            f"{len(facts.claims)} changes of claims",
        ]
        began = min((call.invited_at for call in calls), default=0.0)
        stood = ", ".join(f"{length:.1f} s at {at - began:.0f} s" for at, length in self.stalls)
        head += [f"the machine stood still: {stood}"] if stood else []
        felt = [
            f"  {r.fault:9} {r.process:24} felt by {r.felt} of {r.of} new calls, as usual after {r.recovered_s:.2f} s"
            for r in self.recoveries()
        ]
        by_kind = Counter(violation.invariant for violation in self.violations)
        told = [f"VIOLATED {name}: {count}" for name, count in by_kind.items()]
        first = [f"  {violation}" for violation in _first_of_each(self.violations, 5)]
        return [*head, *felt, *told, *first]

    def save(self) -> Path:
        """Writes figures, violations and calls to a file of the seed; gives its path."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = FOLDER / f"{self.schedule.plan}-{self.schedule.seed}.json"
        file.with_suffix(".pickle").write_bytes(
            pickle.dumps(self.facts)
        )  # to be judged again, or looked into
        content = {
            "schedule": str(self.schedule).splitlines(),
            "report": self.lines(),
            "stalls": self.stalls,
            "struck": [asdict(struck) for struck in self.facts.struck],
            "violations": [str(violation) for violation in self.violations],
            "calls": [asdict(call) for call in self.facts.calls if not call.complete],
            "requests": [asdict(request) for request in self.facts.requests if request.failures],
        }
        file.write_text(json.dumps(content, indent=1))
        return file


def recovery(struck: Struck, calls: list[CallerCall], until: float = float("inf")) -> Recovery:
    """How long calls sent after the fault, and before the next one at `until`, felt it: refused, forgotten, or without
    ringing for longer than RINGS_S."""
    end = min(struck.at + WATCHED_S, until)
    after = [call for call in calls if struck.at <= call.invited_at < end]
    felt = [call for call in after if not _as_usual(call)]
    last = max((call.invited_at - struck.at for call in felt), default=0.0)
    return Recovery(struck.kind, struck.process, last, len(felt), len(after))


def _as_usual(call: CallerCall) -> bool:
    served = call.ringing_at or call.answered_at
    return not call.refused and served is not None and served - call.invited_at <= RINGS_S


def _first_of_each(violations: list[Violation], count: int) -> list[Violation]:
    shown: Counter[str] = Counter()
    found = []
    for violation in violations:
        shown[violation.invariant] += 1
        if shown[violation.invariant] <= count:
            found.append(violation)
    return found
