"""Doing what sessions decide: each effect by the service that can, its outcome back to the session."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from structlog.typing import FilteringBoundLogger
from voice.error.v1.reason_pb2 import Reason
from voice.interaction.v1.interaction_pb2 import Instruction
from voice.sip_cluster.v1.sip_node_service_pb2 import ExecuteRequest
from voice.tenant.v1.routing_pb2 import RouteRequest, Target, TargetType
from voice.tlib.v1.enums_pb2 import RouteType
from voice.tlib.v1.request_pb2 import (
    ClearCallRequest,
    DeletePairRequest,
    DeleteUserDataRequest,
    MakeCallRequest,
    Request,
    RouteCallRequest,
    UpdateUserDataRequest,
)

from mesh.discovery import OwnerClient, OwnerUnknown
from mesh.errors import DomainError, from_rpc_error
from mesh.identifiers import sip_slot_of_conn_id, thread_slot
from mesh.rq import PublisherFull, Rq
from mesh.store import StoreUnavailable
from mesh.telemetry import continued, ladder
from services.orchestration.applications import ApplicationError, Applications
from services.orchestration.digital import INSTRUCTIONS, instruction_of
from services.orchestration.documents import Documents, UnknownDocument
from services.orchestration.effects import (
    CreateCall,
    DeleteUserData,
    Effect,
    End,
    Fetch,
    Load,
    Post,
    Resubmit,
    Route,
    Run,
    Say,
    SetUserData,
    Start,
    Submit,
    Terminate,
    TerminateOther,
)
from services.orchestration.fetching import Fetcher
from services.orchestration.inputs import Broke, Input, Loaded, Outcome, Stepped
from services.orchestration.neighbours import Neighbours
from services.orchestration.queries import Queries
from services.orchestration.record import to_kv
from services.orchestration.replies import Reply
from services.orchestration.scxml import Compiled, Json, Query, StepResult
from services.orchestration.sends import io_processors
from services.orchestration.session import Call, Session
from services.orchestration.shard import Shard, now_us
from services.orchestration.tracer import Tracer
from services.orchestration.waiting import Waiting
from services.orchestration.workers import State, StepFailed, Workers

if TYPE_CHECKING:
    from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceAsyncStub
    from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceAsyncStub

REQUEST_S = 5.0
"""Longest wait for a request to the call's node, seconds."""
ROUTE_S = 90.0
"""Longest wait for RouteCall: the destination may ring meanwhile (divert-on-ringing off), seconds."""
NODE_ID = 64
"""Longest request id a SIP node takes, characters."""
FRONT_END_ID = 32
"""Of Front End, which puts the client before it."""
CLIENT = "orchestration"
_TARGETS = {
    "agent": TargetType.TARGET_TYPE_AGENT,
    "agentgroup": TargetType.TARGET_TYPE_AGENT_GROUP,
    "skill": TargetType.TARGET_TYPE_SKILL,
    "place": TargetType.TARGET_TYPE_PLACE,
}


def wire_id(effect_id: str, longest: int) -> str:
    """The request id of an effect: always the same for it. Ids of sessions within sessions are long."""
    if len(effect_id) <= longest:
        return effect_id
    return hashlib.blake2b(effect_id.encode(), digest_size=16).hexdigest()


@dataclass
class Partners:
    """Who carries effects out."""

    rq: Rq
    owners: OwnerClient
    """Of SIP nodes."""
    nodes: SipNodeServiceAsyncStub
    front_end: CallControlServiceAsyncStub
    applications: Applications
    documents: Documents
    workers: Workers
    queries: Queries
    fetcher: Fetcher
    neighbours: Neighbours
    tracer: Tracer
    waiting: Waiting
    http_location: Callable[[Call], str]
    """Where a session's Basic HTTP events go to; "" when nothing comes in by HTTP."""
    log: FilteringBoundLogger


class Performer:
    """Performs effects as tasks; a slot's tasks end with the slot."""

    def __init__(self, partners: Partners, listen: Callable[[Shard], None]) -> None:
        """`listen(shard)`: the slot's answers are wanted from now on."""
        self._with = partners
        self._listen = listen
        self._tasks: dict[int, dict[str, set[asyncio.Task[None]]]] = {}
        handlers: Mapping[type[Any], Callable[[Shard, Call, Any], Awaitable[Input | None]]] = {
            Load: self._load,
            Submit: self._submit,
            Resubmit: self._resubmit,
            Route: self._route,
            SetUserData: self._set_user_data,
            DeleteUserData: self._delete_user_data,
            Terminate: self._terminate,
            CreateCall: self._create_call,
            Fetch: self._fetch,
            Post: self._post,
            Start: self._start,
            TerminateOther: self._terminate_other,
        }
        self._handlers = handlers

    def perform(self, shard: Shard, session: Session, effect: Effect) -> None:
        """Begins an effect; returns at once."""
        call = session.call
        match effect:
            case Say(label, text):
                text = self._with.tracer.text(session, text)[:4096]
                self._with.log.info(
                    "application", session=call.session_id, tenant=call.tenant, label=label, text=text
                )
            case End(outcome, problem):
                self._end(session, outcome, problem)
            case Reply():
                self._with.waiting.replied(call.session_id, effect)
            case Run():
                self._spawn(shard, call, self._run(shard, session, effect))
            case _:
                self._spawn(shard, call, self._carry_out(shard, call, effect))

    def stop(self, slot: int) -> list[asyncio.Task[None]]:
        """Ends what is under way for a slot; gives the tasks to wait for."""
        tasks = [task for of_session in self._tasks.pop(slot, {}).values() for task in of_session]
        for task in tasks:
            task.cancel()
        return tasks

    def busy(self, slot: int, session_id: str) -> bool:
        """Whether effects of a session are under way."""
        return bool(self._tasks.get(slot, {}).get(session_id))

    def _spawn(self, shard: Shard, call: Call, work: Coroutine[Any, Any, None]) -> None:
        with continued(call.traceparent):
            task = asyncio.create_task(work)
        sessions = self._tasks.setdefault(shard.slot, {})
        tasks = sessions.setdefault(call.session_id, set())
        tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            tasks.discard(done)
            if not tasks and sessions.get(call.session_id) is tasks:
                del sessions[call.session_id]

        task.add_done_callback(ended)

    async def _carry_out(self, shard: Shard, call: Call, effect: Any) -> None:
        outcome: Input | None = None
        try:
            instruction = instruction_of(call, effect) if call.interaction_id else None
            if instruction is not None:
                await self._instruct(call, instruction)
            else:
                outcome = await self._handlers[type(effect)](shard, call, effect)
        except DomainError as error:
            outcome = Outcome(effect.id, Reason.Name(error.reason), error.message)
        except Exception as error:
            # Whatever breaks here must not leave the session waiting for an outcome that never comes.
            self._with.log.error("effect failed", effect=effect.id, exc_info=error)
            outcome = Outcome(effect.id, "REASON_INTERNAL", f"{type(error).__name__}: {error}")
        if outcome is not None:
            shard.post(call.session_id, outcome)

    # -- the application ---------------------------------------------------------------------------------------

    async def _load(self, shard: Shard, call: Call, load: Load) -> Input:
        applications = self._with.applications
        try:
            if load.content is not None:
                url, compiled = await applications.inline(load.urls[0] if load.urls else "", load.content)
            else:
                url, compiled = await applications.load(load.urls)
        except ApplicationError as error:
            return Broke(str(error), load.id)
        await self._with.documents.keep(compiled)
        return Loaded(load.id, url, compiled.source_hash, compiled.compiler_version)

    async def _run(self, shard: Shard, session: Session, run: Run) -> None:
        call = session.call
        try:
            result, snapshot = await self._step(shard, session, run)
        except (StepFailed, UnknownDocument) as error:
            self._with.log.error("session failed", session=call.session_id, why=str(error))
            shard.post(call.session_id, Broke(str(error)))
            return
        except Exception as error:
            # Whatever breaks here must not leave the call waiting for a step that never ends.
            self._with.log.error("step failed", session=call.session_id, exc_info=error)
            shard.post(call.session_id, Broke(f"{type(error).__name__}: {error}"))
            return
        ladder("session", f"in {', '.join(result.configuration)}", call_thread_id=call.call_thread_id)
        shard.post(call.session_id, Stepped(result, snapshot))

    async def _step(self, shard: Shard, session: Session, run: Run) -> tuple[StepResult, bytes]:
        call, workers = session.call, self._with.workers
        compiled = await self._document(session)
        if run.event is not None and not compiled.hears(run.event.name):
            return StepResult(configuration=list(session.configuration)), session.snapshot
        processors = io_processors(call.session_id, self._with.http_location(call))

        async def answer(query: Query) -> tuple[Json, str]:
            if query.namespace == "scxml" and query.function == "accessible":
                target = str(query.arguments[0]).removeprefix("#_scxml_")
                found = await shard.peek(target)
                return found is not None and found.call.tenant == call.tenant, ""
            return await self._with.queries.answer(call.tenant, query)

        if run.operation == "start":
            x = dict(call.parameters) if call.interaction or session.parent else session.params or {}
            return await workers.begin(call.session_id, compiled, x, session.params, processors, answer)
        state = State(call.session_id, compiled, session.snapshot, processors)
        return await workers.step(state, run.event, answer)

    async def _document(self, session: Session) -> Compiled:
        """The document of a session, however long Redis is away."""
        pause = 0.05
        while True:
            try:
                return await self._with.documents.find(session.document_hash, session.compiler_version)
            except StoreUnavailable as error:
                self._with.log.warning("document not read yet", session=session.id, why=str(error))
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    def _end(self, session: Session, outcome: str, problem: str) -> None:
        call = session.call
        self._with.tracer.ended(session, outcome, problem, now_us())
        self._with.waiting.ended(session.id)
        level = self._with.log.error if outcome == "failed" else self._with.log.info
        level("session over", session=call.session_id, tenant=call.tenant, outcome=outcome, problem=problem)
        ladder("session", f"over: {outcome}", call_thread_id=call.call_thread_id)
        self._with.workers.forget(call.session_id)

    # -- routing -----------------------------------------------------------------------------------------------

    async def _submit(self, shard: Shard, call: Call, submit: Submit) -> Input:
        self._listen(shard)
        message = RouteRequest(
            request_id=submit.id,
            tenant=call.tenant,
            conn_id=call.conn_id,
            call_thread_id=call.call_thread_id,
            session_id=call.session_id,
            virtual_queue=submit.queue,
            targets=[
                Target(type=_TARGETS[t.type], expression=t.name, timeout_ms=t.after_ms)
                for t in submit.targets
            ],
            priority=submit.priority,
            age_us=submit.age_us,
            timeout_ms=submit.timeout_ms,
            operation=RouteRequest.OPERATION_SUBMIT,
            answer_queue=f"route_answers:{thread_slot(call.call_thread_id)}",
            excluded_agents=submit.excluded,
        )
        return await self._enqueue(call, submit.id, submit.id, message)

    async def _resubmit(self, shard: Shard, call: Call, change: Resubmit) -> Input:
        cancel = change.priority is None
        message = RouteRequest(
            request_id=change.submit_id,
            tenant=call.tenant,
            session_id=call.session_id,
            call_thread_id=call.call_thread_id,
            priority=change.priority or 0,
            operation=RouteRequest.OPERATION_CANCEL if cancel else RouteRequest.OPERATION_UPDATE,
        )
        return await self._enqueue(call, change.id, change.id, message)

    async def _enqueue(self, call: Call, effect_id: str, entry_id: str, message: RouteRequest) -> Input:
        try:
            await self._with.rq.enqueue(f"route_requests:{call.tenant}", entry_id, message)
        except PublisherFull as error:
            raise DomainError(Reason.REASON_QUEUE_FULL, "too many requests wait for Redis Queue") from error
        return Outcome(effect_id)

    async def _route(self, shard: Shard, call: Call, route: Route) -> Input:
        body = RouteCallRequest(
            dn=call.route_point,
            conn_id=call.conn_id,
            destination=route.destination,
            route_type=RouteType.ROUTE_TYPE_DEFAULT if route.is_default else RouteType.ROUTE_TYPE_UNKNOWN,
            agent_id=route.agent_id,
            reservation_token=route.token,
            user_data=to_kv(route.user_data),
        )
        return await self._execute(call, route.id, Request(client=CLIENT, route_call=body), ROUTE_S)

    async def _set_user_data(self, shard: Shard, call: Call, effect: SetUserData) -> Input:
        body = UpdateUserDataRequest(dn=call.route_point, conn_id=call.conn_id, user_data=to_kv(effect.pairs))
        return await self._execute(call, effect.id, Request(client=CLIENT, update_user_data=body))

    async def _delete_user_data(self, shard: Shard, call: Call, effect: DeleteUserData) -> Input:
        if not effect.keys:
            body = DeleteUserDataRequest(dn=call.route_point, conn_id=call.conn_id)
            return await self._execute(call, effect.id, Request(client=CLIENT, delete_user_data=body))
        outcome: Input = Outcome(effect.id)
        for index, key in enumerate(effect.keys):
            pair = DeletePairRequest(dn=call.route_point, conn_id=call.conn_id, key=key)
            request = Request(client=CLIENT, delete_pair=pair)
            outcome = await self._execute(call, effect.id, request, suffix=f"/{index}")
        return outcome

    async def _terminate(self, shard: Shard, call: Call, effect: Terminate) -> Input:
        body = ClearCallRequest(dn=call.route_point, conn_id=call.conn_id)
        return await self._execute(call, effect.id, Request(client=CLIENT, clear_call=body))

    async def _execute(
        self, call: Call, effect_id: str, request: Request, timeout_s: float = REQUEST_S, *, suffix: str = ""
    ) -> Input:
        """A request to the node that has the call, again through fail-overs under the same id."""
        body = getattr(request, str(request.WhichOneof("body")))
        body.tenant, body.request_id = call.tenant, wire_id(effect_id + suffix, NODE_ID)
        message = ExecuteRequest(tenant=call.tenant, request=request)
        try:
            slot = sip_slot_of_conn_id(call.conn_id)
            await self._with.owners.call(self._with.nodes.Execute, message, slot, timeout_s)
        except OwnerUnknown as error:
            raise DomainError(Reason.REASON_TIMEOUT, f"no SIP node answered in {timeout_s:.0f} s") from error
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "sip_cluster") from error
        return Outcome(effect_id)

    async def _create_call(self, shard: Shard, call: Call, effect: CreateCall) -> Input:
        request = MakeCallRequest(
            tenant=call.tenant,
            request_id=wire_id(effect.id, FRONT_END_ID),
            dn=effect.origin,
            destination=effect.destination,
            user_data=to_kv(effect.pairs),
        )
        try:
            answer = await self._with.front_end.MakeCall(request, timeout=REQUEST_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "front_end") from error
        return Outcome(effect.id, data={"newinteractionid": f"{answer.event.conn_id:016x}"})

    # -- the rest ----------------------------------------------------------------------------------------------

    async def _instruct(self, call: Call, instruction: Instruction) -> None:
        """An instruction for the interaction's media server; its outcome comes back as an event of the interaction."""
        try:
            await self._with.rq.enqueue(
                f"{INSTRUCTIONS}:{call.server}", instruction.instruction_id, instruction
            )
        except PublisherFull as error:
            raise DomainError(
                Reason.REASON_QUEUE_FULL, "too many instructions wait for Redis Queue"
            ) from error

    async def _fetch(self, shard: Shard, call: Call, fetch: Fetch) -> Input:
        return await self._with.fetcher.fetch(fetch)

    async def _post(self, shard: Shard, call: Call, message: Post) -> Input:
        return await self._with.fetcher.post(message)

    async def _start(self, shard: Shard, call: Call, effect: Start) -> Input:
        return await self._with.neighbours.start(call, effect)

    async def _terminate_other(self, shard: Shard, call: Call, effect: TerminateOther) -> Input:
        return await self._with.neighbours.terminate(call, effect)
