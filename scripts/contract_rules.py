"""Rules of the contracts that buf does not know.

* the comment of every RPC says who may call it, and the errors it names are reasons;
* an RPC that clients may call names the tenant in a field marked tenant_scope, or is listed with a reason;
* an RPC that clients may call has an HTTP binding unless its client streams, or is listed with a reason;
one that
  nobody outside may call has none;
* the error table (mesh/errors.py) says of every reason what its comment says, and knows every reason.

Usage: python -m scripts.contract_rules <descriptor set with source info>
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import TABLE, Row
from mesh.tenancy import scoped_paths

NO_TENANT: Mapping[str, str] = MappingProxyType(
    {
        "voice.tenant.v1.TenantService.IssueToken": "who asks for a token has none yet, so no tenant to compare",
        **{
            f"voice.orchestration.v1.SessionHttpService.{name}ByHttp": "its path names no tenant: the token's is taken"
            for name in ("Start", "SendEvent", "SendRequest", "Terminate", "Query", "Help")
        },
        "voice.orchestration.v1.SessionHttpService.ReceiveByHttp": "the key in its path belongs to one session",
    }
)
"""RPCs that clients may call and that name no tenant, each with the reason."""
NO_BINDING: Mapping[str, str] = MappingProxyType(
    {
        "voice.config.v1.ConfigService.Watch": "feeds caches and never ends; HTTP clients list and export",
        "voice.tenant.v1.TenantService.VerifyToken": "for services that were handed a token; the edge verifies its own",
    }
)
"""RPCs that clients may call, without a streaming client, that have no HTTP binding, each with the reason."""

_CALLERS = re.compile(r"May be called by:\s*(.+?)\.?\s*$", re.S)
_ERRORS = re.compile(r"Errors:(.*?)(?:May be called by:|$)")
_NAME = re.compile(r"\b[A-Z]+_[A-Z_]+\b|\b[A-Z]{5,}\b")
_NUMBERS = re.compile(r"([A-Z_]+) / (\d{3}) / (\d+)\.\s*$")
# Field numbers on the way to a comment (descriptor.proto, SourceCodeInfo): file.service.method,
# file.enum_type.value.
_SERVICE, _METHOD, _ENUM, _VALUE = 6, 2, 5, 2


@dataclass(frozen=True)
class Rpc:
    """One RPC of a contract."""

    name: str
    """Full name: "voice.config.v1.ConfigService.GetObject"."""
    comment: str
    request: str
    """Full name of the request message."""
    client_streaming: bool
    bound: bool
    """Has an HTTP binding."""

    @property
    def callers(self) -> str:
        """What its comment says after "May be called by:"; "" when it does not."""
        match = _CALLERS.search(self.comment)
        return " ".join(match.group(1).split()) if match else ""

    @property
    def errors(self) -> tuple[str, ...]:
        """What its comment names as errors: "NOT_OWNER" for REASON_NOT_OWNER."""
        match = _ERRORS.search(" ".join(self.comment.split()))
        return tuple(_NAME.findall(match.group(1))) if match else ()

    @property
    def public(self) -> bool:
        """Clients may call it."""
        return "clients" in self.callers or "anybody" in self.callers

    @property
    def outside(self) -> bool:
        """Clients or operators may call it, through the edge."""
        return self.public or "operators" in self.callers


def load(path: Path) -> descriptor_pb2.FileDescriptorSet:
    """Reads a descriptor set, as protoc or buf build write it."""
    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def ours(files: descriptor_pb2.FileDescriptorSet) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """The files of our own contracts."""
    return (file for file in files.file if file.package.startswith("voice."))


def _comments(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {tuple(place.path): place.leading_comments for place in file.source_code_info.location}


def rpcs(files: descriptor_pb2.FileDescriptorSet) -> Iterator[Rpc]:
    """Every RPC of our contracts."""
    for file in ours(files):
        comments = _comments(file)
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                yield Rpc(
                    name=f"{file.package}.{service.name}.{method.name}",
                    comment=comments.get((_SERVICE, s, _METHOD, m), ""),
                    request=method.input_type.lstrip("."),
                    client_streaming=method.client_streaming,
                    bound=method.options.HasExtension(annotations_pb2.http),
                )


def reason_comments(files: descriptor_pb2.FileDescriptorSet) -> dict[str, str]:
    """Name of each reason -> its comment."""
    found: dict[str, str] = {}
    for file in ours(files):
        comments = _comments(file)
        for e, enum in enumerate(file.enum_type):
            if f"{file.package}.{enum.name}" == Reason.DESCRIPTOR.full_name:
                found |= {v.name: comments.get((_ENUM, e, _VALUE, i), "") for i, v in enumerate(enum.value)}
    return found


def documented_numbers(comment: str) -> tuple[str, int, int] | None:
    """(gRPC status, SIP status, T-Library number) at the end of a reason's comment, or None."""
    match = _NUMBERS.search(" ".join(comment.split()))
    return (match[1], int(match[2]), int(match[3])) if match else None


def table_problems(comments: Mapping[str, str], table: Mapping[Reason.ValueType, Row]) -> Iterator[str]:
    """Where the table and the comments disagree."""
    for name, comment in comments.items():
        documented = documented_numbers(comment)
        row = table.get(Reason.Value(name))
        if documented is None:
            yield f"{name}: its comment must end with <gRPC status> / <SIP status> / <T-Library number>."
        elif row is None:
            yield f"{name}: missing in the error table"
        elif documented != (row.grpc.name, row.sip, row.tlib):
            have = (row.grpc.name, row.sip, row.tlib)
            yield f"{name}: the comment says {documented}, the table {have}"
    for reason in set(table) - {Reason.Value(name) for name in comments}:
        yield f"reason {reason} of the error table is in no contract"


def rpc_problems(
    found: Mapping[str, Rpc],
    scoped: Mapping[str, bool],
    no_tenant: Mapping[str, str] = NO_TENANT,
    no_binding: Mapping[str, str] = NO_BINDING,
) -> Iterator[str]:
    """Where an RPC breaks a rule. `scoped`: full name of a request message -> whether it names a tenant."""
    for name, rpc in found.items():
        if not rpc.callers:
            yield f"{name}: its comment must end with who may call it (May be called by: …)"
        for error in rpc.errors:
            if f"REASON_{error}" not in Reason.DESCRIPTOR.values_by_name:
                yield f"{name}: its comment names the error {error}, which is no reason"
        if rpc.public and not scoped[rpc.request] and name not in no_tenant:
            yield f"{name}: clients may call it, so a field must be marked tenant_scope"
        if rpc.public and not rpc.bound and not rpc.client_streaming and name not in no_binding:
            yield f"{name}: clients may call it, so it needs an HTTP binding"
        if rpc.bound and (rpc.client_streaming or not rpc.outside):
            yield f"{name}: has an HTTP binding, but nobody outside may call it or its client streams"
    for name in (set(no_tenant) | set(no_binding)) - set(found):
        yield f"{name}: is excepted from a rule but is no RPC"


def problems(files: descriptor_pb2.FileDescriptorSet) -> list[str]:
    """Everything that breaks a rule in these contracts."""
    found = {rpc.name: rpc for rpc in rpcs(files)}
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    scoped = {
        rpc.request: bool(scoped_paths(pool.FindMessageTypeByName(rpc.request))) for rpc in found.values()
    }
    return [*table_problems(reason_comments(files), TABLE), *rpc_problems(found, scoped)]


def main(path: str) -> int:
    """Prints every problem; 1 when there is one."""
    found = problems(load(Path(path)))
    for problem in found:
        sys.stderr.write(f"contracts: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
