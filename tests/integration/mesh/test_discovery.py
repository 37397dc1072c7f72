"""The directory and calls to owners, with a real etcd; the called method is a stand-in that says what a
node would."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import pytest
from google.rpc.status_pb2 import Status
from voice.error.v1.reason_pb2 import Reason
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState, SlotClaim
from voice.mesh.v1.node_service_pb2 import GetNodeRequest, GetNodeResponse

from mesh.discovery import NODE_HEADER, Directory, OwnerClient, OwnerUnknown, to_node
from mesh.errors import DomainError
from mesh.etcd import Etcd
from mesh.metadata import STATUS_KEY

Metadata = tuple[tuple[str, str], ...]


class Registry:
    """Writes records and claims as nodes do."""

    def __init__(self, etcd: Etcd, region: str) -> None:
        self.etcd = etcd
        self.prefix = f"/voicemesh/{region}/tenant/"

    async def node(self, incarnation: str, **fields: object) -> None:
        record = NodeRecord(
            node=incarnation.partition(".")[0],
            incarnation=incarnation,
            service="tenant",
            **{"capacity": 10, "state": NodeState.NODE_STATE_SERVING, **fields},  # type: ignore[arg-type]
        )
        await self.etcd.put(f"{self.prefix}nodes/{incarnation}", record.SerializeToString())

    async def gone(self, incarnation: str) -> None:
        await self.etcd.delete(f"{self.prefix}nodes/{incarnation}")

    async def claim(self, slot: int | str, incarnation: str) -> int:
        value = SlotClaim(node=incarnation).SerializeToString()
        return await self.etcd.put(f"{self.prefix}slots/{slot}", value)

    async def release(self, slot: int | str) -> None:
        await self.etcd.delete(f"{self.prefix}slots/{slot}")


@pytest.fixture
async def registry(etcd: Etcd, region: str) -> Registry:
    return Registry(etcd, region)


@pytest.fixture
async def directory(etcd: Etcd, region: str) -> AsyncIterator[Directory]:
    directory = Directory(etcd, region, "tenant")
    await directory.start()
    yield directory
    await directory.stop()


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_nodes_and_owners_are_known_from_the_watch(registry: Registry, directory: Directory) -> None:
    seen = 0

    def changed() -> None:
        nonlocal seen
        seen += 1

    unsubscribe = directory.on_change(changed)
    assert directory.nodes() == []
    await registry.node("b-0.00000002", address="127.0.0.2:1")
    await registry.node("a-0.00000001")
    epoch = await registry.claim("t1", "b-0.00000002")
    await registry.claim(17, "a-0.00000001")
    await _until(lambda: directory.owner(17) is not None)
    assert [record.incarnation for record in directory.nodes()] == ["a-0.00000001", "b-0.00000002"]
    owner = directory.owner("t1")
    assert owner is not None
    assert owner.address == "127.0.0.2:1"
    assert (directory.epoch("t1"), directory.epoch("t2")) == (epoch, 0)
    assert directory.slots_of("b-0.00000002") == ["t1"]
    assert directory.node("nobody") is None
    assert seen
    unsubscribe()
    unsubscribe()
    await registry.gone("b-0.00000002")
    await _until(lambda: len(directory.nodes()) == 1)
    assert directory.owner("t1") is None, "a claim of a node that is gone is nobody's"
    assert directory.epoch("t1") == 0


async def test_a_listener_that_fails_does_not_blind_the_others(
    registry: Registry, directory: Directory
) -> None:
    told = asyncio.Event()

    def fails() -> None:
        raise RuntimeError("a listener's defect")

    directory.on_change(fails)
    directory.on_change(told.set)
    await registry.node("a-0.00000001")
    await asyncio.wait_for(told.wait(), 5)


async def test_records_that_cannot_be_read_are_left_out(registry: Registry, directory: Directory) -> None:
    await registry.etcd.put(f"{registry.prefix}nodes/x.1", b"\xff\xff\xff")
    await registry.etcd.put(f"{registry.prefix}nodes/y.1", NodeRecord(incarnation="z.1").SerializeToString())
    await registry.etcd.put(f"{registry.prefix}slots/", b"")
    await registry.etcd.put(f"{registry.prefix}slots/3", b"\xff\xff\xff")
    await registry.etcd.put(f"{registry.prefix}else/3", b"")
    await registry.node("a-0.00000001")
    await _until(lambda: bool(directory.nodes()))
    assert [record.incarnation for record in directory.nodes()] == ["a-0.00000001"]
    assert directory.owner(3) is None


async def test_waiting_for_an_owner(registry: Registry, directory: Directory) -> None:
    waiting = asyncio.create_task(directory.wait_owner("t1", 5))
    await registry.node("a-0.00000001")
    await registry.claim("t1", "a-0.00000001")
    assert (await waiting).incarnation == "a-0.00000001"
    started = time.monotonic()
    with pytest.raises(OwnerUnknown, match="t2"):
        await directory.wait_owner("t2", 0.1)
    assert time.monotonic() - started < 1


async def test_new_work_goes_to_free_capacity(registry: Registry, directory: Directory) -> None:
    assert directory.choose(0.5) is None
    await registry.node("free.1", capacity=100, load=10)
    await registry.node("full.1", capacity=100, load=100)
    await registry.node("over.1", capacity=100, load=170)
    await registry.node("none.1", capacity=0)
    await registry.node("leaving.1", capacity=100, state=NodeState.NODE_STATE_DRAINING)
    await registry.node("starting.1", capacity=100, state=NodeState.NODE_STATE_NOT_READY)
    await registry.node("theirs.1", capacity=100, tenants=["t9"])
    await _until(lambda: len(directory.nodes()) == 7)
    chosen = Counter(node.incarnation for i in range(1000) if (node := directory.choose(i / 1000)))
    assert chosen == {"free.1": 900, "full.1": 50, "over.1": 50}
    theirs = {node.incarnation for i in range(100) if (node := directory.choose(i / 100, tenant="t9"))}
    assert theirs == {"free.1", "full.1", "over.1", "theirs.1"}


# -- calls -------------------------------------------------------------------------------------------


class Nodes:
    """The nodes behind a method: each answers, fails or stays silent, by incarnation."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, GetNodeRequest]] = []
        self.failures: dict[str, list[grpc.aio.AioRpcError]] = {}
        self.silent: set[str] = set()

    async def method(
        self,
        request: GetNodeRequest,
        /,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
    ) -> GetNodeResponse:
        assert timeout is not None
        [(header, incarnation)] = metadata or ()
        assert header == NODE_HEADER
        self.calls.append((incarnation, request))
        if incarnation in self.silent:
            await asyncio.sleep(timeout)
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED)
        if self.failures.get(incarnation):
            raise self.failures[incarnation].pop(0)
        return GetNodeResponse(node=NodeRecord(incarnation=incarnation))


def _error(
    code: grpc.StatusCode, reason: Reason.ValueType | None = None, **detail: str
) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if reason is not None:
        status: Status = DomainError(reason, "said so", **detail).to_status()
        trailing.add(STATUS_KEY, status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "told")


@pytest.fixture
async def owned(registry: Registry, directory: Directory) -> Directory:
    """Two nodes; a.1 owns t1."""
    await registry.node("a.1")
    await registry.node("b.1")
    await registry.claim("t1", "a.1")
    await _until(lambda: directory.owner("t1") is not None and len(directory.nodes()) == 2)
    return directory


async def test_a_call_goes_to_the_owner(owned: Directory) -> None:
    nodes, request = Nodes(), GetNodeRequest()
    answer = await OwnerClient(owned).call(nodes.method, request, "t1", 1)
    assert answer.node.incarnation == "a.1"
    assert nodes.calls == [("a.1", request)]
    assert not owned._waiting


async def test_a_dead_owners_request_reaches_the_heir(owned: Directory, registry: Registry) -> None:
    nodes, request = Nodes(), GetNodeRequest()
    nodes.failures["a.1"] = [_error(grpc.StatusCode.UNAVAILABLE)] * 1000
    calling = asyncio.create_task(OwnerClient(owned).call(nodes.method, request, "t1", 5))
    await _until(lambda: len(nodes.calls) >= 2)
    await registry.claim("t1", "b.1")
    assert (await calling).node.incarnation == "b.1"
    assert all(sent is request for _, sent in nodes.calls), "the same request object, so the same id"


async def test_a_silent_owner_is_left_when_the_slot_moves(owned: Directory, registry: Registry) -> None:
    nodes = Nodes()
    nodes.silent.add("a.1")
    started = time.monotonic()
    calling = asyncio.create_task(OwnerClient(owned).call(nodes.method, GetNodeRequest(), "t1", 10))
    await _until(lambda: bool(nodes.calls))
    await registry.claim("t1", "b.1")
    assert (await calling).node.incarnation == "b.1"
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        (Reason.REASON_NOT_OWNER, {"family": "tenant", "slot": "t1"}),
        (Reason.REASON_DRAINING, {}),
        (Reason.REASON_IN_PROGRESS, {}),
    ],
)
async def test_what_passes_is_asked_again(
    owned: Directory, reason: Reason.ValueType, detail: dict[str, str]
) -> None:
    nodes = Nodes()
    nodes.failures["a.1"] = [_error(grpc.StatusCode.UNAVAILABLE, reason, **detail)] * 3
    await OwnerClient(owned).call(nodes.method, GetNodeRequest(), "t1", 5)
    assert len(nodes.calls) == 4


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.REASON_OUT_OF_SERVICE),
        (grpc.StatusCode.NOT_FOUND, Reason.REASON_UNKNOWN_CALL),
        (grpc.StatusCode.INTERNAL, None),
        (grpc.StatusCode.INVALID_ARGUMENT, None),
    ],
)
async def test_an_answer_is_an_answer(
    owned: Directory, code: grpc.StatusCode, reason: Reason.ValueType | None
) -> None:
    nodes = Nodes()
    nodes.failures["a.1"] = [_error(code, reason)]
    with pytest.raises(grpc.aio.AioRpcError):
        await OwnerClient(owned).call(nodes.method, GetNodeRequest(), "t1", 5)
    assert len(nodes.calls) == 1


async def test_the_deadline_ends_it(owned: Directory) -> None:
    nodes = Nodes()
    nodes.failures["a.1"] = [_error(grpc.StatusCode.UNAVAILABLE)] * 1000
    started = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError, match="told"):
        await OwnerClient(owned).call(nodes.method, GetNodeRequest(), "t1", 0.5)
    assert 0.3 < time.monotonic() - started < 2
    assert len(nodes.calls) < 20, "not a busy loop"
    with pytest.raises(OwnerUnknown):
        await OwnerClient(owned).call(nodes.method, GetNodeRequest(), "t2", 0.1)
    assert not owned._waiting


def test_metadata_addresses_one_node() -> None:
    assert to_node("a.1") == to_node(NodeRecord(incarnation="a.1")) == (("x-voicemesh-node", "a.1"),)
