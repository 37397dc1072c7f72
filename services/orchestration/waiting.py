"""What requests of clients wait for on this node: that a change is stored, that a session answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mesh.deadline import timeout_for
from mesh.errors import DomainError, Reason
from services.orchestration.replies import Answer, Reply

STORE_S = 5.0
"""Longest wait for a change to be stored, seconds."""
MAX_ANSWERS = 10_000
"""Requests that wait for answers of sessions."""


class Waiting:
    """Waits that end with the answer, with the session, or with the slot."""

    def __init__(self) -> None:
        self._waits: dict[str, dict[str, list[asyncio.Future[Answer]]]] = {}
        self._slots: dict[asyncio.Future[Answer], int] = {}
        self._stored: dict[asyncio.Future[None], int] = {}

    @property
    def count(self) -> int:
        """Requests that wait."""
        return len(self._slots)

    async def stored(self, slot: int, session_id: str, begin: Callable[[Callable[[], None]], None]) -> None:
        """`begin(stored)` hands something to the slot's shard; returns when that has called `stored`. Raises NOT_OWNER when
        the slot goes before, TIMEOUT."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stored[future] = slot
        try:
            begin(lambda: None if future.done() else future.set_result(None))
            async with asyncio.timeout(timeout_for(STORE_S)):
                await future
        except TimeoutError as error:
            why = f"session {session_id}: the change is not stored yet"
            raise DomainError(Reason.REASON_TIMEOUT, why) from error
        finally:
            del self._stored[future]

    @contextmanager
    def answer(self, slot: int, session_id: str, request_id: str) -> Iterator[asyncio.Future[Answer]]:
        """The answer to a request; everybody who sent it gets it. Fails with NOT_OWNER when the slot goes, with TIMEOUT
        when the session ends without an answer. Raises QUEUE_FULL."""
        if self.count >= MAX_ANSWERS:
            raise DomainError(Reason.REASON_QUEUE_FULL, f"{self.count} requests wait for answers of sessions")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(session_id, {}).setdefault(request_id, []).append(future)
        self._slots[future] = slot
        try:
            yield future
        finally:
            future.cancel()
            self._forget(session_id, request_id, future)

    def replied(self, session_id: str, reply: Reply) -> None:
        """A session has answered a request."""
        for future in self._waits.get(session_id, {}).get(reply.request_id, ()):
            if not future.done():
                future.set_result(reply.answer)

    def ended(self, session_id: str) -> None:
        """A session is over: it answers nothing more."""
        why = DomainError(Reason.REASON_TIMEOUT, f"session {session_id} ended without an answer")
        for futures in self._waits.get(session_id, {}).values():
            for future in futures:
                _fail(future, why)

    def released(self, slot: int) -> None:
        """The slot is another node's: its requests are to be sent there."""
        for answer in [one for one, number in self._slots.items() if number == slot]:
            _fail(answer, not_owner(slot))
        for stored in [one for one, number in self._stored.items() if number == slot]:
            _fail(stored, not_owner(slot))

    def _forget(self, session_id: str, request_id: str, future: asyncio.Future[Answer]) -> None:
        del self._slots[future]
        requests = self._waits[session_id]
        requests[request_id].remove(future)
        if not requests[request_id]:
            del requests[request_id]
        if not requests:
            del self._waits[session_id]


def not_owner(slot: int) -> DomainError:
    """This node does not have the slot (any more)."""
    message = f"slot {slot} of call threads is not here"
    return DomainError(Reason.REASON_NOT_OWNER, message, family="thread", slot=str(slot))


def _fail(future: asyncio.Future[Any], why: DomainError) -> None:
    if not future.done():
        future.set_exception(why)
        future.exception()  # whoever asked may have left: no complaint that nobody looked
