"""Acquire and release of one slot follow the claims, in order and never overlapping, whatever happens meanwhile."""

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.allocation import Slot
from mesh.holdings import Holdings, ReleaseReason


class Service:
    """A service that holds slots; its callbacks take as many turns of the loop as the schedule says, and may fail."""

    def __init__(
        self, seed: int = 0, failures: float = 0.0, *, renews: bool = False, others: float = 0.0
    ) -> None:
        """`renews`: slots are renewed; `others`: how often somebody else had one in between."""
        self.random = random.Random(seed)
        self.failures = failures
        self.active: dict[Slot, str] = {}
        self.state: dict[Slot, int] = {}
        self.unrenewed: dict[Slot, int] = {}
        """Slots whose renewal has begun and not succeeded: the epoch they were served under."""
        self.log: list[tuple[str, Slot, int]] = []
        self.gate: asyncio.Event | None = None
        self.others = others
        renew = self.renew if renews else None
        self.holdings = Holdings("test", self.acquire, self.release, lambda: None, renew)

    async def acquire(self, slot: Slot, epoch: int) -> None:
        await self._busy(slot, "acquire")
        assert slot not in self.state, "acquired twice"
        self.log.append(("acquire", slot, epoch))
        self.state[slot] = epoch

    async def release(self, slot: Slot, epoch: int, reason: ReleaseReason) -> None:
        assert slot not in self.holdings.owned
        await self._busy(slot, "release")
        held = self.state.pop(slot)
        assert epoch == self.unrenewed.pop(slot, held), "released what was not acquired"
        self.log.append((reason.value, slot, epoch))

    async def renew(self, slot: Slot, old: int, new: int) -> bool:
        assert self.state[slot] in (old, new), "renewed what is not served"
        self.state[slot], self.unrenewed[slot] = new, old
        await self._busy(slot, "renew")
        if self.random.random() < self.others:
            return False
        del self.unrenewed[slot]
        self.log.append(("renew", slot, new))
        return True

    async def _busy(self, slot: Slot, what: str) -> None:
        assert slot not in self.active, f"{what} during {self.active.get(slot)}"
        self.active[slot] = what
        try:
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if what in ("acquire", "renew") and self.random.random() < self.failures:
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


async def an_orphan(**how: Any) -> Service:
    service = Service(renews=True, **how)
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    service.holdings.orphaned(3)
    await service.holdings.idle()
    assert service.holdings.owned == {3: 17}, "served on"
    assert not service.holdings.certain(3), "but nothing leaves without a proof"
    assert service.holdings.orphans == [3]
    return service


async def test_an_orphan_claimed_again_carries_on_under_its_new_epoch() -> None:
    service = await an_orphan()
    service.holdings.claimed(3, 30)
    assert service.holdings.orphans == []
    await service.holdings.idle()
    assert service.holdings.owned == service.state == {3: 30}
    assert service.holdings.certain(3)
    assert service.log == [("acquire", 3, 17), ("renew", 3, 30)], "nothing was released"
    service.holdings.lost(3)
    await service.holdings.idle()
    assert service.log[-1] == ("lost", 3, 30)


async def test_an_orphan_is_not_parted_with() -> None:
    """The claim that was to be handed over has ended meanwhile."""
    service = await an_orphan()
    assert not await service.holdings.part(3, 17)
    service.holdings.claimed(3, 30)
    await service.holdings.idle()
    assert service.holdings.owned == service.state == {3: 30}


async def test_an_orphan_that_somebody_else_has_is_lost() -> None:
    service = await an_orphan()
    service.holdings.lost(3)
    assert service.holdings.owned == {}
    await service.holdings.idle()
    assert service.log[-1] == ("lost", 3, 17)


async def test_an_orphan_that_somebody_else_had_in_between_is_read_again() -> None:
    service = await an_orphan(others=1.0)
    service.holdings.claimed(3, 30)
    await service.holdings.idle()
    assert [what for what, _, _ in service.log] == ["acquire", "lost", "acquire"]
    assert service.holdings.owned == service.state == {3: 30}


async def test_a_renewal_that_fails_is_tried_again() -> None:
    service = await an_orphan(seed=5)
    service.failures = 0.7
    service.holdings.claimed(3, 30)
    await asyncio.wait_for(service.holdings.idle(), 20)
    assert service.log[-1] == ("renew", 3, 30)


async def test_an_orphan_lost_or_orphaned_again_while_it_is_renewed() -> None:
    for again in (True, False):
        service = await an_orphan()
        service.gate = asyncio.Event()
        service.holdings.claimed(3, 30)
        await asyncio.sleep(0.01)
        (service.holdings.orphaned if again else service.holdings.lost)(3)
        service.gate.set()
        await service.holdings.idle()
        if again:
            assert service.holdings.owned == {3: 30}
            assert service.holdings.orphans == [3]
            service.holdings.claimed(3, 40)
            await service.holdings.idle()
            assert service.holdings.certain(3)
        else:
            assert service.holdings.owned == service.state == {}


async def test_without_renewal_an_orphan_is_lost_at_once() -> None:
    service = Service()
    service.holdings.claimed(3, 17)
    await service.holdings.idle()
    service.holdings.orphaned(3)
    assert service.holdings.owned == {}
    await service.holdings.idle()
    assert service.log[-1] == ("lost", 3, 17)


async def test_stop_releases_orphans_too() -> None:
    service = await an_orphan()
    await service.holdings.stop()
    assert service.state == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["claimed", "claimed", "lost", "orphaned", "part", "keep", "turn", "turn"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.integers(0, 2**32), st.booleans(), st.sampled_from([0.0, 0.3]))
async def test_any_schedule_ends_where_the_claims_end(
    actions: list[tuple[str, int]], seed: int, renews: bool, others: float
) -> None:
    service = Service(seed, renews=renews, others=others)
    holdings, parting = service.holdings, list[asyncio.Task[bool]]()
    for epoch, (action, slot) in enumerate(actions, start=1):
        if action == "claimed":
            holdings.claimed(slot, epoch)
        elif action == "lost":
            holdings.lost(slot)
        elif action == "orphaned":
            holdings.orphaned(slot)
        elif action == "part" and slot in holdings.owned:
            parting.append(asyncio.create_task(holdings.part(slot, holdings.owned[slot])))
        elif action == "keep":
            holdings.keep(slot, holdings.claimed_epochs.get(slot, 0))
        await asyncio.sleep(0)
    await asyncio.gather(*parting)
    for number, claimed in holdings.claimed_epochs.items():
        holdings.keep(number, claimed)
    await holdings.idle()
    orphans = {slot: holdings.owned[slot] for slot in holdings.orphans}
    assert holdings.owned == holdings.claimed_epochs | orphans == service.state
    assert not service.active
