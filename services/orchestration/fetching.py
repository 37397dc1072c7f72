"""HTTP requests of applications, and messages of the Basic HTTP event processor."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import anyio.lowlevel
import httpx
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError
from services.orchestration.effects import Fetch, Post
from services.orchestration.inputs import Outcome

MAX_BODY = 256 * 1024
"""Longest answer to an HTTP request of an application, bytes."""
POST_S = 5.0
"""Longest wait for the receiver of an event by Basic HTTP, seconds."""
PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""Before further attempts, the last from then on, seconds."""
ONCE = "Idempotency-Key"
"""Header with the id of the effect: a request sent again by an heir has the same (IETF httpapi-idempotency-key)."""


def trusting(ca_file: str) -> httpx.AsyncClient:
    """A client that trusts the usual authorities and those in a PEM file, when one is given."""
    if not ca_file:
        return httpx.AsyncClient(follow_redirects=True)
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=Path(ca_file).read_text(encoding="ascii"))
    return httpx.AsyncClient(follow_redirects=True, verify=context)


async def warm() -> None:
    """httpx waits with anyio, which loads its part for asyncio when it is first used: now, and not while a node takes over."""
    await anyio.lowlevel.checkpoint()


class Fetcher:
    """Carries the effects out; gives their outcomes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def fetch(self, fetch: Fetch) -> Outcome:
        """Asks, again after no answer or a status of 500 and above while attempts are left. Each attempt may take the
        request's time. Raises DomainError when there is no answer, or one that is too long."""
        for attempt in range(fetch.retries + 1):
            last = attempt == fetch.retries
            try:
                outcome = await self._attempt(fetch)
            except DomainError as error:
                if last or error.reason == Reason.REASON_QUEUE_FULL:
                    raise
            else:
                if last or not outcome.reason.startswith("http 5"):
                    return outcome
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
        raise AssertionError("the last attempt gives its outcome")

    async def _attempt(self, fetch: Fetch) -> Outcome:
        headers = {ONCE: fetch.id} | {key: str(value) for key, value in fetch.headers}
        try:
            async with asyncio.timeout(fetch.timeout_ms / 1000):
                asked = self._client.stream(
                    fetch.method, fetch.url, headers=headers, content=fetch.body, timeout=None
                )
                async with asked as response:
                    body = await _bounded(response)
        except TimeoutError as error:
            raise DomainError(Reason.REASON_TIMEOUT, f"no answer in {fetch.timeout_ms} ms") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            text = f"{type(error).__name__}: {error}"
            raise DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, text, dependency="http") from error
        content = body.decode(response.encoding or "utf-8", "replace")
        if response.status_code >= 400:
            return Outcome(fetch.id, f"http {response.status_code}", content[:1024])
        return Outcome(fetch.id, data={"statuscode": response.status_code, "content": content})

    async def post(self, message: Post) -> Outcome:
        """A message by the Basic HTTP event processor; any 2xx is good (SCXML C.2)."""
        headers = {"Content-Type": message.content_type, ONCE: message.id}
        try:
            answer = await self._client.post(
                message.url, content=message.body.encode(), headers=headers, timeout=POST_S
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return Outcome(message.id, "REASON_DEPENDENCY_UNAVAILABLE", f"{type(error).__name__}: {error}")
        if not answer.is_success:
            return Outcome(message.id, f"http {answer.status_code}", f"HTTP status {answer.status_code}")
        return Outcome(message.id)


async def _bounded(response: httpx.Response) -> bytes:
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_BODY:
            raise DomainError(Reason.REASON_QUEUE_FULL, f"the answer is longer than {MAX_BODY} bytes")
    return body
