"""The contract voice.call_state.v1.CallStateService."""

from __future__ import annotations

from typing import Any, Final

import grpc
from voice.call_state.v1 import call_state_service_pb2 as pb
from voice.call_state.v1.call_state_service_pb2_grpc import CallStateServiceServicer
from voice.error.v1.reason_pb2 import Reason

from mesh.deadline import timeout_for
from mesh.discovery import OwnerClient
from mesh.errors import DomainError, from_rpc_error
from mesh.identifiers import thread_slot
from mesh.validation import Checks
from services.call_state.app import CallStateApp
from services.call_state.machine import Thread
from services.call_state.record import message, state_hash
from services.call_state.store import Store

LIST_DEFAULT: Final = 100
LIST_MOST: Final = 1000


class CallStateRpc(CallStateServiceServicer):
    """Contract to domain and back."""

    def __init__(self, app: CallStateApp, store: Store, owners: OwnerClient, stub: Any) -> None:
        """`stub`: CallStateServiceStub, for threads of other nodes' slots."""
        self._app = app
        self._store = store
        self._owners = owners
        self._stub = stub

    async def GetThread(self, request: pb.GetThreadRequest, context: Any) -> pb.GetThreadResponse:
        named = [bool(request.call_thread_id), bool(request.conn_id), bool(request.call_uuid)]
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.that("call_thread_id", sum(named) == 1, "or conn_id or call_uuid is required, one of them")
        check.length("call_thread_id", request.call_thread_id, 0, 64)
        check.length("call_uuid", request.call_uuid, 0, 64)
        check.done()
        if request.call_thread_id:
            return _answer(self._thread(request.tenant, request.call_thread_id))
        found = await self._store.thread_of(conn_id=request.conn_id, call_uuid=request.call_uuid)
        if found is None:
            raise DomainError(Reason.REASON_UNKNOWN_CALL, "no thread has this call")
        try:
            return _answer(self._thread(request.tenant, found))
        except DomainError as error:
            if error.reason != Reason.REASON_NOT_OWNER:
                raise
        return await self._ask_owner(request.tenant, found)

    async def ListThreads(self, request: pb.ListThreadsRequest, context: Any) -> pb.ListThreadsResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.between("limit", request.limit, 0, LIST_MOST)
        check.length("agent_id", request.agent_id, 0, 64)
        check.done()
        live = [
            thread
            for thread in self._app.threads()
            if thread.tenant == request.tenant
            and not thread.ended_us
            and (not request.agent_id or _has_agent(thread, request.agent_id))
        ]
        live.sort(key=lambda thread: (thread.created_us, thread.call_thread_id))
        return pb.ListThreadsResponse(threads=[message(t) for t in live[: request.limit or LIST_DEFAULT]])

    def _thread(self, tenant: str, call_thread_id: str) -> Thread:
        thread = self._app.slot(thread_slot(call_thread_id)).threads.get(call_thread_id)
        if thread is None or thread.tenant != tenant:
            raise DomainError(Reason.REASON_UNKNOWN_CALL, f"no thread {call_thread_id}")
        return thread

    async def _ask_owner(self, tenant: str, call_thread_id: str) -> pb.GetThreadResponse:
        request = pb.GetThreadRequest(tenant=tenant, call_thread_id=call_thread_id)
        try:
            answer: pb.GetThreadResponse = await self._owners.call(
                self._stub.GetThread, request, thread_slot(call_thread_id), timeout_for(None)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "call_state") from error
        return answer


def _has_agent(thread: Thread, agent_id: str) -> bool:
    return any(
        party.agent_id == agent_id and not party.released_us
        for call in thread.calls
        for party in call.parties
    )


def _answer(thread: Thread) -> pb.GetThreadResponse:
    state = message(thread)
    return pb.GetThreadResponse(thread=state, state_hash=state_hash(state))
