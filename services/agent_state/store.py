"""What is kept where in Redis; the only file that knows key names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voice.record.v1.agent_pb2 import AgentEffect

from mesh.store import FencedStore, Operation, offset, put_fields, remove_fields
from services.agent_state.agent import Agent, Desk
from services.agent_state.record import unpack, unpack_desk

AGENTS: Final = "agents"
"""Hash {agent_state:<slot>}:agents: "<tenant>:<agent id>" -> AgentRecord."""
DNS: Final = "dns"
"""Hash {agent_state:<slot>}:dns: "<tenant>:<number>" -> DeviceRecord."""
PENDING: Final = "pending"
"""Hash {agent_state:<slot>}:pending: effect id -> AgentEffect, from the write of the state until it was performed."""
LOG: Final = "log"
"""Name under which the cursor in the slot's request log is kept."""
FIELDS: Final = 300
"""Fields of one operation at most; a fenced write takes 2000 arguments in all."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A slot as it was stored."""

    agents: dict[str, Agent]
    desks: dict[str, Desk]
    pending: list[AgentEffect]
    """In the order in which they were caused."""
    cursor: str


class Store:
    """Agents, DNs and pending effects by slot, fenced."""

    def __init__(self, fenced: FencedStore) -> None:
        self._fenced = fenced

    async def load(self, slot: int, epoch: int) -> Loaded:
        """Takes a slot over. Raises StaleEpoch, StoreUnavailable."""
        await self._fenced.raise_fence(slot, epoch)
        agents = await self._fenced.read_fields(slot, AGENTS)
        desks = await self._fenced.read_fields(slot, DNS)
        pending = await self._fenced.read_fields(slot, PENDING)
        effects = [AgentEffect.FromString(raw) for _, raw in sorted(pending.items())]
        return Loaded(
            {key: unpack(raw) for key, raw in agents.items()},
            {key: unpack_desk(raw) for key, raw in desks.items()},
            effects,
            await self._fenced.read_offset(slot, LOG) or "0",
        )

    async def raise_fence(self, slot: int, epoch: int) -> None:
        """Keeps older owners out, in a Redis that may not know of us. Raises StaleEpoch, StoreUnavailable."""
        await self._fenced.raise_fence(slot, epoch)

    async def write(
        self,
        slot: int,
        epoch: int,
        *,
        agents: Mapping[str, bytes],
        desks: Mapping[str, bytes],
        pending: Mapping[str, bytes],
        performed: Sequence[str],
        cursor: str,
    ) -> None:
        """What changed, in one write. Raises StaleEpoch, StoreUnavailable."""
        operations: list[Operation] = []
        for key, fields in ((AGENTS, agents), (DNS, desks), (PENDING, pending)):
            items = list(fields.items())
            for start in range(0, len(items), FIELDS):
                operations.append(put_fields(key, dict(items[start : start + FIELDS])))
        for start in range(0, len(performed), FIELDS):
            operations.append(remove_fields(PENDING, *performed[start : start + FIELDS]))
        await self._fenced.write(slot, epoch, [*operations, offset(LOG, cursor)])
