"""Answers into the queue that a request names; then the request's entries leave the tenant's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from voice.tenant.v1.routing_pb2 import RouteAnswer

from mesh.errors import DomainError
from mesh.rq import PublisherFull
from services.tenant.mates import Deskmates, May

RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 1.0


class Answering:
    """Answers of one tenant. A queue takes the first answer for an id and no other."""

    def __init__(self, queue: str, mates: Deskmates, may: May) -> None:
        """`queue`: the tenant's own."""
        self._queue = queue
        self._mates = mates
        self._may = may

    async def answer(self, queue: str, message: RouteAnswer, entry_ids: Sequence[str]) -> bool:
        """Tells an answer, then acknowledges what it answers; False when the queue can never take it."""
        if not await self._may():
            return True
        taken = True
        try:
            await self._enqueue(queue, message.request_id, message.SerializeToString())
        except DomainError as error:
            taken = False
            self._mates.log.error(
                "answer refused", request=message.request_id, queue=queue[:64], why=error.message
            )
        found = "found" if message.agent_id else "not found"
        self._mates.numbers.answers.labels(found if taken else "refused").inc()
        await self._mates.rq.acknowledge(self._queue, *entry_ids)
        return taken

    async def acknowledge(self, entry_id: str) -> None:
        """An entry that nothing is left to do about."""
        if await self._may():
            await self._mates.rq.acknowledge(self._queue, entry_id)

    async def _enqueue(self, queue: str, ident: str, payload: bytes) -> None:
        """Until it is in. Raises DomainError for what can never be."""
        pause = RETRY_S
        while True:
            try:
                await self._mates.rq.enqueue(queue, ident, payload)
            except PublisherFull as error:
                self._mates.log.warning("answer waits", request=ident, why=str(error))
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)
