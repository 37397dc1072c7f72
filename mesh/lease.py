"""The lease that a node lives by: kept alive from a thread of its own, with a local deadline that pauses
cannot fool."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in ns: goes on while the machine sleeps, never goes back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Lease:
    """One etcd lease, granted at `start()`, granted again whenever it has ended.

    The keep-alive thread stops extending it when the event loop has not beaten for 1 s. A new grant counts
    only after everybody who held something under the old one has let go (`on_lost`), so `deadline_ns()`
    never speaks for claims of a lease that ended.
    """

    def __init__(self, endpoints: str, *, ttl_s: int = 2) -> None:
        raise NotImplementedError

    @property
    def id(self) -> int:
        """The lease's id in etcd; 0 before the first grant and while a lost one is being replaced."""
        raise NotImplementedError

    def deadline_ns(self) -> int:
        """Until when the node may act on its claims alone, CLOCK_BOOTTIME ns: send time of the last
        acknowledged keep-alive + TTL. Cheap; any thread may ask."""
        raise NotImplementedError

    def good(self) -> bool:
        """Whether that deadline is still ahead."""
        return boottime_ns() < self.deadline_ns()

    def on_lost(self, callback: Callable[[], Awaitable[None]]) -> None:
        """`callback` is awaited when the lease has ended, before a new one counts."""
        raise NotImplementedError

    def on_granted(self, callback: Callable[[int], Awaitable[None]]) -> None:
        """`callback(lease id)` is awaited after each new grant counts, to put keys again."""
        raise NotImplementedError

    def on_deadline(self, callback: Callable[[int], None]) -> None:
        """`callback(deadline ns)` is called at each extension, from the keep-alive thread (for the core's
        send gate)."""
        raise NotImplementedError

    async def start(self, timeout: float = 10.0) -> None:
        """Grants the lease and starts the thread. Raises EtcdUnavailable after `timeout` seconds."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Revokes the lease (its keys go with it) and ends the thread."""
        raise NotImplementedError
