"""Fences of event streams, asked for together: while one request is under way, what further slots need gathers for the next.

A node that takes 500 slots over would otherwise make 500 requests, and its calls would wait for the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError

Fence: TypeAlias = Callable[[Mapping[str, int]], Awaitable[Mapping[str, int]]]
"""Stream -> epoch: lower epochs are refused from now on. Gives the streams' last sequence numbers. Raises DomainError."""
TOGETHER = 32
"""Slots a request. Their calls are taken over in one round of the loop when it is answered, some 150 ms; a loop that does not come
round for a second costs the node its lease."""
_Asked: TypeAlias = tuple[Mapping[str, int], asyncio.Future[Mapping[str, int]]]


class Fencing:
    """A `Fence` that puts requests together. Use from one event loop."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._asked: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, epochs: Mapping[str, int]) -> Mapping[str, int]:
        """As `Fence`; the answer may tell of other streams, too."""
        answer: asyncio.Future[Mapping[str, int]] = asyncio.get_running_loop().create_future()
        self._asked.append((epochs, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask(), name="fence streams")
        return await answer

    async def _ask(self) -> None:
        while self._asked:
            some, self._asked = self._asked[:TOGETHER], self._asked[TOGETHER:]
            if not await self._together(some):
                for one in some:  # one slot that is another's must not keep the others
                    await self._together([one])

    async def _together(self, some: list[_Asked]) -> bool:
        """One request; False when it was refused, and nobody has been told because it was for several."""
        try:
            ends = await self._fence({key: epoch for epochs, _ in some for key, epoch in epochs.items()})
        except Exception as error:  # noqa: BLE001 - whoever asked gets it, and raises it
            if len(some) > 1 and isinstance(error, DomainError) and error.reason == Reason.REASON_STALE_EPOCH:
                return False
            for answer in _waiting(some):
                answer.set_exception(error)
        else:
            for answer in _waiting(some):
                answer.set_result(ends)
        return True


def _waiting(some: list[_Asked]) -> list[asyncio.Future[Mapping[str, int]]]:
    """Those who still wait: who asked may have been cancelled."""
    return [answer for _, answer in some if not answer.done()]
