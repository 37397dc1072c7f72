"""One schedule from beginning to end: people call, things break, and when all is quiet the invariants are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from voice.agent_state.v1.agent_pb2 import AgentInput, RequestOutcome
from voice.tlib.v1.request_pb2 import (
    AgentLoginRequest,
    AgentNotReadyRequest,
    AgentReadyRequest,
    AttachUserDataRequest,
    Request,
)

from services.agent_state.reservation import Ask
from services.sip_cluster import inputs
from services.sip_cluster.calls import Told
from tests.simulation.phones import Caller, Phone, Plan
from tests.simulation.platform import NODES, Platform
from tests.simulation.schedule import Fault, Planned, Schedule, draw
from tests.simulation.world import MS, SECOND, START_US, Process

LASTS = 240 * SECOND
"""By then everything has come to rest: the longest wait is an unanswered transaction (32 s), a few times in a row."""


@dataclass(slots=True)
class Result:
    """What became of a schedule."""

    seed: int
    violations: list[str]
    lines: list[str]
    happened: int
    revived: int
    excused: str


class Run:
    """People and faults of a schedule."""

    def __init__(
        self, schedule: Schedule, *, tracing: bool = False, mutations: frozenset[str] = frozenset()
    ) -> None:
        self.schedule = schedule
        self.platform = Platform(schedule, tracing=tracing, mutations=mutations)
        self.world = self.platform.world

    def go(self) -> Result:
        """Runs it."""
        self._agents()
        self._callers()
        self._rivals()
        self._clerks()
        for planned in self.schedule.faults:
            if planned.write:
                process = self.platform.processes[f"{planned.service}-{planned.index}"]
                process.on_write[planned.write] = lambda planned=planned: self._strike(planned)  # type: ignore[misc]
            else:
                self.world.after(planned.at_us, self._strike, planned)
        self.world.run(START_US + LASTS)
        world = self.world
        if not (world.violations or world.excused):
            self.platform.watch.finish()
        return Result(
            self.schedule.seed,
            world.violations,
            world.lines,
            world.happened,
            self.platform.revived,
            world.excused,
        )

    # -- people -----------------------------------------------------------------------------------------------

    def _agents(self) -> None:
        world, platform = self.world, self.platform
        platform.queues.read(platform.outside, "outcomes:desktop", self._told)
        for number in range(1, self.schedule.agents + 1):
            dn, agent = f"{100 + number}", f"a{100 + number}"
            Phone(world, platform.wire, f"sip:{dn}", agent, self._plan)
            login = Request(agent_login=AgentLoginRequest(tenant=platform.TENANT, dn=dn, agent_id=agent))
            self._ask(agent, f"login-{agent}", login, 0)
            for turn in range(self.schedule.pauses):
                at = world.between(1000, 20_000)
                away = Request(
                    agent_not_ready=AgentNotReadyRequest(tenant=platform.TENANT, dn=dn, agent_id=agent)
                )
                back = Request(agent_ready=AgentReadyRequest(tenant=platform.TENANT, dn=dn, agent_id=agent))
                self._ask(agent, f"pause-{agent}-{turn}", away, at)
                self._ask(agent, f"ready-{agent}-{turn}", back, at + world.between(500, 4000))
            # Whatever overlapped before, in the end everybody works.
            last = Request(agent_ready=AgentReadyRequest(tenant=platform.TENANT, dn=dn, agent_id=agent))
            self._ask(agent, f"ready-{agent}-last", last, 60 * SECOND)

    def _ask(self, agent: str, ident: str, request: Request, at: int) -> None:
        self.platform.watch.asked[ident] = False
        self.world.after(at, self._send, agent, ident, request)

    def _send(self, agent: str, ident: str, request: Request) -> None:
        body = getattr(request, request.WhichOneof("body") or "")
        body.request_id = ident
        entry = AgentInput(
            input_id=ident,
            tenant=self.platform.TENANT,
            subject=f"agent:{agent}",
            time_us=self.world.now,
            request=request,
            reply_queue="outcomes:desktop",
        )
        self.platform.log.append(self.platform.outside, [entry], lambda: None)

    def _told(self, ident: str, outcome: RequestOutcome) -> None:
        self.platform.watch.asked[outcome.request_id] = True
        self.platform.queues.acknowledge(self.platform.outside, "outcomes:desktop", (ident,))

    def _plan(self) -> Plan:
        world = self.world
        dice = world.rng.random()
        if dice < 0.05:
            return Plan(0, 0, refuses=True)
        ring = 0 if dice < 0.15 else world.between(100, 3000)
        talk = world.between(500, 12_000) if world.chance(0.5) else world.between(40_000, 50_000)
        return Plan(ring, talk)

    def _callers(self) -> None:
        world = self.world
        for number in range(1, self.schedule.callers + 1):
            patience = world.between(300, 15_000) if world.chance(0.15) else 0
            talk = world.between(500, 12_000) if world.chance(0.5) else 0
            caller = Caller(world, self.platform.wire, number, patience, talk)
            world.after(world.between(50, 15_000), caller.start)

    def _rivals(self) -> None:
        world = self.world
        for number in range(self.schedule.rivals):
            agent = f"a{101 + int(world.rng.random() * self.schedule.agents)}"
            world.after(world.between(200, 20_000), self._compete, number, agent)

    def _compete(self, number: int, agent: str) -> None:
        platform, world = self.platform, self.world
        ask = Ask(f"rival-{number}", f"rival-{number}", 5, 4 * SECOND, True)

        def told(reason: str, grant: object) -> None:
            token = getattr(grant, "token", "")
            if token and world.chance(0.7):
                world.after(world.between(10, 3000), platform.give_back, platform.outside, platform.TENANT, agent,
                            token, 2 * SECOND)  # fmt: skip

        platform.reserve(platform.outside, platform.TENANT, agent, ask, 2 * SECOND, told)

    def _clerks(self) -> None:
        world = self.world
        for number in range(self.schedule.clerks):
            world.after(world.between(500, 25_000), self._attach, f"clerk-{number}")

    def _attach(self, ident: str) -> None:
        """User data for a call of the moment."""
        platform, world = self.platform, self.world
        if not platform.known_calls:
            return
        conn_id = 1 + int(world.rng.random() * len(platform.known_calls))
        pairs = (("Note", ident),)
        body = AttachUserDataRequest(
            tenant=platform.TENANT, request_id=ident, dn=platform.ROUTE_POINT, conn_id=conn_id
        )
        body.user_data.pairs.add(key="Note", string_value=ident)
        payload = Request(client="clerk", attach_user_data=body).SerializeToString()
        head = inputs.Request(ident, "clerk", 1, ident.encode(), platform.ROUTE_POINT, conn_id)

        def told(reason: str, outcome: object) -> None:
            platform.watch.attached(ident, isinstance(outcome, Told))

        platform.execute(platform.outside, inputs.AttachUserData(head, pairs, payload), 20 * SECOND, told)

    # -- faults -----------------------------------------------------------------------------------------------

    def _strike(self, planned: Planned) -> None:
        platform, world = self.platform, self.world
        world.trace("FAULT", str(planned))
        until = world.now + planned.lasts_us
        match planned.fault:
            case Fault.REDIS:
                platform.store.silent_until = until
            case Fault.QUEUE:
                platform.streams.silent_until = until
            case Fault.ETCD:
                platform.etcd.fall_silent(until, list(platform.processes.values()))
                world.after(planned.lasts_us, self._etcd_back)
            case _:
                process = platform.processes[f"{planned.service}-{planned.index}"]
                if process.alive and not process.stopped and not process.cut_off:
                    self._strike_process(planned, process)

    def _strike_process(self, planned: Planned, process: Process) -> None:
        platform, world = self.platform, self.world
        match planned.fault:
            case Fault.KILL:
                self._kill(process)
                world.after(planned.lasts_us, self._start, process)
            case Fault.PAUSE:
                process.stopped = True
                platform.etcd.silence(process)
                world.after(planned.lasts_us, self._wake, process, process.starts)
            case Fault.CUT:
                platform.etcd.cut(process, world.now + planned.lasts_us)
                world.after(planned.lasts_us, self._reachable, process, process.starts)
            case Fault.DRAIN:
                platform.etcd.drain(process)
                world.after(
                    100 * MS, self._drained, process, process.starts, planned.lasts_us, world.now + 5 * SECOND
                )

    def _kill(self, process: Process) -> None:
        platform = self.platform
        platform.etcd.silence(process)
        platform.nodes.pop(process.incarnation, None)
        process.end()

    def _start(self, process: Process) -> None:
        if process.alive:
            return
        platform, world = self.platform, self.world
        if not platform.etcd.reaches(process):
            world.after(SECOND, self._start, process)
            return
        process.begin()
        world.trace(process.name, f"starts as {process.incarnation}")
        platform.etcd.forget(process)
        platform.etcd.join(process)
        node = NODES[process.service](platform, process)
        platform.nodes[process.incarnation] = node
        node.slots.start(settled_already=False)

    def _wake(self, process: Process, life: int) -> None:
        if process.starts != life or not process.alive:
            return
        world = self.world
        world.trace(process.name, "goes on")
        dice = world.rng.random()
        if dice < 0.25:  # the end of the lease is heard of before all else
            self._heard(process, life, first=True)
            process.resume()
        elif dice < 0.5:
            self._heard(process, life)
            process.resume()
        else:
            process.resume()
            world.after(world.between(0, 500), self._heard, process, life)

    def _reachable(self, process: Process, life: int) -> None:
        if process.starts == life and process.alive:
            process.cut_off = False
            self.world.after(self.world.between(0, 500), self._heard, process, life)

    def _heard(self, process: Process, life: int, *, first: bool = False) -> None:
        """The keep-alive thread hears from etcd again: the lease lives, or it has ended."""
        if process.starts != life or not process.alive:
            return
        etcd = self.platform.etcd
        if not etcd.reaches(process):
            self.world.after(SECOND // 2, self._heard, process, life)
        elif not etcd.heard(process):
            process.deadline_us = 1
            process.receive(self.platform.nodes[process.incarnation].slots.lease_lost, first=first)

    def _etcd_back(self) -> None:
        for process in self.platform.processes.values():
            if process.alive and not process.stopped and not process.cut_off:
                self.world.after(self.world.between(0, 500), self._heard, process, process.starts)

    def _drained(self, process: Process, life: int, pause: int, latest: int) -> None:
        if process.starts != life or not process.alive:
            return
        node = self.platform.nodes[process.incarnation]
        if node.slots.claimed and self.world.now < latest:
            self.world.after(100 * MS, self._drained, process, life, pause, latest)
            return
        self.platform.etcd.revoke(process.lease)
        self._kill(process)
        self.world.after(pause, self._start, process)


def run(seed: int, *, tracing: bool = False, mutations: frozenset[str] = frozenset()) -> Result:
    """The schedule of a seed."""
    return Run(draw(seed), tracing=tracing, mutations=mutations).go()
