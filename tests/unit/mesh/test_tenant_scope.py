"""Where a request names tenants."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from voice.type.v1 import options_pb2

from mesh.metadata import EDGE_SERVICE
from mesh.tenancy import Caller, Scope, scoped_paths

Field = descriptor_pb2.FieldDescriptorProto


def contract() -> dict[str, type[Message]]:
    """Messages with marked fields in every position."""
    file = descriptor_pb2.FileDescriptorProto(
        name="probe/scope.proto", package="probe.scope", syntax="proto3"
    )
    file.dependency.append("voice/type/v1/options.proto")

    def message(name: str, *fields: tuple[str, int, str, bool, bool]) -> None:
        made = file.message_type.add(name=name)
        for number, (field, kind, type_name, repeated, marked) in enumerate(fields, 1):
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            added = made.field.add(
                name=field, number=number, type=kind, label=label, type_name=type_name or None
            )
            if marked:
                added.options.Extensions[options_pb2.tenant_scope] = True

    text, inner = Field.TYPE_STRING, Field.TYPE_MESSAGE
    message("Leaf", ("tenant", text, "", False, True), ("note", text, "", False, False))
    message("Loop", ("tenant", text, "", False, True), ("next", inner, ".probe.scope.Loop", False, False))
    message("None", ("note", text, "", False, False))
    message(
        "Request",
        ("tenant", text, "", False, True),
        ("tenants", text, "", True, True),
        ("one", inner, ".probe.scope.Leaf", False, False),
        ("many", inner, ".probe.scope.Leaf", True, False),
        ("loop", inner, ".probe.scope.Loop", False, False),
        ("none", inner, ".probe.scope.None", False, False),
    )
    message("Wrong", ("tenant", Field.TYPE_INT64, "", False, True))
    pool = descriptor_pool.Default()
    pool.Add(file)
    names = [m.name for m in file.message_type]
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"probe.scope.{n}")) for n in names}


MESSAGES = contract()


def paths_of(kind: type[Message]) -> tuple[tuple[str, ...], ...]:
    descriptor: Any = kind.DESCRIPTOR
    return scoped_paths(descriptor)


def test_every_marked_field_is_found() -> None:
    assert paths_of(MESSAGES["Request"]) == (
        ("tenant",),
        ("tenants",),
        ("one", "tenant"),
        ("many", "tenant"),
        ("loop", "tenant"),
    )
    assert paths_of(MESSAGES["None"]) == ()


def test_a_marked_field_that_is_no_text_is_a_mistake_in_the_contract() -> None:
    with pytest.raises(TypeError, match=r"probe.scope.Wrong.tenant"):
        paths_of(MESSAGES["Wrong"])


def test_tenants_are_read_from_wherever_they_are() -> None:
    scope = Scope(paths_of(MESSAGES["Request"]))
    leaf = MESSAGES["Leaf"]
    request = MESSAGES["Request"](
        tenant="a", tenants=["b", "c"], one=leaf(tenant="d"), many=[leaf(tenant="e"), leaf(note="x")]
    )
    assert list(scope.tenants(request)) == [
        ("tenant", "a"),
        ("tenants", "b"),
        ("tenants", "c"),
        ("one.tenant", "d"),
        ("many.tenant", "e"),
        ("many.tenant", ""),
    ]


def test_an_empty_field_of_the_request_names_nobody_but_counts() -> None:
    scope = Scope(paths_of(MESSAGES["Request"]))
    assert list(scope.tenants(MESSAGES["Request"]())) == [("tenant", "")]


@pytest.mark.parametrize(
    ("peer", "service"),
    [
        ("spiffe://voicemesh.local/ns/voice/sa/sip_cluster", "sip_cluster"),
        ("spiffe://voicemesh.local/ns/voice/sa/edge", EDGE_SERVICE),
        ("", ""),
        ("spiffe://voicemesh.local/edge", ""),
    ],
)
def test_the_service_is_read_from_the_spiffe_id(peer: str, service: str) -> None:
    assert Caller(peer=peer).service == service
