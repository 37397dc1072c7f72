"""How calls are bounded: timeouts and retries by contract, breakers and outlier detection by service. One
table, nothing elsewhere.

Callers set deadlines of their own (gRPC's `grpc-timeout`), always shorter than what stands here: these are
the mesh's backstop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mesh.envoy.contracts import Contract, Method


@dataclass(frozen=True)
class CallPolicy:
    """Bounds of a contract's unary calls. Streams have no timeout and are never retried."""

    timeout_s: float = 10.0
    """Longest unary call, retries included; 10 s is what a server grants a caller without a deadline."""
    idempotent: frozenset[str] = frozenset()
    """Methods that only read: tried again when a node answers UNAVAILABLE. The others are tried again only
    when the call never left."""


@dataclass(frozen=True)
class ClusterPolicy:
    """Bounds of the traffic of one sidecar towards one service."""

    connect_timeout_s: float = 0.5
    max_requests: int = 4096
    """Calls and streams open at once; beyond it UNAVAILABLE at once (circuit breaker)."""
    max_pending: int = 1024
    """Calls that wait for a connection."""
    retry_budget_percent: float = 20.0
    """Retries at once, of the calls that are open: no retry storm (attempts / calls ≤ 1.2)."""
    retry_budget_floor: int = 50
    """Retries at once that are always allowed: calls that wait for the same slow node fail, and are tried
    again, together."""
    eject_after_local_failures: int = 3
    """Connections refused or reset in a row that put a node aside. gRPC statuses never do: UNAVAILABLE and
    DEADLINE_EXCEEDED are
    answers of the domain too (out of service, no answer) and would eject healthy nodes."""
    ejection_s: float = 5.0
    """First ejection; doubles with each further one. Membership removes a dead node within its lease anyway.
    """
    max_ejected_percent: int = 50
    """Nodes put aside at once."""


RETRIES = 2
"""Further attempts of a call, each at another node where there is one."""
RETRY_BASE_S = 0.025
RETRY_MAX_S = 0.25
NEVER_LEFT = "connect-failure,refused-stream,reset-before-request"
"""Envoy's retry conditions under which no node has seen the call: safe for every method."""
READ_AGAIN = NEVER_LEFT + ",unavailable"
"""Conditions for methods that only read."""
KEEPALIVE_INTERVAL_S = 2.0
KEEPALIVE_TIMEOUT_S = 2.0
"""HTTP/2 pings: a frozen machine or process is noticed after 4 s at most; nothing else tells. Membership is
sooner for new calls."""

MAX_STREAMS = 10_000
"""Calls and streams at once on a connection inside of the mesh: a service has one to its sidecar, a sidecar
one to another."""
MAX_CLIENT_STREAMS = 1_000
"""The same on a client's connection to the edge."""

DEFAULT = CallPolicy()
CALLS: Mapping[str, CallPolicy] = MappingProxyType(
    {
        "voice.agent_state.v1.AgentStateService": CallPolicy(
            idempotent=frozenset({"GetAgent", "ListAgents"})
        ),
        "voice.call_state.v1.CallStateService": CallPolicy(
            idempotent=frozenset({"GetThread", "ListThreads"})
        ),
        "voice.config.v1.ConfigService": CallPolicy(
            timeout_s=30.0, idempotent=frozenset({"GetObject", "ListObjects"})
        ),
        "voice.config.v1.DeviceService": CallPolicy(
            idempotent=frozenset({"GetRegistrations", "GetLogin", "CheckPassword"})
        ),
        "voice.dial_plan.v1.DialPlanService": CallPolicy(
            timeout_s=2.0, idempotent=frozenset({"Resolve", "IdentifyTenant"})
        ),
        "voice.front_end.v1.FrontEndService": CallPolicy(idempotent=frozenset({"GetStatus"})),
        "voice.mesh.v1.NodeService": CallPolicy(timeout_s=5.0, idempotent=frozenset({"GetNode"})),
        # SendRequest answers when the application does, after 60 s at most.
        "voice.orchestration.v1.OrchestrationService": CallPolicy(
            timeout_s=65.0, idempotent=frozenset({"GetSession", "ListSessions", "GetTrace"})
        ),
        "voice.orchestration.v1.SessionHttpService": CallPolicy(
            timeout_s=65.0, idempotent=frozenset({"QueryByHttp", "HelpByHttp"})
        ),
        "voice.redis_queue.v1.QueueService": CallPolicy(),
        "voice.registrar.v1.RegistrarService": CallPolicy(
            timeout_s=5.0, idempotent=frozenset({"GetBindings"})
        ),
        # MakeCall, AnswerCall and RouteCall answer when the phone has: as long as a phone may ring.
        "voice.sip_cluster.v1.SipNodeService": CallPolicy(timeout_s=180.0, idempotent=frozenset({"GetCall"})),
        "voice.tlib.v1.CallControlService": CallPolicy(timeout_s=180.0),
        "voice.tlib.v1.AgentControlService": CallPolicy(timeout_s=15.0),
        "voice.tlib.v1.EventService": CallPolicy(),
        "voice.sip_proxy.v1.ProxyService": CallPolicy(idempotent=frozenset({"GetStatus"})),
        "voice.tenant.v1.TenantService": CallPolicy(
            idempotent=frozenset({"VerifyToken", "ListWaiting", "ExplainTarget"})
        ),
    }
)
"""Contract -> bounds of its calls."""

CLUSTERS: Mapping[str, ClusterPolicy] = MappingProxyType(
    {
        # Few callers with long streams and large batches.
        "redis_queue": ClusterPolicy(max_requests=8192),
        # A subscription is a request for as long as the desktop is open.
        "front_end": ClusterPolicy(max_requests=16384),
    }
)
"""Service -> bounds of the traffic to it, where they differ from the default."""

TENANT_RATE_PER_S = 500
"""Requests a second a tenant may send through one edge."""
TENANT_BURST = 1000
"""Requests a tenant may send at once."""
ANONYMOUS_RATE_PER_S = 50
"""Requests a second without a tenant (reflection, sign-in) through one edge."""
ANONYMOUS_BURST = 200


def call_policy(contract: Contract) -> CallPolicy:
    """Bounds of a contract's calls."""
    return CALLS.get(contract.name, DEFAULT)


def cluster_policy(service: str) -> ClusterPolicy:
    """Bounds of the traffic to a service."""
    return CLUSTERS.get(service, ClusterPolicy())


def timeout_s(contract: Contract, method: Method) -> float:
    """The route's timeout in seconds; 0 for streams, which have none."""
    return call_policy(contract).timeout_s if method.unary else 0.0


def retry_on(contract: Contract, method: Method) -> str:
    """Envoy's retry conditions for the method; empty for streams."""
    if not method.unary:
        return ""
    return READ_AGAIN if method.name in call_policy(contract).idempotent else NEVER_LEFT
