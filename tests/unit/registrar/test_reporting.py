"""Reports and the end of bindings, with a log, a store and a Config that fail when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
import structlog
from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import registration_pb2 as r

from mesh.config_cache import ConfigView, Registration
from mesh.errors import DomainError, Reason
from mesh.log import LogFull
from mesh.ownership import ReleaseReason
from mesh.store import StaleEpoch, StoreUnavailable
from mesh.telemetry.metrics import Metrics
from services.registrar import expiry, reporting
from services.registrar.expiry import Expiry
from services.registrar.reporting import Reporting, slot_of
from services.registrar.service_state import Device, Report
from services.registrar.store import Conflict

PHONE, OTHER = ("t1", "1001"), ("t1", "1002")
NOW = 1_000_000_000


class Cache(ConfigView):
    """A view that is told by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.synced = asyncio.Event()
        self.synced.set()

    def bind(self, device: Device, *ends_us: int) -> int:
        """Bindings of a device; none removes the set. Gives the revision."""
        revision = self.revision + 1
        tenant, dn = device
        change = pb.Change(tenant=tenant, revision=revision, deleted=f"registrations/{dn}")
        if ends_us:
            bindings = [r.Registration(contact=f"sip:{n}@h", expires_us=end) for n, end in enumerate(ends_us)]
            found = pb.DnRegistrations(dn=dn, registrations=bindings, revision=revision)
            change = pb.Change(tenant=tenant, revision=revision, registrations=found)
        self.apply(pb.WatchResponse(changes=[change], revision=revision))
        return revision


class Log:
    """Keeps what is appended, or raises."""

    def __init__(self) -> None:
        self.entries: list[AgentInput] = []
        self.failure: Exception | None = None

    async def append(self, tenant: str, subject: str, entry: AgentInput) -> str:
        if self.failure is not None:
            raise self.failure
        assert subject == f"dn:{entry.device.dn}"
        self.entries.append(entry)
        return "1-0"

    @property
    def told(self) -> list[tuple[str, bool, str]]:
        return [(e.device.dn, e.device.in_service, e.device.cause) for e in self.entries]


class Store:
    """Keeps reports of slots, or raises."""

    def __init__(self) -> None:
        self.reported: dict[int, dict[Device, int]] = {}
        self.seen = 0
        self.failure: Exception | None = None
        self.proven = 0

    async def take_over(self, slot: int, epoch: int) -> tuple[dict[Device, int], int]:
        return dict(self.reported.get(slot, {})), self.seen

    async def save(self, slot: int, epoch: int, reports: Sequence[Report], seen: int) -> None:
        if self.failure is not None:
            raise self.failure
        known = self.reported.setdefault(slot, {})
        for report in reports:
            if report.in_service:
                known[report.device] = report.revision
            else:
                known.pop(report.device, None)
        self.seen = seen

    async def prove(self, slot: int, epoch: int) -> None:
        self.proven += 1
        if self.failure is not None:
            raise self.failure

    async def rewrite(self, slot: int, epoch: int, reported: dict[Device, int], seen: int) -> None:
        self.reported[slot] = dict(reported)


class World:
    """One node; `heir()` makes another over the same log and store."""

    def __init__(self, log: Log | None = None, store: Store | None = None) -> None:
        self.cache, self.log, self.store = Cache(), log or Log(), store or Store()
        self.now_us, self.lease_good = NOW, True
        self.reporting = Reporting(
            self.cache,  # type: ignore[arg-type]
            self.store,  # type: ignore[arg-type]
            self.log,  # type: ignore[arg-type]
            Metrics("test"),
            structlog.get_logger("test"),
            lambda slot: self.lease_good,
            lambda: self.now_us,
        )
        self.task = asyncio.create_task(self.reporting.run())

    async def own(self, *devices: Device) -> None:
        for slot in {slot_of(device) for device in devices}:
            await self.reporting.acquire(slot, 7)
        await self.settle()

    async def settle(self) -> None:
        """Everything that can happen now has happened."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def die(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(reporting, "RETRY_S", 0.0)
    made = World()
    yield made
    await made.die()


async def test_only_the_owner_reports(world: World) -> None:
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    assert world.log.told == []
    await world.own(PHONE)
    assert world.log.told == [("1001", True, "register")]
    await world.reporting.release(slot_of(PHONE), 7, ReleaseReason.HANDED_OVER)
    world.cache.bind(PHONE)
    await world.settle()
    assert len(world.log.told) == 1


async def test_the_end_by_time_and_the_removal(world: World) -> None:
    await world.own(PHONE, OTHER)
    world.cache.bind(PHONE, NOW + 10)
    world.cache.bind(OTHER, NOW + 10**9)
    await world.settle()
    world.now_us = NOW + 11
    world.cache.bind(PHONE)
    world.cache.bind(OTHER)
    await world.settle()
    assert sorted(world.log.told[2:]) == [("1001", False, "expired"), ("1002", False, "unregister")]


@pytest.mark.parametrize("failure", [LogFull("full"), StoreUnavailable("away")])
async def test_what_cannot_be_reported_waits(world: World, failure: Exception) -> None:
    world.log.failure = failure
    await world.own(PHONE)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    assert world.log.told == []
    world.log.failure = None
    await world.settle()
    assert world.log.told == [("1001", True, "register")]


async def test_a_report_whose_note_was_lost_is_repeated_under_its_id(world: World) -> None:
    await world.own(PHONE)
    world.store.failure = StoreUnavailable("away")
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    await world.die()
    assert len(world.log.entries) >= 1
    world.store.failure = None
    heir = World(world.log, world.store)
    heir.cache.bind(PHONE, NOW + 10)
    await heir.own(PHONE)
    assert {entry.input_id for entry in world.log.entries} == {"t1/1001/in/1"}
    assert world.store.reported[slot_of(PHONE)] == {PHONE: 1}
    await heir.die()


async def test_an_heir_reports_what_happened_while_nobody_looked(world: World) -> None:
    await world.own(PHONE, OTHER)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    await world.die()
    heir = World(world.log, world.store)
    heir.cache.bind(OTHER, NOW + 10)
    await heir.own(PHONE, OTHER)
    assert world.log.told == [("1001", True, "register")] + sorted(
        [("1001", False, "unregister"), ("1002", True, "register")],
        key=lambda told: heir.log.told.index(told),
    )
    assert len(world.log.told) == 3
    await heir.die()


async def test_an_heir_with_older_data_waits_for_newer(world: World) -> None:
    await world.own(PHONE)
    for _ in range(3):
        world.cache.bind(OTHER, NOW + 10)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    await world.die()
    heir = World(world.log, world.store)
    taking = asyncio.create_task(heir.own(PHONE))
    await heir.settle()
    assert not taking.done()
    assert len(world.log.told) == 1, "it does not know the binding yet and must not report its end"
    heir.cache.revision = 3
    heir.cache.bind(PHONE, NOW + 10)
    await taking
    assert len(world.log.told) == 1
    await heir.die()


async def test_past_its_lease_a_node_proves_its_slot_first(world: World) -> None:
    await world.own(PHONE)
    world.lease_good = False
    world.store.failure = StaleEpoch(slot_of(PHONE), 7, 9)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    assert world.store.proven == 1
    assert world.log.told == []
    assert not world.reporting.slots


async def test_a_write_refused_under_an_old_claim_does_not_end_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.own(PHONE)
    save = world.store.save

    async def refused(slot: int, epoch: int, reports: Sequence[Report], seen: int) -> None:
        monkeypatch.setattr(world.store, "save", save)
        await world.reporting.acquire(slot, 9)
        raise StaleEpoch(slot, epoch, 9)

    monkeypatch.setattr(world.store, "save", refused)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    assert set(world.reporting.slots) == {slot_of(PHONE)}
    assert PHONE in world.store.reported[slot_of(PHONE)], "the new claim reports it, under the same id"
    assert {entry.input_id for entry in world.log.entries} == {world.log.entries[0].input_id}


async def test_a_store_that_forgot_is_told_again(world: World) -> None:
    await world.own(PHONE)
    world.cache.bind(PHONE, NOW + 10)
    await world.settle()
    world.store.reported.clear()
    await world.reporting.rewrite()
    assert world.store.reported[slot_of(PHONE)] == {PHONE: 1}


# -- the end of bindings -------------------------------------------------------------------------------------------


class Config:
    """Takes bindings; carries them into the cache unless it fails."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.puts: list[tuple[Device, int, int]] = []
        self.failure: Exception | None = None

    async def put(self, device: Device, bindings: Iterable[Registration], revision: int) -> int:
        if self.failure is not None:
            raise self.failure
        left = [binding.expires_us for binding in bindings]
        self.puts.append((device, len(left), revision))
        return self.cache.bind(device, *left)


class Clock:
    """An expiry over a cache, driven by hand."""

    def __init__(self) -> None:
        self.cache, self.now_us, self.owned = Cache(), NOW, True
        self.config = Config(self.cache)
        self.expiry = Expiry(
            self.cache,  # type: ignore[arg-type]
            self.config,  # type: ignore[arg-type]
            lambda device: self.owned,
            Metrics("test"),
            structlog.get_logger("test"),
            lambda: self.now_us,
        )

    async def tick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(expiry, "TICK_S", 0.0)
        task = asyncio.create_task(self.expiry.run())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_bindings_end_each_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    first = clock.cache.bind(PHONE, NOW + 10, NOW + 20)
    await clock.tick(monkeypatch)
    assert clock.config.puts == []
    clock.now_us = NOW + 10
    await clock.tick(monkeypatch)
    assert clock.config.puts == [(PHONE, 1, first)]
    clock.now_us = NOW + 25
    await clock.tick(monkeypatch)
    assert clock.config.puts[1:] == [(PHONE, 0, first + 1)]
    assert clock.cache.registrations(*PHONE) is None


async def test_a_refresh_in_the_last_moment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.cache.bind(PHONE, NOW + 10)
    clock.cache.bind(PHONE, NOW + 1000)
    clock.now_us = NOW + 11
    await clock.tick(monkeypatch)
    assert clock.config.puts == []
    clock.config.failure = Conflict(99)
    clock.now_us = NOW + 1001
    await clock.tick(monkeypatch)
    clock.config.failure = None
    clock.cache.bind(PHONE, NOW + 5000)
    await clock.tick(monkeypatch)
    assert clock.config.puts == []


async def test_what_config_does_not_take_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.cache.bind(PHONE, NOW + 10)
    clock.now_us = NOW + 11
    clock.config.failure = DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "away", dependency="config")
    await clock.tick(monkeypatch)
    clock.config.failure = None
    await clock.tick(monkeypatch)
    assert clock.config.puts == []
    clock.now_us += expiry.RETRY_US
    await clock.tick(monkeypatch)
    assert len(clock.config.puts) == 1


async def test_what_ended_while_nobody_owned_it_ends_at_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.owned = False
    clock.cache.bind(PHONE, NOW + 10)
    clock.now_us = NOW + 11
    await clock.tick(monkeypatch)
    assert clock.config.puts == []
    clock.owned = True
    clock.expiry.take_over(iter([PHONE, OTHER]))
    await clock.tick(monkeypatch)
    assert clock.config.puts == [(PHONE, 0, 1)]
