"""Requests that wait for their outcome: each gets exactly one, or a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from voice.agent_state.v1.agent_pb2 import RequestOutcome


class Outcomes:
    """Futures by tenant and request id, as many as there are open requests (desk.py limits them). One loop."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[asyncio.Future[RequestOutcome]]] = {}

    def __len__(self) -> int:
        return sum(len(futures) for futures in self._waiting.values())

    @contextmanager
    def expect(self, tenant: str, request_id: str) -> Iterator[asyncio.Future[RequestOutcome]]:
        """A future for the outcome. The same id may be expected more than once: all get it."""
        future: asyncio.Future[RequestOutcome] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault((tenant, request_id), [])
        futures.append(future)
        try:
            yield future
        finally:
            futures.remove(future)
            if not futures:
                self._waiting.pop((tenant, request_id), None)

    def settle(self, outcome: RequestOutcome) -> bool:
        """Hands an outcome to those who wait for it. False when nobody does any more."""
        futures = self._waiting.get((outcome.tenant, outcome.request_id), ())
        for future in futures:
            if not future.done():
                future.set_result(outcome)
        return bool(futures)
