"""The lease that a node lives by: kept alive from a thread of its own, with a local deadline that pauses
cannot fool.

Two sides. The thread (`_KeepAlive`) talks to etcd on a channel of its own, so that a busy event loop does
not cost the lease; it stops extending when the loop has stood still for 1 s, since a node whose loop stands
still must lose its slots. The loop side (`Lease`) tells everybody else, in order: lost, let go or kept for a
while, granted, regained, counted, put again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc
import structlog
from etcdserverpb import rpc_pb2 as pb
from etcdserverpb import rpc_pb2_grpc as rpc

from mesh.etcd_values import CHANNEL_OPTIONS, EtcdUnavailable, endpoints_of
from mesh.steady import steady
from mesh.telemetry.metrics import Metrics

TTL_S = 2
"""Lease TTL, seconds; etcd's least with its default election timeout."""
PERIOD_S = 0.5
"""Between keep-alives, seconds: three may fail before the lease does."""
RETRY_S = 0.1
"""Before the next attempt after a failed one, seconds."""
STALL_S = 1.0
"""How long the event loop may stand still before its lease is no longer extended, seconds."""
BEAT_S = 0.2
"""Between beats of the event loop, seconds."""

log = structlog.get_logger("mesh.lease")


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in ns: goes on while the machine sleeps, never goes back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class _KeepAlive(threading.Thread):
    """Grants, extends and re-grants. Reports to the loop through `told(what, lease id)`, called on the
    loop."""

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: grpc.ChannelCredentials | None,
        ttl_s: int,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[str, int], None],
        moved: Callable[[int], None],
    ) -> None:
        super().__init__(name="lease", daemon=True)
        self._endpoints, self._credentials, self._ttl_s = endpoints, credentials, ttl_s
        self._loop, self._told, self._moved = loop, told, moved
        self._next = 0
        self._failures = 0
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.beat_ns = boottime_ns()
        self.lease = 0
        """The lease being kept alive; 0 while there is none."""
        self.adopted = 0
        """The lease that counts: nothing is left that was held under an older one."""
        self.deadline_ns = 0
        """Deadline of the adopted lease."""
        self._reached_ns = 0

    def run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            if boottime_ns() - self.beat_ns > STALL_S * 1e9:
                pause = RETRY_S
                continue
            try:
                pause = self._extend() if self.lease else self._grant()
                self._answered()
            except (
                grpc.RpcError,
                StopIteration,
            ) as error:  # StopIteration: the stream ended without an answer
                self._unanswered(_problem(error))
                self._drop_channel()
                pause = RETRY_S
        self._revoke()
        self._drop_channel()

    def _unanswered(self, problem: str) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("etcd does not answer keep-alive", problem=problem)

    def _answered(self) -> None:
        if self._failures:
            log.warning("etcd answers keep-alive again", attempts_failed=self._failures)
        self._failures = 0

    def adopt(self, lease: int) -> bool:
        """Makes a granted lease count. False when it has ended meanwhile."""
        with self._lock:
            if lease != self.lease:
                return False
            self.adopted, self.deadline_ns = lease, self._reached_ns
        self._moved(self.deadline_ns)
        return True

    def end(self) -> None:
        """Ends the thread after it has revoked the lease. The node may act on nothing any more."""
        self._reach(0)
        self._ended.set()

    def _grant(self) -> float:
        sent = boottime_ns()
        answer = self._stub().LeaseGrant(pb.LeaseGrantRequest(TTL=self._ttl_s), timeout=PERIOD_S)
        with self._lock:
            self.lease = answer.ID
            self._reached_ns = sent + min(answer.TTL, self._ttl_s) * 1_000_000_000
        self._tell("granted", answer.ID)
        return PERIOD_S

    def _extend(self) -> float:
        sent = boottime_ns()
        call = self._stub().LeaseKeepAlive(iter((pb.LeaseKeepAliveRequest(ID=self.lease),)), timeout=PERIOD_S)
        try:
            answer = next(call)
        finally:
            call.cancel()
        if answer.TTL <= 0:
            lost, self.lease = self.lease, 0
            self._reach(0)
            self._tell("lost", lost)
            return 0.0
        self._reach(sent + min(answer.TTL, self._ttl_s) * 1_000_000_000)
        return max(0.0, PERIOD_S - (boottime_ns() - sent) / 1e9)

    def _reach(self, deadline_ns: int) -> None:
        with self._lock:
            self._reached_ns = deadline_ns
            if self._ended.is_set() or (self.lease and self.adopted != self.lease):
                return
            self.deadline_ns = deadline_ns
        self._moved(deadline_ns)

    def _tell(self, what: str, lease: int) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told, what, lease)

    def _revoke(self) -> None:
        if self.lease:
            try:
                self._stub().LeaseRevoke(pb.LeaseRevokeRequest(ID=self.lease), timeout=1.0)
            except grpc.RpcError as error:
                log.warning("lease not revoked, it will end by itself", problem=_problem(error))

    def _stub(self) -> rpc.LeaseStub:
        if self._channel is None:
            endpoint = self._endpoints[self._next % len(self._endpoints)]
            self._channel = (
                grpc.secure_channel(endpoint, self._credentials, options=CHANNEL_OPTIONS)
                if self._credentials
                else grpc.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
            )
        return rpc.LeaseStub(self._channel)

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._next += 1


def _problem(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)


class Lease:
    """One etcd lease, granted at `start()`, granted again whenever it has ended.

    A new grant counts only after everybody who held something under the old one has let go (`on_lost`), so
    `deadline_ns()` never speaks for claims of a lease that ended.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        ttl_s: int = TTL_S,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._endpoints = endpoints_of(endpoints)
        self._ttl_s = ttl_s
        self._credentials = credentials
        self._thread: _KeepAlive | None = None
        self._news: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._first: asyncio.Event = asyncio.Event()
        self._lost: list[Callable[[], Awaitable[None]]] = []
        self._regain: list[Callable[[int], Awaitable[bool]]] = []
        self._granted: list[Callable[[int], Awaitable[None]]] = []
        self._deadline: list[Callable[[int], None]] = []

    @property
    def id(self) -> int:
        """The lease's id in etcd; 0 before the first grant and while a lost one is being replaced."""
        thread = self._thread
        return thread.adopted if thread is not None and thread.adopted == thread.lease else 0

    def deadline_ns(self) -> int:
        """Until when the node may act on its claims alone, CLOCK_BOOTTIME ns: send time of the last
        acknowledged keep-alive + TTL. Cheap; any thread may ask."""
        return self._thread.deadline_ns if self._thread is not None else 0

    def good(self) -> bool:
        """Whether that deadline is still ahead."""
        return boottime_ns() < self.deadline_ns()

    def measure(self, metrics: Metrics) -> None:
        """voicemesh_<service>_leases_lost_total, _lease_left_seconds."""
        lost = metrics.counter("leases_lost_total", "Leases that ended while the process lived")

        async def count() -> None:
            lost.inc()

        self._lost.append(count)
        left = metrics.gauge("lease_left_seconds", "Until the lease's local deadline; below 0: past it")
        left.set_function(lambda: (self.deadline_ns() - boottime_ns()) / 1e9 if self.deadline_ns() else -1.0)

    def on_lost(self, callback: Callable[[], Awaitable[None]]) -> None:
        """`callback` is awaited when the lease has ended, before a new one counts."""
        self._lost.append(callback)

    def on_regain(self, callback: Callable[[int], Awaitable[bool]]) -> None:
        """`callback(lease id)` is awaited with a new lease before it counts, in the order given: put keys under
        it that were held under the one that ended, or let them go. False: this lease has ended as well."""
        self._regain.append(callback)

    def on_granted(self, callback: Callable[[int], Awaitable[None]]) -> None:
        """`callback(lease id)` is awaited after each new grant counts, to put keys again."""
        self._granted.append(callback)

    def on_deadline(self, callback: Callable[[int], None]) -> None:
        """`callback(deadline ns)` is called whenever the deadline moves (0: nothing may be done), mostly
        from the keep-alive thread: for the core's send gate."""
        self._deadline.append(callback)

    async def start(self, timeout: float = 10.0) -> None:
        """Grants the lease and starts the thread. Raises EtcdUnavailable after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        thread = self._thread = _KeepAlive(
            self._endpoints,
            self._credentials,
            self._ttl_s,
            loop,
            lambda what, lease: self._news.put_nowait((what, lease)),
            self._deadline_moved,
        )
        self._tasks = [
            steady("lease beat", lambda: self._beat(thread)),
            steady("lease news", lambda: self._follow(thread)),
        ]
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await self._first.wait()
        except TimeoutError:
            await self.stop()
            raise EtcdUnavailable(f"no lease within {timeout} s from {','.join(self._endpoints)}") from None

    async def stop(self) -> None:
        """Revokes the lease (its keys go with it) and ends the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()
            await asyncio.to_thread(thread.join, 5.0)
            self._deadline_moved(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _deadline_moved(self, deadline_ns: int) -> None:
        for callback in self._deadline:
            callback(deadline_ns)

    async def _beat(self, thread: _KeepAlive) -> None:
        while True:
            thread.beat_ns = boottime_ns()
            await asyncio.sleep(BEAT_S)

    async def _follow(self, thread: _KeepAlive) -> None:
        while True:
            what, lease = await self._news.get()
            if what == "lost":
                log.warning("lease lost", lease=f"{lease:x}")
                for let_go in self._lost:
                    await _told(let_go())
            elif await self._regained(lease) and thread.adopt(lease):
                log.info("lease granted", lease=f"{lease:x}", ttl_s=self._ttl_s)
                for put_again in self._granted:
                    await _told(put_again(lease))
                self._first.set()

    async def _regained(self, lease: int) -> bool:
        for regain in self._regain:
            try:
                if not await regain(lease):
                    return False
            except Exception:
                log.exception("a listener of the lease failed")
        return True


async def _told(callback: Awaitable[None]) -> None:
    """One listener's failure must not keep the others, or the next lease, waiting."""
    try:
        await callback
    except Exception:
        log.exception("a listener of the lease failed")
