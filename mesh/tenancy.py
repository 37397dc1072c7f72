"""Tenancy: the one place where the caller's tenant is compared with the tenant a request names (design §5).

The edge sets `x-voicemesh-tenant` from the verified token and strips what the client sent; the sidecar sets
`x-voicemesh-peer` to the caller's SPIFFE id from mTLS, overwriting what was there. A call with a tenant may
only name that tenant, in every field marked (voice.type.v1.tenant_scope). A call without one must come from
a peer service.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

TENANT_KEY = "x-voicemesh-tenant"
"""Metadata key: tenant id of the client's token, set by the edge."""
PEER_KEY = "x-voicemesh-peer"
"""Metadata key: SPIFFE id of the calling service, set by our sidecar from its certificate."""
EDGE_SERVICE = "edge"
"""Service account of the edge Envoy: it speaks for clients and never for itself."""


@dataclass(frozen=True)
class Caller:
    """Who makes the call being served."""

    tenant: str = ""
    """Tenant of a client; "" for a call between services."""
    peer: str = ""
    """SPIFFE id of the calling service; "" when no sidecar stands in front."""

    @property
    def service(self) -> str:
        """Service name in the SPIFFE id spiffe://<domain>/ns/<ns>/sa/<service>; "" without one."""
        return self.peer.rpartition("/sa/")[2] if "/sa/" in self.peer else ""


_caller: ContextVar[Caller] = ContextVar("voicemesh_caller", default=Caller())  # noqa: B039


def caller() -> Caller:
    """Who makes the call being served; empty outside of one."""
    return _caller.get()
