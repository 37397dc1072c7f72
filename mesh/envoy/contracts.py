"""The contracts as the mesh sees them: read from the descriptor set that `make gen` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

DESCRIPTOR_SET = Path(__file__).resolve().parents[2] / "gen" / "voicemesh.binpb"
"""Every contract with everything it imports, comments included."""

SERVED_BY: Mapping[str, str] = {"tlib": "front_end"}
"""Domains whose contracts another service serves than the one of the same name. The public T-Library
contracts are Front End's."""

EVERYWHERE = "voice.mesh.v1"
"""Contracts of this package are served by every node."""

_SERVICE_FIELD, _METHOD_FIELD = 6, 2


@dataclass(frozen=True)
class Method:
    """One RPC."""

    contract: str
    """Full name of its contract: "voice.config.v1.ConfigService"."""
    name: str
    client_streaming: bool
    server_streaming: bool
    http: tuple[str, ...]
    """Path templates of its REST bindings: "/v1/tenants/{tenant}/calls"."""
    comment: str
    """Its comment in the contract."""

    @property
    def path(self) -> str:
        """HTTP/2 path of the RPC."""
        return f"/{self.contract}/{self.name}"

    @property
    def unary(self) -> bool:
        """Neither side streams."""
        return not (self.client_streaming or self.server_streaming)


@dataclass(frozen=True)
class Contract:
    """One gRPC service of the contracts."""

    name: str
    """Full name: "voice.config.v1.ConfigService"."""
    methods: tuple[Method, ...]

    @property
    def server(self) -> str:
        """Name of the service that serves it; empty when every node does."""
        package = self.name.rpartition(".")[0]
        domain = package.split(".")[1]
        return "" if package == EVERYWHERE else SERVED_BY.get(domain, domain)

    @property
    def prefix(self) -> str:
        """Prefix of the paths of its RPCs."""
        return f"/{self.name}/"


def load(file: Path = DESCRIPTOR_SET) -> tuple[Contract, ...]:
    """All contracts of ours, by name. Raises OSError when the file is missing: `make gen` writes it."""
    files = descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes()).file
    found = [contract for file in files if file.package.startswith("voice.") for contract in _contracts(file)]
    return tuple(sorted(found, key=lambda contract: contract.name))


def _contracts(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Contract]:
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for number, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield Contract(
            name,
            tuple(
                Method(
                    name,
                    method.name,
                    method.client_streaming,
                    method.server_streaming,
                    tuple(_templates(method.options.Extensions[annotations_pb2.http])),
                    comments.get((_SERVICE_FIELD, number, _METHOD_FIELD, position), ""),
                )
                for position, method in enumerate(service.method)
            ),
        )


def _templates(rule: http_pb2.HttpRule) -> Iterator[str]:
    pattern = rule.WhichOneof("pattern")
    if pattern is not None and pattern != "custom":
        yield getattr(rule, pattern)
    for further in rule.additional_bindings:
        yield from _templates(further)
