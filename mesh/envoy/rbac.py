"""The authorization table rendered to Envoy's RBAC filter: what is not allowed is refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, regex_pb2, string_pb2, value_pb2

from mesh.envoy.authorization import (
    ANYBODY,
    EDGE,
    HEALTH,
    INFRASTRUCTURE_PREFIXES,
    OPERATORS,
    REFLECTION,
    SCOPES,
    SERVICES,
    WATCHMAN,
    callers,
    identities,
)
from mesh.envoy.contracts import Contract
from mesh.envoy.filters import http_filter
from mesh.identity.ca import spiffe_id

JWT_FILTER = "envoy.filters.http.jwt_authn"
CLAIMS = "claims"
"""Where the token's claims stand in the JWT filter's metadata."""
_EVERY_IDENTITY = SERVICES | {EDGE, WATCHMAN}


def ingress(contracts: Iterable[Contract], service: str) -> hcm.HttpFilter:
    """At a sidecar: methods of the contracts this service has, by the certificate of the caller."""
    served = [contract for contract in contracts if contract.server in {service, ""}]
    policies = _by_callers(served, identities, _certificates)
    policies["infrastructure"] = rbac_pb2.Policy(
        permissions=[_under(prefix) for prefix in INFRASTRUCTURE_PREFIXES],
        principals=_certificates(frozenset(_EVERY_IDENTITY)),
    )
    return _filter(policies)


def edge(contracts: Iterable[Contract]) -> hcm.HttpFilter:
    """At the edge: methods by the scopes of the token. Reflection of the contracts is open to all, health of
    services to operators."""
    policies = _by_callers(contracts, lambda allowed: allowed & {ANYBODY, *SCOPES}, _bearers)
    policies["reflection"] = rbac_pb2.Policy(
        permissions=[_under(prefix) for prefix in REFLECTION], principals=_bearers(frozenset({ANYBODY}))
    )
    policies["health"] = rbac_pb2.Policy(
        permissions=[_under(HEALTH)], principals=_bearers(frozenset({OPERATORS}))
    )
    return _filter(policies)


def _by_callers(
    contracts: Iterable[Contract],
    choose: Callable[[frozenset[str]], frozenset[str]],
    principals: Callable[[frozenset[str]], list[rbac_pb2.Principal]],
) -> dict[str, rbac_pb2.Policy]:
    """One policy a set of callers: few principals, many paths."""
    paths: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for contract in contracts:
        for method in contract.methods:
            allowed = choose(callers(contract.name, method.name))
            if allowed:
                paths[allowed].append(method.path)
    return {
        "callers " + ",".join(sorted(allowed)): rbac_pb2.Policy(
            permissions=[_exactly(path) for path in sorted(some)], principals=principals(allowed)
        )
        for allowed, some in paths.items()
    }


def _certificates(names: frozenset[str]) -> list[rbac_pb2.Principal]:
    return [
        rbac_pb2.Principal(
            authenticated=rbac_pb2.Principal.Authenticated(
                principal_name=string_pb2.StringMatcher(exact=spiffe_id(name))
            )
        )
        for name in sorted(names)
    ]


def _bearers(kinds: frozenset[str]) -> list[rbac_pb2.Principal]:
    if ANYBODY in kinds:
        return [rbac_pb2.Principal(any=True)]
    scopes = sorted({scope for kind in kinds for scope in SCOPES[kind]})
    return [_scope(scope) for scope in scopes]


def _scope(scope: str) -> rbac_pb2.Principal:
    """The claim `scope` has the word: words are separated by blanks (RFC 8693 section 4.2)."""
    words = regex_pb2.RegexMatcher(regex=rf"(.* )?{scope.replace('.', '[.]')}( .*)?")
    matcher = metadata_pb2.MetadataMatcher(
        filter=JWT_FILTER,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in (CLAIMS, "scope")],
        value=value_pb2.ValueMatcher(string_match=string_pb2.StringMatcher(safe_regex=words)),
    )
    return rbac_pb2.Principal(sourced_metadata=rbac_pb2.SourcedMetadata(metadata_matcher=matcher))


def _exactly(path: str) -> rbac_pb2.Permission:
    return _path(string_pb2.StringMatcher(exact=path))


def _under(prefix: str) -> rbac_pb2.Permission:
    return _path(string_pb2.StringMatcher(prefix=prefix))


def _path(matcher: string_pb2.StringMatcher) -> rbac_pb2.Permission:
    return rbac_pb2.Permission(url_path=path_pb2.PathMatcher(path=matcher))


def _filter(policies: dict[str, rbac_pb2.Policy]) -> hcm.HttpFilter:
    rules = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW, policies=policies)
    return http_filter("envoy.filters.http.rbac", rbac_filter_pb2.RBAC(rules=rules))
