"""What requests of clients wait for on this node: that a change is stored, that a session answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mesh.deadline import timeout_for
from mesh.errors import DomainError, Reason
from services.orchestration.answers import Answer, Reply

STORE_S = 5.0
"""Longest wait for a change to be stored, seconds."""
MAX_ANSWERS = 10_000
"""Requests that wait for answers of sessions."""


class Waiting:
    """Waits that end with what they wait for, with the session, or with the slot."""

    def __init__(self) -> None:
        self._slots: dict[int, set[asyncio.Future[None]]] = {}
        self._answers: dict[str, dict[str, list[asyncio.Future[Answer]]]] = {}
        self._count = 0

    @property
    def answers(self) -> int:
        """Requests that wait for an answer."""
        return self._count

    async def stored(self, slot: int, session_id: str, begin: Callable[[Callable[[], None]], None]) -> None:
        """`begin(stored)` hands something to the slot's shard; returns when it has called `stored`.

        Raises NOT_OWNER when the slot goes before, TIMEOUT.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        waiting = self._slots.setdefault(slot, set())
        waiting.add(future)
        try:
            begin(done)
            async with asyncio.timeout(timeout_for(STORE_S)):
                await future
        except TimeoutError as error:
            raise DomainError(
                Reason.REASON_TIMEOUT, f"session {session_id}: the change is not stored yet"
            ) from error
        finally:
            waiting.discard(future)
            if not waiting and self._slots.get(slot) is waiting:
                del self._slots[slot]

    @contextmanager
    def answer(self, slot: int, session_id: str, request_id: str) -> Iterator[asyncio.Future[Answer]]:
        """The answer to a request, whoever of those that sent it asks. Fails with NOT_OWNER when the slot goes, TIMEOUT
        when the session ends without one. Raises QUEUE_FULL."""
        if self._count >= MAX_ANSWERS:
            raise DomainError(
                Reason.REASON_QUEUE_FULL, f"{self._count} requests wait for answers of sessions"
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers.setdefault(session_id, {}).setdefault(request_id, []).append(future)
        self._count += 1
        leave = self._slots.setdefault(slot, set())
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone.add_done_callback(lambda done: _fail(future, done))
        leave.add(gone)
        try:
            yield future
        finally:
            leave.discard(gone)
            gone.cancel()
            future.cancel()
            self._count -= 1
            self._forget(session_id, request_id, future)

    def replied(self, session_id: str, reply: Reply) -> None:
        """A session has answered a request."""
        for future in self._answers.get(session_id, {}).get(reply.request_id, ()):
            if not future.done():
                future.set_result(reply.answer)

    def ended(self, session_id: str) -> None:
        """A session is over: it answers nothing more."""
        for futures in self._answers.get(session_id, {}).values():
            for future in futures:
                if not future.done():
                    why = f"session {session_id} ended without an answer"
                    future.set_exception(DomainError(Reason.REASON_TIMEOUT, why))

    def released(self, slot: int) -> None:
        """The slot is another node's: its requests are to be sent there."""
        for future in self._slots.pop(slot, set()):
            if not future.done():
                future.set_exception(not_owner(slot))

    def _forget(self, session_id: str, request_id: str, future: asyncio.Future[Answer]) -> None:
        requests = self._answers[session_id]
        requests[request_id].remove(future)
        if not requests[request_id]:
            del requests[request_id]
        if not requests:
            del self._answers[session_id]


def not_owner(slot: int) -> DomainError:
    """This node does not have the slot (any more)."""
    return DomainError(
        Reason.REASON_NOT_OWNER, f"slot {slot} of call threads is not here", family="thread", slot=str(slot)
    )


def _fail(future: asyncio.Future[Answer], gone: asyncio.Future[None]) -> None:
    if not future.done() and not gone.cancelled() and (error := gone.exception()) is not None:
        future.set_exception(error)
