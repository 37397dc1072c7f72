"""Acquire and release of one slot follow the claims, in order and never overlapping, whatever happens meanwhile."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.allocation import Slot
from mesh.holdings import Holdings, ReleaseReason


class Service:
    """A service that holds slots; its callbacks take as many turns of the loop as the schedule says, and may fail."""

    def __init__(self, seed: int = 0, failures: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.failures = failures
        self.active: dict[Slot, str] = {}
        self.state: dict[Slot, int] = {}
        self.log: list[tuple[str, Slot, int]] = []
        self.gate: asyncio.Event | None = None
        self.holdings = Holdings("test", self.acquire, self.release, lambda: None)

    async def acquire(self, slot: Slot, epoch: int) -> None:
        await self._busy(slot, "acquire")
        assert slot not in self.state, "acquired twice"
        self.log.append(("acquire", slot, epoch))
        self.state[slot] = epoch

    async def release(self, slot: Slot, epoch: int, reason: ReleaseReason) -> None:
        assert slot not in self.holdings.owned
        await self._busy(slot, "release")
        assert self.state.pop(slot) == epoch, "released what was not acquired"
        self.log.append((reason.value, slot, epoch))

    async def _busy(self, slot: Slot, what: str) -> None:
        assert slot not in self.active, f"{what} during {self.active.get(slot)}"
        self.active[slot] = what
        try:
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if what == "acquire" and self.random.random() < self.failures:
                raise RuntimeError("store is away")
        finally:
            del self.active[slot]


async def test_a_claim_is_acquired_and_served() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    assert 3 not in service.holdings.owned
    await service.holdings.idle()
    assert service.holdings.owned == {3: 17}
    service.holdings.lost(3)
    assert not service.holdings.serves(3), "served no longer from the moment it is lost"
    await service.holdings.idle()
    assert service.log == [("acquire", 3, 17), ("lost", 3, 17)]


async def test_a_hand_over_releases_before_it_returns() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    assert await service.holdings.part(3, 17)
    assert service.log[-1] == ("handed over", 3, 17)
    service.holdings.claimed(3, 17)  # the watch still shows my claim
    await service.holdings.idle()
    assert service.log[-1] == ("handed over", 3, 17)
    service.holdings.lost(3)
    service.holdings.keep(3, 17)
    await service.holdings.idle()
    assert service.holdings.owned == {}
    assert len(service.log) == 2


async def test_a_hand_over_that_did_not_take_place_is_undone() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    assert await service.holdings.part(3, 17)
    service.holdings.keep(3, 17)
    await service.holdings.idle()
    assert service.holdings.owned == {3: 17}


async def test_only_what_is_served_is_parted_with() -> None:
    service = Service()
    assert not await service.holdings.part(3, 17)
    service.holdings.claimed(3, 17)
    assert not await service.holdings.part(3, 17)
    await service.holdings.idle()
    assert not await service.holdings.part(3, 16)


async def test_a_claim_lost_during_release_of_a_hand_over_is_noticed() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    service.gate = asyncio.Event()
    parting = asyncio.create_task(service.holdings.part(3, 17))
    await asyncio.sleep(0.01)
    service.holdings.lost(3)
    service.holdings.claimed(3, 30)
    idle = asyncio.create_task(service.holdings.idle())
    await asyncio.sleep(0.01)
    assert not idle.done(), "a release under way is not idle"
    service.gate.set()
    assert not await parting
    await idle
    assert service.log == [("acquire", 3, 17), ("handed over", 3, 17), ("acquire", 3, 30)]


async def test_an_acquisition_is_cancelled_when_its_claim_goes() -> None:
    service = Service()
    service.gate = asyncio.Event()
    service.holdings.claimed(3, 17)
    await asyncio.sleep(0.01)
    service.holdings.lost(3)
    await asyncio.wait_for(service.holdings.idle(), 1)
    assert service.log == []


async def test_a_failed_acquisition_is_tried_again() -> None:
    service = Service(seed=1, failures=0.7)
    for slot in range(5):
        service.holdings.claimed(slot, 1)
    await asyncio.wait_for(service.holdings.idle(), 20)
    assert service.holdings.owned == dict.fromkeys(range(5), 1)


async def test_a_failed_release_counts_as_released() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    service.active[3] = "somebody else"  # makes release raise
    service.holdings.lost(3)
    await service.holdings.idle()
    assert service.holdings.owned == {}


async def test_stop_releases_everything() -> None:
    service = Service()
    for slot in range(5):
        service.holdings.claimed(slot, 1)
    await service.holdings.idle()
    await service.holdings.stop()
    assert service.state == {}
    assert {what for what, _, _ in service.log[5:]} == {"lost"}


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["claimed", "lost", "part", "keep", "turn", "turn"]), st.integers(0, 2)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.integers(0, 2**32))
async def test_any_schedule_ends_where_the_claims_end(actions: list[tuple[str, int]], seed: int) -> None:
    service = Service(seed)
    holdings, parting = service.holdings, list[asyncio.Task[bool]]()
    for epoch, (action, slot) in enumerate(actions, start=1):
        if action == "claimed":
            holdings.claimed(slot, epoch)
        elif action == "lost":
            holdings.lost(slot)
        elif action == "part" and slot in holdings.owned:
            parting.append(asyncio.create_task(holdings.part(slot, holdings.owned[slot])))
        elif action == "keep":
            holdings.keep(slot, holdings.claimed_epochs.get(slot, 0))
        await asyncio.sleep(0)
    await asyncio.gather(*parting)
    for number, claimed in holdings.claimed_epochs.items():
        holdings.keep(number, claimed)
    await holdings.idle()
    assert holdings.owned == holdings.claimed_epochs == service.state
    assert not service.active
