"""The local read cache of configuration that every service has: `ConfigView` kept current by Config's Watch.

cache = ConfigCache(service)              # in build(); starts with the service
await cache.ready(10)                     # first data are there, from Config or from the journal
cache.dn("t1", "1001"); cache.revision; cache.on_change(callback)

Lookups never block and never leave the process. While Config is away the last data are served and
`silent_s` rises; on its return the watch resumes after the last revision, so no change is missed. When that
revision is no longer to be had, the whole state is read again and only what differs is told to callbacks.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
from structlog.typing import FilteringBoundLogger
from voice.config.v1.config_service_pb2 import WatchRequest, WatchResponse
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ObjectType

from mesh.config_journal import ConfigJournal
from mesh.config_objects import (
    PHONE_TYPES,
    ROUTE_POINT_TYPES,
    AgentGroup,
    AgentLogin,
    DialRule,
    Dn,
    Entry,
    Login,
    Named,
    Options,
    Person,
    Place,
    Registration,
    Registrations,
    RoutePoint,
    Switch,
    Tenant,
    Trunk,
    overlay,
)
from mesh.config_view import Changed, ConfigView
from mesh.errors import Reason, reason_of
from mesh.telemetry.metrics import Metrics

__all__ = [
    "PHONE_TYPES",
    "ROUTE_POINT_TYPES",
    "AgentGroup",
    "AgentLogin",
    "Changed",
    "ConfigCache",
    "ConfigView",
    "DialRule",
    "Dn",
    "Entry",
    "Login",
    "Named",
    "Options",
    "Person",
    "Place",
    "Registration",
    "Registrations",
    "RoutePoint",
    "Switch",
    "Tenant",
    "Trunk",
    "overlay",
]

SILENCE_S = 15.0
"""A watch that said nothing for this long is dead: Config says something at least every 5 s."""
BACKOFF_S = (0.1, 2.0)
"""First and longest pause before the watch is opened again, seconds; doubled in between, jittered."""


class CacheHost(Protocol):
    """What the cache needs of a process: `mesh.service.Service` has it."""

    @property
    def channel(self) -> grpc.aio.Channel: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def log(self) -> FilteringBoundLogger: ...
    def background(self, name: str, start: Callable[[], Awaitable[None]]) -> None: ...
    def depends(self, name: str, check: Callable[[], Awaitable[bool]]) -> None: ...


class ConfigCache(ConfigView):
    """All tenants' configuration, registrations and logins (or the types asked for)."""

    def __init__(
        self,
        service: CacheHost,
        *,
        types: Collection[ObjectType.ValueType] = (),
        registrations: bool = True,
        logins: bool = True,
        journal: Path | None = None,
    ) -> None:
        """`types`: object types wanted, all when empty. `journal`: file in which the last data outlive the
        process. The process is healthy ("config") once data are there, and stays so while Config is away."""
        super().__init__()
        self.synced = asyncio.Event()
        """Set when the first whole state is there; never cleared."""
        self.connected = False
        """Whether a watch is open and has said something."""
        self._service = service
        self._request = WatchRequest(types=types, registrations=registrations, logins=logins)
        self._journal = ConfigJournal(journal) if journal is not None else None
        self._resume = 0
        self._heard = time.monotonic()
        metrics = service.metrics
        metrics.gauge("config_cache_revision", "Revision of the configuration held").set_function(
            lambda: self.revision
        )
        metrics.gauge("config_cache_silent_seconds", "Seconds since Config was last heard").set_function(
            lambda: self.silent_s
        )
        self._openings = metrics.counter("config_cache_watches_total", "Watches opened", ["how"])
        self._failures = metrics.counter("config_cache_failures_total", "Watches that ended", ["status"])
        self._broken = metrics.counter("config_cache_callback_errors_total", "Callbacks that raised")
        service.depends("config", self._has_data)
        service.background("config_cache", self.follow)

    @property
    def silent_s(self) -> float:
        """Seconds since Config was last heard; it speaks every 5 s while all is well."""
        return time.monotonic() - self._heard

    async def ready(self, timeout: float) -> None:
        """Returns when the first data are there. TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await self.synced.wait()

    async def follow(self) -> None:
        """Keeps the cache current until cancelled (the service's background task)."""
        try:
            self._replay()
            await self._follow()
        finally:
            if self._journal is not None:
                self._journal.close()
                self._resume = 0  # a file once closed is begun anew

    async def _follow(self) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                await self._watch_once()
                pause = BACKOFF_S[0]
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                heard = self.connected
                self._lost(error)
                pause = BACKOFF_S[0] if heard else min(pause * 2, BACKOFF_S[1])
            finally:
                self.connected = False
                self._loading = None
                if self._journal is not None:
                    self._journal.abandon()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _watch_once(self) -> None:
        request = WatchRequest()
        request.CopyFrom(self._request)
        request.after_revision = self._resume
        if self._resume == 0:
            self.begin_snapshot()
        self._openings.labels("resume" if self._resume else "snapshot").inc()
        call = ConfigServiceStub(self._service.channel).Watch(request)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    response = await call.read()
                if not isinstance(response, WatchResponse):
                    return  # the end of the stream
                self._heard, self.connected = time.monotonic(), True
                self._take(response)
                if self._journal is not None and self._journal.overgrown and self._loading is None:
                    self._resume = 0
                    return
        finally:
            call.cancel()

    def _take(self, response: WatchResponse) -> None:
        loading = self._loading is not None
        if self._journal is not None and (response.changes or response.synced):
            try:
                self._journal.append(response, loading=loading)
            except OSError as problem:
                self._service.log.error("config_journal_failed", problem=str(problem))
                self._journal.close()
                self._journal = None
        self.apply(response)
        if self._loading is not None:
            return
        self._resume = self.revision
        if not self.synced.is_set():
            self.synced.set()
            self._service.log.info("config_cache_synced", revision=self.revision, tenants=len(self.tenants()))

    def _lost(self, error: grpc.aio.AioRpcError | TimeoutError) -> None:
        silent = isinstance(error, TimeoutError)
        status = "SILENT" if isinstance(error, TimeoutError) else error.code().name
        self._failures.labels(status).inc()
        if not silent and reason_of(error) == Reason.REASON_CURSOR_EXPIRED:
            self._service.log.warning("config_cache_cursor_expired", revision=self.revision)
            self._resume = 0
        else:
            self._service.log.info("config_watch_ended", status=status, problem=str(error)[:200])

    def _replay(self) -> None:
        if self._journal is None or self.revision:
            return
        self.begin_snapshot()
        for response in self._journal.replay():
            self.apply(response)
        complete = self._loading is None
        self._loading = None
        if complete:
            self._service.log.info("config_cache_restored", revision=self.revision)
            # What follows is appended to a file that this process has not begun, so it begins one: the data
            # are served at once, the watch starts with a new snapshot and tells what differs.
            self.synced.set()

    def _tell(self, callback: Callable[[Changed], None], change: Changed) -> None:
        try:
            callback(change)
        except Exception:
            # One listener's fault must not stop the cache for the others.
            self._broken.inc()
            self._service.log.exception("config_callback_failed", tenant=change.tenant)

    async def _has_data(self) -> bool:
        return self.synced.is_set()


def journal_path(run_dir: str, node: str) -> Path:
    """Where a node keeps its journal."""
    return Path(run_dir) / "config" / f"{os.path.basename(node)}.journal"
