"""gRPC reflection of every contract from the descriptor set, served beside the edge: `grpcurl <edge> list`
shows the whole mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Both published names of the same protocol; the messages are equal on the wire."""
HEALTH = "grpc.health.v1.Health"
_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]
_Request = reflection_pb2.ServerReflectionRequest
_Response = reflection_pb2.ServerReflectionResponse


class Descriptors:
    """Files by name and by the symbols they define. Comments are left out: answers stay small."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[tuple[str, int], str] = {}
        self.services: list[str] = []
        for file in files:
            kept = descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString())
            kept.ClearField("source_code_info")
            self._files[file.name] = kept
            self._index(kept)
        self.services.sort()

    @classmethod
    def load(cls, file: Path) -> Descriptors:
        """The files of a descriptor set."""
        return cls(descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes()).file)

    def file(self, name: str) -> descriptor_pb2.FileDescriptorProto | None:
        """The file of that name."""
        return self._files.get(name)

    def containing(self, symbol: str) -> descriptor_pb2.FileDescriptorProto | None:
        """The file that defines a message, enum, service, method or extension."""
        name = self._symbols.get(symbol) or self._symbols.get(symbol.rpartition(".")[0], "")
        return self._files.get(name)

    def extending(self, message: str, number: int) -> descriptor_pb2.FileDescriptorProto | None:
        """The file that defines an extension of a message."""
        return self._files.get(self._extensions.get((message, number), ""))

    def extension_numbers(self, message: str) -> list[int]:
        """Numbers of all extensions of a message."""
        return sorted(number for of, number in self._extensions if of == message)

    def with_imports(self, file: descriptor_pb2.FileDescriptorProto) -> list[bytes]:
        """The file and all it needs, itself first."""
        order = {file.name: file}
        waiting = list(file.dependency)
        while waiting:
            name = waiting.pop()
            if name not in order and name in self._files:
                order[name] = self._files[name]
                waiting += order[name].dependency
        return [found.SerializeToString() for found in order.values()]

    def _index(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        for service in file.service:
            self._symbols[f"{file.package}.{service.name}"] = file.name
            if file.package.startswith("voice."):
                self.services.append(f"{file.package}.{service.name}")
        for enum in file.enum_type:
            self._symbols[f"{file.package}.{enum.name}"] = file.name
        self._index_extensions(file.extension, file)
        self._index_messages(file.message_type, file.package, file)

    def _index_messages(
        self,
        messages: Iterable[descriptor_pb2.DescriptorProto],
        scope: str,
        file: descriptor_pb2.FileDescriptorProto,
    ) -> None:
        for message in messages:
            name = f"{scope}.{message.name}"
            self._symbols[name] = file.name
            for enum in message.enum_type:
                self._symbols[f"{name}.{enum.name}"] = file.name
            self._index_extensions(message.extension, file)
            self._index_messages(message.nested_type, name, file)

    def _index_extensions(
        self,
        extensions: Iterable[descriptor_pb2.FieldDescriptorProto],
        file: descriptor_pb2.FileDescriptorProto,
    ) -> None:
        for extension in extensions:
            self._symbols[f"{file.package}.{extension.name}"] = file.name
            self._extensions[extension.extendee.lstrip("."), extension.number] = file.name


def answer(
    request: reflection_pb2.ServerReflectionRequest, descriptors: Descriptors
) -> reflection_pb2.ServerReflectionResponse:
    """The answer to one question; what is not known is said so."""
    response = _Response(valid_host=request.host, original_request=request)
    match request.WhichOneof("message_request"):
        case "list_services":
            names = [*descriptors.services, *NAMES]
            response.list_services_response.service.extend(
                reflection_pb2.ServiceResponse(name=n) for n in names
            )
        case "file_by_filename":
            _fill(response, descriptors, descriptors.file(request.file_by_filename), request.file_by_filename)
        case "file_containing_symbol":
            symbol = request.file_containing_symbol
            _fill(response, descriptors, descriptors.containing(symbol), symbol)
        case "file_containing_extension":
            wanted = request.file_containing_extension
            found = descriptors.extending(wanted.containing_type, wanted.extension_number)
            _fill(
                response, descriptors, found, f"{wanted.containing_type} extension {wanted.extension_number}"
            )
        case "all_extension_numbers_of_type":
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            numbers = descriptors.extension_numbers(request.all_extension_numbers_of_type)
            response.all_extension_numbers_response.extension_number.extend(numbers)
        case _:
            response.error_response.error_code = _UNIMPLEMENTED
            response.error_response.error_message = "no question"
    return response


def _fill(
    response: reflection_pb2.ServerReflectionResponse,
    descriptors: Descriptors,
    file: descriptor_pb2.FileDescriptorProto | None,
    what: str,
) -> None:
    if file is None:
        response.error_response.error_code = _NOT_FOUND
        response.error_response.error_message = f"{what} is in none of the contracts"
    else:
        response.file_descriptor_response.file_descriptor_proto.extend(descriptors.with_imports(file))


def add_to(server: grpc.aio.Server, descriptors: Descriptors) -> None:
    """Serves both names of the protocol."""

    async def info(
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: object
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for request in requests:
            yield answer(request, descriptors)

    method = grpc.stream_stream_rpc_method_handler(info, _Request.FromString, _Response.SerializeToString)
    handlers = {"ServerReflectionInfo": method}
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, handlers) for name in NAMES)
    )
