"""Mutual TLS between sidecars, from SDS files that are replaced while traffic flows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from mesh.envoy.messages import any_of, flag
from mesh.identity.ca import spiffe_id
from mesh.identity.secrets import TRUST, WORKLOAD, trust_file, workload_file

_SAN = common_pb2.SubjectAltNameMatcher
_MINIMUM = common_pb2.TlsParameters(
    tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
    tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
)
"""Inside of the mesh both ends are ours: TLS 1.3 only."""
_EDGE_MINIMUM = common_pb2.TlsParameters(tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2)


def upstream(identity: str, service: str) -> base_pb2.TransportSocket:
    """Towards a service: our certificate, and theirs must be that service's."""
    context = tls_pb2.UpstreamTlsContext(common_tls_context=_common(identity, _MINIMUM, [service]))
    return base_pb2.TransportSocket(name="tls", typed_config=any_of(context))


def ingress(identity: str) -> base_pb2.TransportSocket:
    """From sidecars: a certificate of the mesh is required; whose it is, RBAC looks at."""
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=_common(identity, _MINIMUM, []), require_client_certificate=flag(True)
    )
    return base_pb2.TransportSocket(name="tls", typed_config=any_of(context))


def edge(identity: str) -> base_pb2.TransportSocket:
    """From clients outside: our certificate; they prove themselves by token. HTTP/2 and HTTP/1.1 (gRPC-Web,
    REST)."""
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=tls_pb2.CommonTlsContext(
            tls_params=_EDGE_MINIMUM,
            alpn_protocols=["h2", "http/1.1"],
            tls_certificate_sds_secret_configs=[_file(WORKLOAD, workload_file(Path(identity)))],
        )
    )
    return base_pb2.TransportSocket(name="tls", typed_config=any_of(context))


def _common(
    identity: str, parameters: common_pb2.TlsParameters, services: Iterable[str]
) -> tls_pb2.CommonTlsContext:
    folder = Path(identity)
    names = [
        _SAN(san_type=_SAN.URI, matcher=string_pb2.StringMatcher(exact=spiffe_id(service)))
        for service in services
    ]
    return tls_pb2.CommonTlsContext(
        tls_params=parameters,
        alpn_protocols=["h2"],
        tls_certificate_sds_secret_configs=[_file(WORKLOAD, workload_file(folder))],
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=common_pb2.CertificateValidationContext(
                match_typed_subject_alt_names=names
            ),
            validation_context_sds_secret_config=_file(TRUST, trust_file(folder)),
        ),
    )


def _file(name: str, path: Path) -> secret_pb2.SdsSecretConfig:
    source = config_source_pb2.PathConfigSource(
        path=str(path), watched_directory=base_pb2.WatchedDirectory(path=str(path.parent))
    )
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            path_config_source=source, resource_api_version=config_source_pb2.V3
        ),
    )
