"""Which node has a session: its thread's owner, and for sessions of consultation calls whoever says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from voice.mesh.v1.node_pb2 import NodeRecord

from mesh.deadline import timeout_for
from mesh.discovery import Directory, OwnerClient, UnaryMethod, to_node
from mesh.errors import DomainError, Reason, from_rpc_error
from mesh.identifiers import thread_slot
from mesh.metadata import NODE_KEY
from services.orchestration.session import Session
from services.orchestration.shard import Shard
from services.orchestration.waiting import not_owner

SERVICE = "orchestration"
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


def slot_of(session_id: str) -> int:
    """The slot that a session id speaks of: its first part is the thread's id, or that of a consultation call in it."""
    return thread_slot(session_id.partition(".")[0])


def addressed(context: grpc.aio.ServicerContext[Any, Any]) -> bool:
    """Whether the call is meant for this node and no other."""
    return any(key == NODE_KEY for key, _ in context.invocation_metadata() or ())


class Finder:
    """Sessions here, and requests for sessions elsewhere."""

    def __init__(self, shards: Mapping[int, Shard], nodes: Directory, incarnation: str) -> None:
        self._shards, self._nodes, self._incarnation = shards, nodes, incarnation
        self._owners = OwnerClient(nodes)

    async def here(self, tenant: str, session_id: str) -> tuple[Shard, Session] | None:
        """A session of the tenant (of any when it is empty) that this node has, awake or asleep. None is true of the slots
        that are here when it returns. Raises StoreUnavailable."""
        slot = slot_of(session_id)
        while True:
            first = self._shards.get(slot)
            found = await self._look(session_id, first)
            if found is not None:
                return found if tenant in ("", found[1].call.tenant) else None
            if self._shards.get(slot) is first:
                return None

    async def _look(self, session_id: str, first: Shard | None) -> tuple[Shard, Session] | None:
        """First where it should be, then everywhere else: in one round trip to Redis, for ids that mostly nobody has."""
        session = await first.peek(session_id) if first is not None else None
        if first is not None and session is not None:
            return first, session
        others = [shard for shard in self._shards.values() if shard is not first]
        looked = await asyncio.gather(*(shard.peek(session_id) for shard in others))
        return next(((shard, found) for shard, found in zip(others, looked, strict=True) if found), None)

    def missing(self, session_id: str) -> DomainError:
        """Why a session is not here."""
        slot = slot_of(session_id)
        return unknown(session_id) if slot in self._shards else not_owner(slot)

    async def elsewhere(self, method: UnaryMethod[Q, R], request: Q, session_id: str, timeout: float) -> R:
        """The answer of the node that has the session. Raises DomainError: UNKNOWN_OBJECT when nobody has."""
        slot, deadline = slot_of(session_id), time.monotonic() + timeout_for(timeout)
        if slot not in self._shards:
            try:
                return await self._owners.call(method, request, slot, timeout)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, SERVICE)
                if failure.reason != Reason.REASON_UNKNOWN_OBJECT:
                    raise failure from error
        owner = self._nodes.owner(slot)
        others = [
            node
            for node in self._nodes.nodes()
            if node.incarnation != self._incarnation
            and (owner is None or node.incarnation != owner.incarnation)
        ]
        return await self._ask(method, request, session_id, others, deadline - time.monotonic())

    async def owner(self, method: UnaryMethod[Q, R], request: Q, slot: int, timeout: float) -> R:
        """The answer of a slot's owner. Raises DomainError."""
        try:
            return await self._owners.call(method, request, slot, timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, SERVICE) from error

    async def _ask(
        self, method: UnaryMethod[Q, R], request: Q, session_id: str, nodes: list[NodeRecord], timeout: float
    ) -> R:
        calls = [method(request, timeout=timeout, metadata=to_node(node)) for node in nodes]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failures: list[DomainError] = []
        for answer in answers:
            if isinstance(answer, grpc.aio.AioRpcError):
                failures.append(from_rpc_error(answer, SERVICE))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                return answer
        absent = (Reason.REASON_UNKNOWN_OBJECT, Reason.REASON_NOT_OWNER, Reason.REASON_DEPENDENCY_UNAVAILABLE)
        raise next((failure for failure in failures if failure.reason not in absent), unknown(session_id))


def unknown(session_id: str) -> DomainError:
    """No node has the session."""
    return DomainError(Reason.REASON_UNKNOWN_OBJECT, f"no session {session_id[:128]!r} lives")
