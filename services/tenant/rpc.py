"""TenantService: tokens and a view of the queue. Contract to domain and back, nothing else."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from voice.config.v1.config_service_pb2 import CheckPasswordRequest
from voice.tenant.v1.tenant_service_pb2 import (
    Candidate,
    ExplainTargetRequest,
    ExplainTargetResponse,
    IssueTokenRequest,
    IssueTokenResponse,
    ListWaitingRequest,
    ListWaitingResponse,
    VerifyTokenRequest,
    VerifyTokenResponse,
)
from voice.tenant.v1.tenant_service_pb2_grpc import TenantServiceServicer

from mesh.config_cache import ConfigCache
from mesh.errors import DomainError, Reason, from_rpc_error, invalid
from mesh.identity import tokens
from mesh.validation import Checks
from services.tenant import facts
from services.tenant.desk import Desk, now_us
from services.tenant.targets import Matcher, TargetError

if TYPE_CHECKING:
    from voice.config.v1.config_service_pb2_grpc import DeviceServiceAsyncStub

SCOPES_OF_AGENTS = (tokens.AGENT,)
CLIENT_SECTION = "client"
"""Section of an Application's options: `secret_sha256` (hex) and `scopes` (separated by blanks)."""


class TenantRpc(TenantServiceServicer):
    """Serves the contract over the desks of this node."""

    def __init__(
        self,
        desk_of: Callable[[str], Desk | None],
        config: ConfigCache,
        devices: DeviceServiceAsyncStub,
        key: tokens.SigningKey,
        lifetime_s: int,
        may_try: Callable[[str], bool],
    ) -> None:
        self._desk_of = desk_of
        self._config = config
        self._devices = devices
        self._key = key
        self._jwks = tokens.jwks(key)
        self._lifetime_s = lifetime_s
        self._may_try = may_try

    async def IssueToken(
        self,
        request: IssueTokenRequest,
        context: grpc.aio.ServicerContext[IssueTokenRequest, IssueTokenResponse],
    ) -> IssueTokenResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.that(
            "agent_id", bool(request.agent_id) != bool(request.client), "give either agent_id or client"
        )
        check.length("secret", request.secret, 0, 128)
        check.done()
        if self._config.tenant(request.tenant) is None:
            raise DomainError(Reason.REASON_UNKNOWN_TENANT, f"no tenant is called {request.tenant!r}")
        if not self._may_try(request.tenant):
            raise DomainError(Reason.REASON_RATE_LIMITED, "too many attempts to sign in; wait a second")
        if request.agent_id:
            subject, scopes = await self._sign_in_agent(request)
        else:
            subject, scopes = self._sign_in_client(request)
        now = time.time()
        token = tokens.issue(
            self._key,
            subject=subject,
            tenant=request.tenant,
            scopes=scopes,
            now=now,
            lifetime_s=self._lifetime_s,
        )
        return IssueTokenResponse(
            token=token, expires_us=int(now + self._lifetime_s) * 1_000_000, scopes=scopes
        )

    async def _sign_in_agent(self, request: IssueTokenRequest) -> tuple[str, tuple[str, ...]]:
        check = CheckPasswordRequest(
            tenant=request.tenant, agent_id=request.agent_id, password=request.secret
        )
        try:
            await self._devices.CheckPassword(check, timeout=2)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "config") from error
        return f"agent:{request.agent_id}", SCOPES_OF_AGENTS

    def _sign_in_client(self, request: IssueTokenRequest) -> tuple[str, tuple[str, ...]]:
        application = self._config.named(request.tenant, "application", request.client)
        expected = application.option(CLIENT_SECTION, "secret_sha256") if application is not None else ""
        given = hashlib.sha256(request.secret.encode()).hexdigest()
        if application is None or not expected or not hmac.compare_digest(expected.lower(), given):
            raise DomainError(
                Reason.REASON_PASSWORD_MISMATCH, f"client {request.client!r} or its secret is wrong"
            )
        scopes = tuple(application.option(CLIENT_SECTION, "scopes", tokens.CLIENT).split())
        if tokens.OPERATOR in scopes:
            raise DomainError(Reason.REASON_NOT_AUTHORIZED, "a tenant's client cannot be an operator")
        return f"client:{request.client}", scopes

    async def VerifyToken(
        self,
        request: VerifyTokenRequest,
        context: grpc.aio.ServicerContext[VerifyTokenRequest, VerifyTokenResponse],
    ) -> VerifyTokenResponse:
        try:
            claims = tokens.verify(request.token, self._jwks, now=time.time())
        except tokens.TokenError as error:
            raise DomainError(Reason.REASON_UNAUTHENTICATED, str(error)) from error
        if claims.tenant != request.tenant:
            raise DomainError(Reason.REASON_FOREIGN_TENANT, "the token is of another tenant")
        return VerifyTokenResponse(
            subject=claims.subject, scopes=sorted(claims.scopes), expires_us=claims.expires_at * 1_000_000
        )

    async def ListWaiting(
        self,
        request: ListWaitingRequest,
        context: grpc.aio.ServicerContext[ListWaitingRequest, ListWaitingResponse],
    ) -> ListWaitingResponse:
        check = Checks()
        check.between("limit", request.limit, 0, 1000)
        check.done()
        waiting = self._desk(request.tenant).waiting()
        return ListWaitingResponse(requests=waiting[: request.limit or 100], total=len(waiting))

    async def ExplainTarget(
        self,
        request: ExplainTargetRequest,
        context: grpc.aio.ServicerContext[ExplainTargetRequest, ExplainTargetResponse],
    ) -> ExplainTargetResponse:
        desk = self._desk(request.tenant)
        matcher: Matcher = desk.router.matcher
        try:
            target = facts.target_of(request.target)
            matcher.check(target)
        except TargetError as error:
            raise invalid(("target", str(error))) from error
        now, rows = now_us(), []
        for agent in desk.router.roster.agents.values():
            why_not = agent.why_not(now)
            matches = matcher.matches(target, agent.agent_id, agent.dn)
            rows.append((not (matches and not why_not), agent.ready_since_us, agent, matches, why_not))
        rows.sort(key=lambda row: (row[0], row[1], row[2].agent_id))
        candidates = [
            Candidate(
                agent_id=agent.agent_id,
                matches=matches,
                available=not why_not,
                why_not=why_not,
                ready_ms=(now - since) // 1000 if not why_not else 0,
            )
            for _, since, agent, matches, why_not in rows
        ]
        return ExplainTargetResponse(candidates=candidates)

    def _desk(self, tenant: str) -> Desk:
        desk = self._desk_of(tenant)
        if desk is None:
            raise DomainError(
                Reason.REASON_NOT_OWNER, "another node serves this tenant", family="tenant", slot=tenant
            )
        return desk
