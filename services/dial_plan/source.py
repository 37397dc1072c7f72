"""Whose call is this: the tenant and, of the calling party, what the source proves. Pure.

A trunk is known by the address it sends from, a phone by being registered from where it sends; a From header
alone proves nothing, so a caller who only claims to be an extension is an outside caller.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.config_cache import ConfigView, Dn
from mesh.config_sources import split_address


@dataclass(frozen=True, slots=True)
class Source:
    """Where a SIP request came from."""

    address: str = ""
    """host:port it was received from."""
    domain: str = ""
    """Host of the Request-URI."""
    from_domain: str = ""
    """Host of the From URI."""
    from_user: str = ""
    """User of the From URI."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a source."""

    tenant: str
    trunk: Dn | None = None
    """The trunk it came over."""
    phone: Dn | None = None
    """The tenant's own device it came from."""


def identify(view: ConfigView, source: Source, tenant: str = "") -> Origin | None:
    """The tenant of a source: of the trunk with its address, else of the domain called, else of the caller's
    domain. `tenant`: known already, then only trunk and phone are looked for. None when it is nobody's."""
    trunk = _trunk(view, source, tenant)
    if trunk is not None:
        return Origin(trunk.tenant, trunk=trunk)
    if not tenant:
        found = view.tenant_of_domain(source.domain) or view.tenant_of_domain(source.from_domain)
        if found is None:
            return None
        tenant = found.tenant
    return Origin(tenant, phone=_phone(view, tenant, source))


def _trunk(view: ConfigView, source: Source, tenant: str) -> Dn | None:
    trunks = view.trunks_from(source.address) if source.address else []
    if tenant:
        trunks = [trunk for trunk in trunks if trunk.tenant == tenant]
    elif len({trunk.tenant for trunk in trunks}) > 1:
        # Tenants behind one peer: the domain called tells them apart.
        called = view.tenant_of_domain(source.domain)
        trunks = [trunk for trunk in trunks if called is not None and trunk.tenant == called.tenant]
    if not trunks:
        return None
    return min(trunks, key=lambda trunk: (-trunk.trunk.priority if trunk.trunk else 0, trunk.number))


def _phone(view: ConfigView, tenant: str, source: Source) -> Dn | None:
    if not source.from_user or not source.address:
        return None
    domain = view.tenant_of_domain(source.from_domain)
    if domain is not None and domain.tenant != tenant:
        return None
    dn = view.dn(tenant, source.from_user)
    if dn is None or not dn.is_phone or not dn.enabled:
        return None
    known = view.registrations(tenant, dn.number)
    host = split_address(source.address)[0]
    hosts = {_host(place) for b in (known.bindings if known else ()) for place in (b.received, b.contact)}
    return dn if host in hosts else None


def _host(place: str) -> str:
    """Host of host:port or of a SIP URI."""
    place = place.partition(";")[0].partition("?")[0]
    if place.lower().startswith(("sip:", "sips:")):
        place = place.partition(":")[2].rpartition("@")[2]
    return split_address(place)[0]
