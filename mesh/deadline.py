"""Deadlines: every unary call has one, and what is left of it travels to the calls made on its behalf."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from mesh.pipeline import Call, Stage

DEFAULT_UNARY_S = 2.0
"""Timeout of a unary call whose caller gave none, seconds."""

MISSING_CAP_S = 10.0
"""Time a unary request may take whose caller sent no deadline, seconds."""

_FOREVER_S = 10 * 365 * 86400.0

_expires: ContextVar[float | None] = ContextVar("voicemesh_deadline", default=None)


def remaining() -> float | None:
    """Seconds left of the request being served (never below 0), or None outside of one."""
    expires = _expires.get()
    return None if expires is None else max(0.0, expires - time.monotonic())


def timeout_for(wanted: float | None) -> float:
    """Timeout in seconds of a unary call made now: what was asked (default 2 s), but no longer than the
    request being served has left."""
    left = remaining()
    timeout = DEFAULT_UNARY_S if wanted is None else wanted
    return timeout if left is None else min(timeout, left)


@contextmanager
def expiring_in(seconds: float) -> Iterator[None]:
    """Calls made inside share this time limit; it never extends one that is in force."""
    left = remaining()
    limit = seconds if left is None else min(seconds, left)
    token = _expires.set(time.monotonic() + limit)
    try:
        yield
    finally:
        _expires.reset(token)


@contextmanager
def unbounded() -> Iterator[None]:
    """Work that outlives the request being served: a task started inside does not inherit its deadline."""
    token = _expires.set(None)
    try:
        yield
    finally:
        _expires.reset(token)


def begin(seconds_left: float | None) -> None:
    """Sets the deadline of the request that the present task serves (the server interceptor calls this)."""
    _expires.set(None if seconds_left is None else time.monotonic() + seconds_left)


class Deadlines(Stage):
    """Takes over the caller's deadline. A unary response whose caller gave none may take `cap` seconds."""

    def __init__(self, cap: float = MISSING_CAP_S) -> None:
        self._cap = cap

    def around(self, call: Call) -> AbstractAsyncContextManager[Any] | None:
        """Sets the deadline of the task; the time limit only where the caller set none."""
        left = call.context.time_remaining()
        unlimited = left is None or left > _FOREVER_S
        if not unlimited:
            begin(left)
            return None
        if call.method.response_streaming or call.method.request_streaming:
            begin(None)
            return None
        begin(self._cap)
        return asyncio.timeout(self._cap)
