"""Seeing that an etcd and a Redis belong together.

Epochs are revisions of etcd and fences in Redis are epochs. A new etcd counts from 1, so beside an old
Redis every write of every owner would be refused for ever; better to say so at start.
"""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog

from mesh.etcd import Etcd, EtcdError

REDIS_KEY = "{voicemesh}:store"
"""The identity of the etcd whose epochs this Redis holds."""


RETRY_S = 0.5
"""Between two attempts while etcd or Redis does not answer, seconds."""

log = structlog.get_logger("mesh")


class StoreMismatch(Exception):
    """etcd and Redis do not belong together; the text says what to do."""


async def check_pairing(etcd: Etcd, client: redis.asyncio.Redis) -> str:
    """Sees that this etcd and this Redis belong together, and marks them so when both are new; gives the
    store id. A new Redis beside an old etcd is taken: its fences are raised by whoever owns the slots.

    Any number of processes may do this at once. Raises StoreMismatch with instructions when etcd is new, or
    another, and Redis is not.
    """
    # Redis first: whoever marked it had marked etcd before
    marked = await client.get(REDIS_KEY)
    if marked is None:
        ours = await etcd.ensure_store_id()
        await client.set(REDIS_KEY, ours, nx=True)
        marked = await client.get(REDIS_KEY)
    known = marked.decode() if isinstance(marked, bytes) else str(marked)
    store, revision = await etcd.identity()
    if store != known:
        raise StoreMismatch(_instructions(etcd, store, revision, known))
    return known


async def pair(etcd: Etcd, client: redis.asyncio.Redis) -> str:
    """`check_pairing` as soon as both answer, however long that takes. Raises StoreMismatch."""
    while True:
        try:
            return await check_pairing(etcd, client)
        except (EtcdError, redis.RedisError, OSError) as error:
            log.info("whether etcd and Redis belong together is not known yet", error=repr(error))
        await asyncio.sleep(RETRY_S)


def _instructions(etcd: Etcd, store: str | None, revision: int, known: str) -> str:
    found = f"is store {store}" if store else "is new"
    return (
        f"etcd at {','.join(etcd.endpoints)} {found} (revision {revision}), but Redis holds the state of "
        f"store {known}. The epochs of the one mean nothing in the other: owners would be refused every write. "
        f"Either point VOICEMESH_ETCD at store {known}, or restore its snapshot (etcdctl snapshot restore). Or, "
        "if the calls, agent sessions and events in this Redis may be forgotten: stop every service, run "
        "FLUSHALL on Redis, and start again."
    )
