"""SIPp as callers and as phones, each step of each call written down and read back as facts."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.local.process import dying_with_us
from tests.chaos.facts import CallerCall, PhoneCall
from tests.e2e.platform import Platform, sipp_register

SCENARIOS = Path(__file__).resolve().parent / "sipp"
AGENTS = tuple(str(number) for number in range(1001, 1011))
"""Agents that the demo application asks for."""
EXTENSION = "1901"
"""Extension of the direct calls; also the default destination of the route point."""
ROUTE_POINT = "8000"


@dataclass(frozen=True)
class Shape:
    """Who calls how often, for how long."""

    tenants: Sequence[str] = ("t1", "t2", "t3")
    routed_rate: float = 4.0
    """Calls through an application, a second, all tenants together."""
    direct_rate: float = 1.0
    """Long calls to an extension, a second, all tenants together."""
    seconds: float = 60.0
    """How long new calls are made."""
    talk_ms: tuple[int, int] = (1000, 4000)
    """Routed calls: at least and at most, evenly spread."""
    hold_ms: tuple[int, int] = (5000, 20_000)
    """Direct calls: before the re-INVITE, and again after it."""
    ring_ms: int = 300
    patience_s: float = 75.0
    """A caller without a final response for so long is forgotten. The demo application gives up after 60 s."""

    @property
    def longest_s(self) -> float:
        """Time after the last INVITE in which every call must be over, SIP's own timers included."""
        return max(self.talk_ms[1], 2 * self.hold_ms[1]) / 1000 + 40


class Load:
    """Phones and callers of one run. Blocks: call it in a thread."""

    def __init__(self, platform: Platform, folder: Path, shape: Shape) -> None:
        self._platform = platform
        self._folder = folder
        self._shape = shape
        self._phones: dict[str, subprocess.Popen[bytes]] = {}
        self._callers: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def phones(self) -> None:
        """Registers the phones of every tenant and lets them take calls."""
        for tenant in self._shape.tenants:
            host = self._platform.ip(210 + int(tenant[1:]), 99)
            sipp_register(self._platform, tenant, [*AGENTS, EXTENSION], host, self._folder, expires_s=3600)
            scenario = self._fill("phone.xml", tenant, RING_MS=str(self._shape.ring_ms))
            self._phones[tenant] = self._run(scenario, host, f"phones-{tenant}", [])

    def callers(self) -> None:
        """Starts the callers of every tenant; each at a proxy of its own while there are enough."""
        shape, proxies = self._shape, self._platform.mesh.sip_proxies
        kinds = {
            "routed": (shape.routed_rate, ROUTE_POINT, shape.talk_ms, "talk", 50),
            "direct": (shape.direct_rate, EXTENSION, shape.hold_ms, "hold", 51),
        }
        places = [(tenant, kind) for tenant in shape.tenants for kind in kinds]
        for number, (tenant, kind) in enumerate(places):
            rate, dialled, (least, most), then, host = kinds[kind]
            a_tenant = rate / len(shape.tenants)
            calls = round(a_tenant * shape.seconds)
            if not calls:
                continue
            scenario = self._fill(
                "caller.xml", f"{kind}-{tenant}",
                PATIENCE_MS=str(round(shape.patience_s * 1000)), LEAST_MS=str(least), MOST_MS=str(most), THEN=then,
            )  # fmt: skip
            more = [
                "-s",
                dialled,
                "-m",
                str(calls),
                "-r",
                str(max(round(a_tenant * 100), 1)),
                "-rp",
                "100000",
                "-l",
                "5000",
            ]
            address = self._platform.ip(200 + int(tenant[1:]), host)
            self._callers[tenant, kind] = self._run(
                scenario, address, f"{kind}-{tenant}", [*more, proxies[number % len(proxies)]]
            )

    def wait(self, timeout: float) -> None:
        """Until every caller has gone, or the time is over: who is then left is ended and has lost its call."""
        until = time.monotonic() + timeout
        for process in self._callers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.1))

    def close(self) -> None:
        """Ends everything."""
        for process in [*self._callers.values(), *self._phones.values()]:
            if process.poll() is None:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()

    @property
    def calling(self) -> bool:
        """Whether a caller is still at it."""
        return any(process.poll() is None for process in self._callers.values())

    def calls(self) -> list[CallerCall]:
        """What callers saw so far."""
        return [
            call
            for tenant, kind in self._callers
            for call in caller_calls(
                self._lines(f"{kind}-{tenant}"), tenant, kind, self._problems(f"{kind}-{tenant}")
            )
        ]

    def phone_calls(self) -> list[PhoneCall]:
        """What phones saw so far."""
        return [
            call for tenant in self._phones for call in phone_calls(self._lines(f"phones-{tenant}"), tenant)
        ]

    def _lines(self, name: str) -> list[str]:
        file = self._folder / f"{name}.log"
        return file.read_text(errors="replace").splitlines() if file.exists() else []

    def _problems(self, name: str) -> str:
        file = self._folder / f"{name}.errors"
        return file.read_text(errors="replace") if file.exists() else ""

    def _fill(self, name: str, instance: str, **values: str) -> Path:
        text = (SCENARIOS / name).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        file = self._folder / f"{Path(name).stem}-{instance}.xml"
        file.write_text(text)
        return file

    def _run(self, scenario: Path, host: str, name: str, more: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [
            "sipp", "-sf", str(scenario), "-i", host, "-p", "5060", "-nostdin", "-rtcheck", "loose",
            "-trace_logs", "-log_file", str(self._folder / f"{name}.log"),
            "-trace_err", "-error_file", str(self._folder / f"{name}.errors"), *more,
        ]  # fmt: skip
        return subprocess.Popen(
            dying_with_us(command), cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


@dataclass(frozen=True)
class Step:
    """A line of a log."""

    what: str
    call_id: str
    at: float
    more: str


def steps(lines: Sequence[str]) -> Iterator[Step]:
    """Lines as SIPp writes them: step, Call-ID, date, time, seconds since 1970, then what the scenario adds."""
    for line in lines:
        fields = line.split()
        if len(fields) >= 5:
            yield Step(fields[0], fields[1], float(fields[4]), " ".join(fields[5:]))


def caller_calls(lines: Sequence[str], tenant: str, kind: str, problems: str = "") -> list[CallerCall]:
    """Facts of a caller's log. `problems` is SIPp's own list of what it did not expect."""
    calls: dict[str, CallerCall] = {}
    for step in steps(lines):
        if step.what == "invited":
            calls[step.call_id] = CallerCall(step.call_id, tenant, kind, step.at)
        elif step.call_id in calls:
            calls[step.call_id] = _after(calls[step.call_id], step)
    told = _by_call(problems)
    return [
        replace(call, lost=told[call.call_id]) if call.answered_at and not call.complete and not call.lost
        and call.call_id in told else call
        for call in calls.values()
    ]  # fmt: skip


def _after(call: CallerCall, step: Step) -> CallerCall:
    name, _, status = step.what.partition("-")
    match name:
        case "ringing":
            return replace(call, ringing_at=call.ringing_at or step.at)
        case "answered":
            return replace(call, answered_at=step.at)
        case "ended":
            return replace(call, ended_at=step.at)
        case "forgotten":
            return replace(call, forgotten=True)
        case "refused":
            return replace(call, refused=int(status))
        case "reinvite":
            return replace(call, reinvite_refused=int(status))
        case "bye":
            return replace(call, lost=f"its BYE got {status}")
    return call


def _by_call(problems: str) -> Mapping[str, str]:
    """Call-ID -> the last thing SIPp says about it, on one line. Entries begin with a date and have no line of their own."""
    told: dict[str, str] = {}
    for entry in problems.split("Call-Id: ")[1:]:
        call_id, _, story = entry.partition(",")
        told[call_id.strip()] = " ".join(story.split())[:300]
    return told


def phone_calls(lines: Sequence[str], tenant: str) -> list[PhoneCall]:
    """Facts of the phones' log of a tenant."""
    calls: dict[str, PhoneCall] = {}
    for step in steps(lines):
        if step.what == "offered":
            calls[step.call_id] = PhoneCall(step.call_id, tenant, step.more, step.at)
        elif step.call_id in calls and step.what == "established":
            calls[step.call_id] = replace(calls[step.call_id], established_at=step.at)
        elif step.call_id in calls and step.what in ("ended", "cancelled"):
            calls[step.call_id] = replace(calls[step.call_id], ended_at=step.at)
    return list(calls.values())
