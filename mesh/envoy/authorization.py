"""Who may call which contract: the one table. Whatever is not in it is refused.

It says what the comments of the RPCs say ("May be called by: …"), which a test compares, and is rendered to
Envoy's RBAC filter twice: at each
sidecar's ingress by the caller's certificate, at the edge by the scopes of the caller's token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

SERVICES = frozenset(
    {
        "agent_state",
        "call_state",
        "config",
        "dial_plan",
        "front_end",
        "media",
        "orchestration",
        "redis_queue",
        "registrar",
        "sip_cluster",
        "sip_proxy",
        "tenant",
        "voicemail",
    }
)
"""Every service of the mesh: the names that certificates carry."""

EDGE = "edge"
"""Identity of the edge Envoy."""
WATCHMAN = "operator"
"""Identity of what looks after a mesh from inside: readiness checks, the local starter."""

ANYBODY = "anybody"
"""Through the edge without a token."""
CLIENTS = "clients of the tenant"
"""Through the edge with a token of the tenant."""
CONFIG_WRITERS = "clients of the tenant with scope config.write"
OPERATORS = "operators"
"""Through the edge with a token of scope operator."""
EXTERNAL = frozenset({ANYBODY, CLIENTS, CONFIG_WRITERS, OPERATORS})
"""Callers that come through the edge."""

SCOPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        CLIENTS: frozenset({"agent", "client"}),
        CONFIG_WRITERS: frozenset({"config.write"}),
        OPERATORS: frozenset({"operator"}),
    }
)
"""Scopes of a token, one of which makes its bearer such a caller."""

HEALTH = "/grpc.health.v1.Health/"
REFLECTION = ("/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/")
INFRASTRUCTURE_PREFIXES = (HEALTH, *REFLECTION)
"""Served by every node beside its contracts: any identity of the mesh may ask."""


def _may(*callers: str | Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for caller in callers:
        found |= {caller} if isinstance(caller, str) else set(caller)
    return frozenset(found)


_CALL_CONTROL = _may(CLIENTS, "orchestration", "tenant")
_AGENT_CONTROL = _may(CLIENTS, "tenant")
_CONFIG_READ = _may(SERVICES, CLIENTS, OPERATORS)
_CONFIG_WRITE = _may(CONFIG_WRITERS, "tenant", OPERATORS)
_QUEUE_USERS = _may("orchestration", "tenant", "agent_state", "front_end")

TABLE: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "voice.agent_state.v1.AgentStateService": {
            "GetAgent": _may(SERVICES, CLIENTS, OPERATORS),
            "ListAgents": _may("tenant", "front_end", OPERATORS),
            "ReserveAgent": _may("tenant", "front_end"),
            "CancelReservation": _may("tenant", "front_end"),
        },
        "voice.call_state.v1.CallStateService": {
            "GetThread": _may(SERVICES, CLIENTS, OPERATORS),
            "ListThreads": _may("front_end", "tenant", OPERATORS),
        },
        "voice.config.v1.ConfigService": {
            "CreateObject": _CONFIG_WRITE,
            "GetObject": _CONFIG_READ,
            "ListObjects": _CONFIG_READ,
            "UpdateObject": _CONFIG_WRITE,
            "DeleteObject": _CONFIG_WRITE,
            "ImportObjects": _may(CONFIG_WRITERS, OPERATORS),
            "ExportObjects": _may(CONFIG_WRITERS, OPERATORS),
            "Watch": _CONFIG_READ,
        },
        "voice.config.v1.DeviceService": {
            "PutRegistrations": _may("registrar"),
            "GetRegistrations": _may(SERVICES, OPERATORS),
            "PutLogin": _may("agent_state"),
            "DeleteLogin": _may("agent_state"),
            "GetLogin": _may(SERVICES, OPERATORS),
            "CheckPassword": _may("agent_state", "tenant"),
        },
        "voice.dial_plan.v1.DialPlanService": {
            "Resolve": _may("sip_cluster", "front_end", "tenant", OPERATORS),
            "IdentifyTenant": _may("sip_cluster", "sip_proxy", OPERATORS),
        },
        "voice.front_end.v1.FrontEndService": {"GetStatus": _may(OPERATORS)},
        "voice.mesh.v1.NodeService": {"GetNode": _may(SERVICES, OPERATORS)},
        "voice.orchestration.v1.OrchestrationService": {
            "StartSession": _may(CLIENTS, OPERATORS, "orchestration"),
            "GetSession": _may(CLIENTS, OPERATORS, "orchestration"),
            "ListSessions": _may(OPERATORS, "front_end"),
            "SendEvent": _may(CLIENTS, OPERATORS, "orchestration"),
            "SendRequest": _may(CLIENTS, OPERATORS, "media", "orchestration"),
            "TerminateSession": _may(CLIENTS, OPERATORS, "orchestration"),
            "GetTrace": _may(CLIENTS, OPERATORS),
        },
        "voice.orchestration.v1.SessionHttpService": {
            "StartByHttp": _may(CLIENTS, OPERATORS),
            "SendEventByHttp": _may(CLIENTS, OPERATORS),
            "SendRequestByHttp": _may(CLIENTS, OPERATORS),
            "TerminateByHttp": _may(CLIENTS, OPERATORS),
            "QueryByHttp": _may(CLIENTS, OPERATORS),
            "ReceiveByHttp": _may(ANYBODY, "orchestration"),
            "HelpByHttp": _may(CLIENTS, OPERATORS),
        },
        "voice.redis_queue.v1.QueueService": {
            "Publish": _may("sip_cluster", "agent_state", "call_state"),
            "ReadStream": _may("orchestration", "sip_cluster", "call_state", "front_end", "agent_state"),
            "ReadSlots": _may("call_state", "agent_state", "orchestration", "tenant", "front_end"),
            "Enqueue": _QUEUE_USERS,
            "ReadQueue": _QUEUE_USERS,
            "Acknowledge": _QUEUE_USERS,
            "WriteQueues": _QUEUE_USERS,
            "CloseStream": _may("sip_cluster", "call_state"),
            "FenceStreams": _may("sip_cluster", "agent_state"),
            "FollowStore": _may(
                "sip_cluster", "agent_state", "call_state", "orchestration", "tenant", "front_end"
            ),
        },
        "voice.registrar.v1.RegistrarService": {
            "Register": _may("sip_proxy"),
            "GetBindings": _may("sip_proxy", OPERATORS),
        },
        "voice.sip_cluster.v1.SipNodeService": {
            "Execute": _may("front_end", "orchestration", "tenant"),
            "GetCall": _may("front_end", "call_state", OPERATORS),
        },
        "voice.sip_proxy.v1.ProxyService": {"GetStatus": _may(OPERATORS)},
        "voice.tenant.v1.TenantService": {
            "IssueToken": _may(ANYBODY),
            "VerifyToken": _may("front_end", CLIENTS),
            "ListWaiting": _may(CLIENTS, OPERATORS),
            "ExplainTarget": _may(CLIENTS, OPERATORS),
        },
        "voice.tlib.v1.AgentControlService": {
            "AgentLogin": _AGENT_CONTROL,
            "AgentLogout": _AGENT_CONTROL,
            "AgentReady": _AGENT_CONTROL,
            "AgentNotReady": _AGENT_CONTROL,
            "SetDndOn": _AGENT_CONTROL,
            "SetDndOff": _AGENT_CONTROL,
            "ReserveAgent": _AGENT_CONTROL,
        },
        "voice.tlib.v1.CallControlService": {
            "MakeCall": _CALL_CONTROL,
            "AnswerCall": _may(CLIENTS, "tenant"),
            "ReleaseCall": _CALL_CONTROL,
            "ClearCall": _CALL_CONTROL,
            "RouteCall": _CALL_CONTROL,
            "AttachUserData": _CALL_CONTROL,
            "UpdateUserData": _CALL_CONTROL,
            "DeleteUserData": _CALL_CONTROL,
            "DeletePair": _CALL_CONTROL,
            "DistributeEvent": _CALL_CONTROL,
        },
        "voice.tlib.v1.EventService": {"Subscribe": _may(CLIENTS, "tenant")},
    }
)
"""Contract -> method -> callers: names of services, and of what comes through the edge."""


def callers(contract: str, method: str) -> frozenset[str]:
    """Who may call the method; nobody when it is not in the table."""
    return TABLE.get(contract, {}).get(method, frozenset())


def identities(allowed: frozenset[str]) -> frozenset[str]:
    """Certificates' names for those callers: services, and the edge for all who come through it. The watchman
    stands in for operators."""
    found = set(allowed - EXTERNAL)
    if allowed & EXTERNAL:
        found.add(EDGE)
    if OPERATORS in allowed:
        found.add(WATCHMAN)
    return frozenset(found)
