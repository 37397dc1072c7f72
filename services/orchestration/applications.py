"""Applications by address: fetched when they changed, compiled once per version.

A version that does not compile never takes over: its address goes on giving the last one that did. When an address cannot
be fetched the next one is tried, and only when none can, the last versions that were had.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
from prometheus_client import Counter

from mesh.telemetry.metrics import Metrics
from services.orchestration.scxml import Compiled, CompileError, compile_document

MAX_BYTES = 1024 * 1024
"""Largest document, bytes."""
FETCH_S = 5.0
"""Longest wait for the application server, seconds."""
FRESH_S = 1.0
"""How long a document is used without asking the server whether it changed, seconds."""
KEPT = 256
"""Compiled versions and addresses kept."""


class ApplicationError(Exception):
    """No application could be had: for each address why."""


@dataclass
class _Known:
    etag: str
    text: bytes
    asked: float
    """When the server was last asked, monotonic seconds."""


class Applications:
    """Gives compiled applications. One fetch an address at a time; an unchanged document (304) is not sent again."""

    def __init__(self, metrics: Metrics, client: httpx.AsyncClient | None = None) -> None:
        self._client = client or httpx.AsyncClient(timeout=FETCH_S, follow_redirects=True)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._compiled: OrderedDict[tuple[str, bytes], Compiled] = OrderedDict()
        self._working: OrderedDict[str, Compiled] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._loads = metrics.counter("application_loads_total", "Applications asked for", ["result"])
        self._compiles: Counter = metrics.counter("compilations_total", "Documents compiled")
        self._errors = metrics.counter("load_errors_total", "Applications that could not be had", ["why"])

    async def load(self, urls: tuple[str, ...]) -> tuple[str, Compiled]:
        """The first of the addresses that can be fetched and compiled, else the first that could be before. Raises
        ApplicationError."""
        problems = []
        for url in urls:
            try:
                return url, await self._load(url)
            except (httpx.HTTPError, OSError, ValueError) as error:
                self._errors.labels("fetch").inc()
                problems.append(f"{url}: {error or type(error).__name__}")
            except CompileError as error:
                problems.append(_described(url, error))
        for url in urls:
            if (last := self._working.get(url)) is not None:
                self._loads.labels("last working").inc()
                return url, last
        raise ApplicationError("; ".join(problems) or "no application is configured")

    async def inline(self, url: str, content: str) -> tuple[str, Compiled]:
        """A document given as text; `url` is the base of what it refers to. Raises ApplicationError."""
        try:
            return url, await self._compile(url, content.encode())
        except CompileError as error:
            raise ApplicationError(_described(url, error)) from None

    async def _load(self, url: str) -> Compiled:
        lock = self._locks.setdefault(url, asyncio.Lock())
        async with lock:
            text = await self._fetch(url)
            try:
                compiled = await self._compile(url, text)
            except CompileError:
                self._errors.labels("compile").inc()
                if (last := self._working.get(url)) is None:
                    raise
                self._loads.labels("last working").inc()
                return last
        self._working[url] = compiled
        self._working.move_to_end(url)
        if len(self._working) > KEPT:
            self._working.popitem(last=False)
        if len(self._locks) > 4 * KEPT:
            self._locks = {address: held for address, held in self._locks.items() if held.locked()}
        return compiled

    async def _compile(self, url: str, text: bytes) -> Compiled:
        key = (urlsplit(url)._replace(query="").geturl(), text)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = await asyncio.to_thread(compile_document, text, url=url, resolve=_resolve)
            self._compiles.inc()
            self._compiled[key] = compiled
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return compiled

    async def _fetch(self, url: str) -> bytes:
        if urlsplit(url).scheme == "file":
            return await asyncio.to_thread(_read_file, url)
        known = self._known.get(url)
        now = time.monotonic()
        if known is not None and now - known.asked < FRESH_S:
            return known.text
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        response = await self._client.get(url, headers=headers)
        if response.status_code == 304 and known is not None:
            self._loads.labels("unchanged").inc()
            known.asked = now
            return known.text
        if response.status_code != 200:
            raise ValueError(f"the application server answered {response.status_code}")
        if len(response.content) > MAX_BYTES:
            raise ValueError(
                f"the document has {len(response.content)} bytes; at most {MAX_BYTES} are allowed"
            )
        self._loads.labels("fetched").inc()
        self._known[url] = _Known(response.headers.get("etag", ""), response.content, now)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return response.content

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()


def _described(url: str, error: CompileError) -> str:
    return f"{url}: {'; '.join(str(p) for p in error.problems[:3])}"


def _resolve(address: str) -> bytes:
    """Parts of a document (includes, scripts), fetched while it is compiled, in a thread of its own."""
    if urlsplit(address).scheme == "file":
        return _read_file(address)
    try:
        response = httpx.get(address, timeout=FETCH_S, follow_redirects=True)
    except httpx.HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from error
    if response.status_code != 200:
        raise OSError(f"the server answered {response.status_code}")
    return response.content


def _read_file(url: str) -> bytes:
    path = Path(unquote(urlsplit(url).path))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the document has {path.stat().st_size} bytes; at most {MAX_BYTES} are allowed")
    return path.read_bytes()
