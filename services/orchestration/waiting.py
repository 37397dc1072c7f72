"""Requests that wait on this node for sessions to answer them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.errors import DomainError, Reason
from services.orchestration.replies import Answer, Reply

MAX_ANSWERS = 10_000
"""Requests that wait for answers of sessions."""


class Waiting:
    """Waits that end with the answer, with the session, or with the slot."""

    def __init__(self) -> None:
        self._waits: dict[str, dict[str, list[asyncio.Future[Answer]]]] = {}
        self._slots: dict[asyncio.Future[Answer], int] = {}

    @property
    def count(self) -> int:
        """Requests that wait."""
        return len(self._slots)

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
        for future in [one for one, number in self._slots.items() if number == slot]:
            _fail(future, not_owner(slot))

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


def _fail(future: asyncio.Future[Answer], why: DomainError) -> None:
    if not future.done():
        future.set_exception(why)
        future.exception()  # whoever asked may have left: no complaint that nobody looked
