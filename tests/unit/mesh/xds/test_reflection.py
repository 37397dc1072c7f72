"""Reflection of every contract from the descriptor set."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ExtensionRequest, ServerReflectionRequest

from mesh.envoy.contracts import DESCRIPTOR_SET, load
from mesh.xds.reflection import NAMES, Descriptors, answer


@pytest.fixture(scope="module")
def descriptors() -> Descriptors:
    return Descriptors.load(DESCRIPTOR_SET)


def test_every_contract_is_listed(descriptors: Descriptors) -> None:
    listed = answer(ServerReflectionRequest(list_services="*"), descriptors).list_services_response.service
    assert {service.name for service in listed} == {contract.name for contract in load()} | set(NAMES)


def test_a_symbol_comes_with_all_files_it_needs(descriptors: Descriptors) -> None:
    for symbol in (
        "voice.tlib.v1.CallControlService",
        "voice.tlib.v1.CallControlService.MakeCall",
        "voice.mesh.v1.NodeRecord",
    ):
        found = answer(ServerReflectionRequest(file_containing_symbol=symbol), descriptors)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(raw)
            for raw in found.file_descriptor_response.file_descriptor_proto
        ]
        have = {file.name for file in files}
        assert {needed for file in files for needed in file.dependency} <= have, symbol
        assert not any(file.HasField("source_code_info") for file in files)


def test_a_file_is_found_by_name(descriptors: Descriptors) -> None:
    found = answer(ServerReflectionRequest(file_by_filename="voice/mesh/v1/node.proto"), descriptors)
    first = descriptor_pb2.FileDescriptorProto.FromString(
        found.file_descriptor_response.file_descriptor_proto[0]
    )
    assert first.name == "voice/mesh/v1/node.proto"


def test_an_extension_is_found_by_number(descriptors: Descriptors) -> None:
    of = "google.protobuf.FieldOptions"
    numbers = answer(ServerReflectionRequest(all_extension_numbers_of_type=of), descriptors)
    assert 50001 in numbers.all_extension_numbers_response.extension_number
    wanted = ExtensionRequest(containing_type=of, extension_number=50001)
    found = answer(ServerReflectionRequest(file_containing_extension=wanted), descriptors)
    first = descriptor_pb2.FileDescriptorProto.FromString(
        found.file_descriptor_response.file_descriptor_proto[0]
    )
    assert first.name == "voice/type/v1/options.proto"


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_containing_symbol="voice.nothing.v1.Nobody"),
        ServerReflectionRequest(file_by_filename="nothing.proto"),
        ServerReflectionRequest(
            file_containing_extension=ExtensionRequest(containing_type="x", extension_number=1)
        ),
    ],
)
def test_what_is_not_known_is_said_so(request_: ServerReflectionRequest, descriptors: Descriptors) -> None:
    found = answer(request_, descriptors)
    assert found.error_response.error_code == 5
    assert "in none of the contracts" in found.error_response.error_message


def test_a_request_without_a_question_is_refused(descriptors: Descriptors) -> None:
    assert answer(ServerReflectionRequest(), descriptors).error_response.error_code == 12
