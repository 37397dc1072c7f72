"""No contract lets a caller name a tenant that is not its own: every RPC, every field, over the real
pipeline."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from voice.error.v1.reason_pb2 import Reason

from mesh import channels
from mesh.errors import reason_of
from mesh.pipeline import Pipeline
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.rpc import ServedCalls
from mesh.tenancy import Tenancy, scoped_paths
from mesh.translation import Translation
from scripts.contract_rules import load, ours
from scripts.feature_record import ROOT
from tests.captured_logs import captured_logs
from tests.contract.mesh.probe import PEER, Probe, ReadingProbe, calling, nothing, serving

OWN = (("x-voicemesh-tenant", "t1"), ("x-voicemesh-peer", "spiffe://voicemesh.local/ns/voice/sa/edge"))
EDGE_ALONE = (("x-voicemesh-peer", "spiffe://voicemesh.local/ns/voice/sa/edge"),)


def every_method() -> Iterator[MethodDescriptor]:
    """Every RPC of every contract, from the descriptor set that is generated with the code."""
    pool = descriptor_pool.DescriptorPool()
    files = load(ROOT / "gen" / "voicemesh.binpb")
    for file in files.file:
        pool.Add(file)
    for file in ours(files):
        for service in file.service:
            yield from pool.FindServiceByName(f"{file.package}.{service.name}").methods


for module in sorted((ROOT / "gen" / "python" / "voice").rglob("*_pb2.py")):
    importlib.import_module(".".join(module.relative_to(ROOT / "gen" / "python").with_suffix("").parts))
METHODS = {method.full_name: method for method in every_method()}
SCOPED = {name: scoped_paths(method.input_type) for name, method in METHODS.items()}
CASES = [(name, path) for name, paths in SCOPED.items() for path in paths]


class Everything(grpc.GenericRpcHandler):
    """Answers every RPC of every contract with an empty message, however many requests it gets."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = METHODS[details.method.lstrip("/").replace("/", ".")]
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)()

        async def drained(requests: Any) -> None:
            if method.client_streaming:
                async for _ in requests:
                    pass

        async def one(requests: Any, _: Any) -> Message:
            await drained(requests)
            return answer

        async def many(requests: Any, _: Any) -> AsyncIterator[Message]:
            await drained(requests)
            yield answer

        make = getattr(grpc, f"{_shape(method)}_rpc_method_handler")
        return make(
            many if method.server_streaming else one, request.FromString, lambda m: m.SerializeToString()
        )


def _shape(method: MethodDescriptor) -> str:
    words = {True: "stream", False: "unary"}
    return f"{words[bool(method.client_streaming)]}_{words[bool(method.server_streaming)]}"


class Generic:
    """A client of any method."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: MethodDescriptor, requests: list[Message], metadata: Any) -> None:
        """Calls and waits for the end. Raises as grpc does."""
        service, _, name = method.full_name.rpartition(".")
        make = getattr(self._channel, _shape(method))
        stub = make(f"/{service}/{name}", lambda m: m.SerializeToString(), lambda raw: raw)
        call = stub(iter(requests) if method.client_streaming else requests[0], timeout=10, metadata=metadata)
        if method.server_streaming:
            async for _ in call:
                pass
        else:
            await call


@pytest.fixture
async def generic() -> AsyncIterator[Generic]:
    """A client of a server that serves everything, behind the pipeline."""
    metrics = Metrics("everything")
    pipeline = Pipeline([ServedCalls(metrics), Translation(metrics), Tenancy(metrics)])
    server = grpc.aio.server(interceptors=[pipeline], options=channels.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((Everything(),))
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        target = f"unix:{Path(folder)}/s.sock"
        server.add_insecure_port(target)
        await server.start()
        async with channels.direct(target) as channel:
            yield Generic(channel)
        await server.stop(None)


def naming(method: MethodDescriptor, paths: Any, tenant: str, other: dict[Any, str] | None = None) -> Message:
    """A request that names `tenant` in every scoped field, but `other[path]` where given."""
    request = message_factory.GetMessageClass(method.input_type)()
    for path in paths:
        _set(request, path, (other or {}).get(path, tenant))
    return request


def _set(message: Any, path: tuple[str, ...], tenant: str) -> None:
    head, rest = path[0], path[1:]
    field = message.DESCRIPTOR.fields_by_name[head]
    if not rest:
        if field.is_repeated:
            getattr(message, head).append(tenant)
        else:
            setattr(message, head, tenant)
        return
    inner = getattr(message, head)
    if field.is_repeated:
        inner = inner[0] if inner else inner.add()
    else:
        inner.SetInParent()
    _set(inner, rest, tenant)


def test_there_are_contracts_to_check() -> None:
    assert len(METHODS) > 40
    assert len(CASES) > 20


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name}:{'.'.join(path)}" for name, path in CASES])
async def test_a_foreign_tenant_is_refused_everywhere(
    generic: Generic, name: str, path: tuple[str, ...]
) -> None:
    method, paths = METHODS[name], SCOPED[name]
    # Paths through one oneof exclude each other; the fields of the request itself are always there.
    together = [p for p in paths if len(p) == 1 and p != path] + [path]
    own = naming(method, together, "t1")
    await generic.call(method, [own], OWN)
    for foreign in ("t2", "", "t1 ", "T1"):
        bad = naming(method, together, "t1", {path: foreign})
        requests = [own, bad] if method.client_streaming else [bad]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generic.call(method, requests, OWN)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(caught.value) == Reason.REASON_FOREIGN_TENANT


@pytest.mark.parametrize("name", [name for name, paths in SCOPED.items() if paths])
async def test_who_names_no_tenant_at_all_is_refused(generic: Generic, name: str) -> None:
    empty = naming(METHODS[name], [], "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generic.call(METHODS[name], [empty], OWN)
    assert reason_of(caught.value) == Reason.REASON_FOREIGN_TENANT


@pytest.mark.parametrize("name", [name for name, paths in SCOPED.items() if paths])
async def test_a_service_may_name_any_tenant_and_the_edge_alone_none(generic: Generic, name: str) -> None:
    method = METHODS[name]
    request = naming(method, SCOPED[name][:1], "t2")
    await generic.call(method, [request], PEER)
    for nobody in (EDGE_ALONE, ()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generic.call(method, [request], nobody)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(caught.value) == Reason.REASON_UNAUTHENTICATED


@pytest.mark.parametrize("kind", [Probe, ReadingProbe])
async def test_a_later_message_of_a_stream_is_looked_at_too(kind: type[Probe]) -> None:
    from voice.config.v1 import config_service_pb2 as config

    probe = kind(nothing)
    async with serving(probe) as service, calling(service) as calls:
        requests = [config.ImportObjectsRequest(tenant=t) for t in ("t1", "t1", "t2", "t1")]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.config.ImportObjects(iter(requests), metadata=OWN, timeout=20)
    assert reason_of(caught.value) == Reason.REASON_FOREIGN_TENANT
    assert [request.tenant for request in probe.seen] == ["t1", "t1"]


async def test_a_refusal_is_counted_and_leaves_an_audit_line() -> None:
    probe = Probe(nothing)
    with captured_logs() as log:
        async with serving(probe) as service, calling(service) as calls:
            with pytest.raises(grpc.aio.AioRpcError):
                await calls.unary_unary("t2", metadata=OWN, timeout=20)
            count = service.metrics.registry.get_sample_value(
                "voicemesh_probe_foreign_tenant_refusals_total", {"method": "ConfigService.GetObject"}
            )
    assert count == 1
    assert probe.seen == []
    (audit,) = [line for line in log.lines() if line.get("audit")]
    assert audit["caller_tenant"] == "t1"
    assert audit["named_tenant"] == "t2"
    assert audit["method"] == "ConfigService.GetObject"
    assert audit["tenant"] == "t1"


async def test_without_a_sidecar_a_service_under_test_may_be_called_directly() -> None:
    async with serving(Probe(nothing), require_peer=False) as service, calling(service) as calls:
        assert len(await calls.unary_unary("t2", timeout=20)) == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.unary_unary("t2", timeout=20, metadata=EDGE_ALONE)
    assert reason_of(caught.value) == Reason.REASON_UNAUTHENTICATED
