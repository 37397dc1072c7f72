"""A SIP node for tests of what calls one: `python -m tests.integration.front_end.sip_node`.

Real membership, slots, fence and contract; a call is a row in Redis, and a request carried out is a row too, under its
id, written in the same fenced write. What it does besides is asked by the request's Extensions:

    pause_ms     it waits before it carries the request out
    die          "before" or "after": it is killed there, the first time that the request comes
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from typing import Any

from voice.error.v1.reason_pb2 import Reason
from voice.sip_cluster.v1 import sip_node_service_pb2 as pb
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import (
    SipNodeServiceServicer,
    add_SipNodeServiceServicer_to_server,
)
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.errors import DomainError
from mesh.identifiers import SIP_SLOTS, sip_slot_of_conn_id
from mesh.ownership import ReleaseReason, SlotKey, Slots
from mesh.service import Service, main
from mesh.store import FencedStore, put_fields

EXECUTED = "executed"
"""Hash of each slot: a field "<request id> <incarnation> <number>" for each time that a request was carried out, in the
same write as its outcome."""
CALLS = "test:calls"
"""Set in Redis: ConnIDs, decimal, of the calls there are; who has the slot has them."""


class Rpc(SipNodeServiceServicer):
    """The contract."""

    def __init__(self, service: Service, store: FencedStore) -> None:
        self._service = service
        self._store = store
        self._under_way: dict[str, asyncio.Lock] = {}
        self._numbers = itertools.count(1)
        self.slots = Slots(service, "sip", SIP_SLOTS, acquire=self._acquire, release=self._release)

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        await self._store.raise_fence(slot, epoch)

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        """Nothing is kept in memory."""

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> pb.ExecuteResponse:
        name = request.request.WhichOneof("body") or ""
        body = getattr(request.request, name)
        slot = sip_slot_of_conn_id(body.conn_id) if name != "make_call" else next(iter(self.slots.owned))
        epoch = await self.slots.ready(slot, 1.0)
        async with self._under_way.setdefault(body.request_id, asyncio.Lock()):
            known = await self._store.read_field(slot, "requests", body.request_id)
            if known is None:
                known = await self._carry_out(slot, epoch, body)
        return pb.ExecuteResponse(event=Event.FromString(known))

    async def _carry_out(self, slot: SlotKey, epoch: int, body: Any) -> bytes:
        wishes = {pair.key: pair.string_value for pair in body.extensions.pairs}
        await asyncio.sleep(int(wishes.get("pause_ms", "0")) / 1000)
        await self._die(wishes, "before", body.request_id)
        event = Event(
            event_type=MessageType.MESSAGE_TYPE_EVENT_ATTACHED_DATA_CHANGED,
            conn_id=body.conn_id,
            this_dn=body.dn,
            server=self._service.incarnation,
        )
        raw = event.SerializeToString()
        row = f"{body.request_id} {self._service.incarnation} {next(self._numbers)}"
        await self._store.write(
            slot,
            epoch,
            [put_fields("requests", {body.request_id: raw}), put_fields(EXECUTED, {row: b"1"})],
        )
        await self._die(wishes, "after", body.request_id)
        return raw

    async def _die(self, wishes: dict[str, str], when: str, request_id: str) -> None:
        if wishes.get("die") == when and await self._service.redis.set(
            f"test:died:{request_id}", "1", nx=True
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    async def GetCall(self, request: pb.GetCallRequest, context: Any) -> pb.GetCallResponse:
        self.slots.epoch(sip_slot_of_conn_id(request.conn_id))
        if not await self._service.redis.sismember(CALLS, str(request.conn_id)):
            raise DomainError(Reason.REASON_UNKNOWN_CALL, f"no call has ConnID {request.conn_id:016x}")
        return pb.GetCallResponse(conn_id=request.conn_id)


async def build(service: Service) -> None:
    """Parts and wiring."""
    store = FencedStore(service.redis, "sip_cluster", "sip")
    rpc = Rpc(service, store)
    service.add(add_SipNodeServiceServicer_to_server, rpc)
    service.owned_slots("sip", lambda: rpc.slots.owned)
    for start in (store.start, rpc.slots.start):
        service.on_start(start)
    for stop in (rpc.slots.stop, store.stop):
        service.on_stop(stop)


if __name__ == "__main__":
    main(build, name="sip_cluster")
