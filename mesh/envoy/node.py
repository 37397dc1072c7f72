"""The two kinds of Envoy in the mesh and what each tells the control plane of itself, in the metadata of its
node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format, struct_pb2

from mesh.envoy.authorization import EDGE, SERVICES
from mesh.envoy.policy import TENANT_BURST, TENANT_RATE_PER_S


class NodeError(ValueError):
    """An Envoy presents itself with an id or metadata that cannot be served; says what is wrong."""


@dataclass(frozen=True)
class Ingress:
    """One node behind a sidecar."""

    node: str
    """Node id."""
    address: str
    """host:port the sidecar takes mTLS on for it."""
    socket: str
    """Path of the Unix socket it serves gRPC on."""


@dataclass(frozen=True)
class Sidecar:
    """The Envoy beside a service instance. Envoy node id: `<service>/<instance>`."""

    service: str
    instance: str
    identity: str
    """Folder with the SDS files."""
    egress: str
    """Path of the Unix socket its service calls out through."""
    ingresses: tuple[Ingress, ...]


@dataclass(frozen=True)
class Edge:
    """The Envoy that other teams' clients talk to. Envoy node id: `edge/<instance>`."""

    instance: str
    identity: str
    """Folder with the SDS files."""
    address: str
    """host:port of its TLS listener."""
    jwks: str
    """JWK set file with the keys that sign tokens."""
    descriptors: str
    """Descriptor set file, for the transcoder."""
    reflection: str
    """Path of the Unix socket where reflection of all contracts is served."""
    origins: tuple[str, ...] = field(default=())
    """Web origins that may call (CORS); empty means any."""
    tenant_rate: int = TENANT_RATE_PER_S
    """Requests a second a tenant may send through this edge."""
    tenant_burst: int = TENANT_BURST
    """Requests a tenant may send at once."""


def parse(node_id: str, metadata: struct_pb2.Struct) -> Sidecar | Edge:
    """What an Envoy is. Raises NodeError naming the field at fault."""
    service, separator, instance = node_id.partition("/")
    if not separator or not instance:
        raise NodeError(f"node id {node_id!r}: must be <service>/<instance>")
    values = json_format.MessageToDict(metadata)
    if service == EDGE:
        return Edge(
            instance,
            _text(values, "identity"),
            _address(values, "address"),
            _text(values, "jwks"),
            _text(values, "descriptors"),
            _text(values, "reflection"),
            tuple(values.get("origins", ())),
            _positive(values, "tenant_rate", TENANT_RATE_PER_S),
            _positive(values, "tenant_burst", TENANT_BURST),
        )
    if service not in SERVICES:
        raise NodeError(f"node id {node_id!r}: no service is called {service!r}")
    entries = values.get("ingresses")
    if not isinstance(entries, list) or not entries:
        raise NodeError("metadata ingresses: must be a list with an entry a node")
    ingresses = tuple(Ingress(_text(e, "node"), _address(e, "address"), _text(e, "socket")) for e in entries)
    return Sidecar(service, instance, _text(values, "identity"), _text(values, "egress"), ingresses)


def node_id(node: Sidecar | Edge) -> str:
    """The Envoy node id of it."""
    return f"{node.service if isinstance(node, Sidecar) else EDGE}/{node.instance}"


def metadata(node: Sidecar | Edge) -> dict[str, object]:
    """The metadata that `parse` reads back."""
    if isinstance(node, Edge):
        return {
            "identity": node.identity,
            "address": node.address,
            "jwks": node.jwks,
            "descriptors": node.descriptors,
            "reflection": node.reflection,
            "origins": list(node.origins),
            "tenant_rate": node.tenant_rate,
            "tenant_burst": node.tenant_burst,
        }
    return {
        "identity": node.identity,
        "egress": node.egress,
        "ingresses": [{"node": i.node, "address": i.address, "socket": i.socket} for i in node.ingresses],
    }


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of "host:port". Raises NodeError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise NodeError(f"{address!r}: must be host:port")
    return host.strip("[]"), int(port)


def _text(values: Mapping[str, object], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise NodeError(f"metadata {key}: must be a text that is not empty")
    return value


def _address(values: Mapping[str, object], key: str) -> str:
    address = _text(values, key)
    split_address(address)
    return address


def _positive(values: Mapping[str, object], key: str, otherwise: int) -> int:
    value = values.get(key, otherwise)
    if not isinstance(value, int | float) or value != int(value) or value < 1:
        raise NodeError(f"metadata {key}: must be a whole number above 0")
    return int(value)
