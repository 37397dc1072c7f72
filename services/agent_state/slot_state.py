"""A slot that this node owns: what it holds, and what of that is not written yet."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from voice.record.v1.agent_pb2 import AgentEffect

from mesh.rq.route import agent_stream_key
from mesh.slots import NotOwner
from services.agent_state.agent import Agent, Desk
from services.agent_state.effects import Deny, Grant

Waiter = asyncio.Future[Grant | Deny]


@dataclass(slots=True, eq=False)
class Unsaved:
    """What one write saves, and what follows when it is saved."""

    agents: dict[str, Agent] = field(default_factory=dict)
    desks: dict[str, Desk] = field(default_factory=dict)
    effects: list[AgentEffect] = field(default_factory=list)
    performed: list[str] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)
    moved: bool = False
    """The cursor has moved."""

    @property
    def urgent(self) -> bool:
        """Whether anything but performed effects is to be written: those can wait for the next write."""
        return bool(self.agents or self.desks or self.effects or self.then or self.moved)


@dataclass(slots=True, eq=False)
class SlotState:
    """One slot."""

    slot: int
    epoch: int
    agents: dict[str, Agent]
    desks: dict[str, Desk]
    cursor: str
    saved: str = ""
    """The cursor as it was last written."""
    trimmed: str = ""
    """What is before it is gone from the log."""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    """Numbers of effects: their ids sort in the order they were caused. A slot that comes back to its process under the same
    epoch (its heir died before the hand-over) goes on with them: an id that a queue knows is not taken again."""
    unsaved: Unsaved = field(default_factory=Unsaved)
    waiters: dict[tuple[str, str], list[Waiter]] = field(default_factory=lambda: defaultdict(list))
    """Calls that wait for the outcome of a reservation: by agent and request id."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a batch of the log is dealt with."""
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held during a write."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    calls: set[asyncio.Future[Any]] = field(default_factory=set)
    """Every call that waits for something of this slot to be decided or written."""

    def streams(self) -> set[str]:
        """Keys of the event streams of this slot."""
        agents = {_stream(key, "agent:") for key in self.agents}
        return agents | {_stream(key, "dn:") for key in self.desks}

    def waiter(self) -> asyncio.Future[Any]:
        """A future for a call; it fails with NotOwner when the slot goes."""
        made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.calls.add(made)
        made.add_done_callback(self.calls.discard)
        return made

    def gone(self) -> None:
        """The slot is not ours any more: who waits asks the heir."""
        for call in list(self.calls):
            if not call.done():
                call.set_exception(NotOwner("agent", self.slot))

    def effect_id(self) -> str:
        """The id of the next effect: the epoch first, so that those of an heir sort behind."""
        return f"{self.epoch:016x}.{self.slot:02x}.{next(self.numbers):08x}"

    def take(self) -> Unsaved:
        """What is to be written now."""
        taken, self.unsaved = self.unsaved, Unsaved()
        return taken

    def put_back(self, failed: Unsaved) -> None:
        """The write did not take place: it goes along with the next one."""
        later, self.unsaved = self.unsaved, failed
        failed.agents.update(later.agents)
        failed.desks.update(later.desks)
        failed.effects += later.effects
        failed.performed += later.performed
        failed.then += later.then
        failed.moved |= later.moved


def _stream(key: str, kind: str) -> str:
    tenant, _, name = key.partition(":")
    return agent_stream_key(tenant, f"{kind}{name}")
