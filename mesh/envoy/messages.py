"""Small pieces of Envoy's configuration that every part needs: addresses, durations, typed extensions."""

from __future__ import annotations

from envoy.config.core.v3 import address_pb2, config_source_pb2, extension_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from mesh.envoy.node import split_address

__all__ = ["any_of", "duration", "extension", "flag", "number", "over_ads", "pipe", "socket"]


def any_of(message: Message) -> Any:
    """The message in an Any. Map fields are in order, so that equal messages have equal bytes."""
    packed = Any()
    packed.Pack(message, deterministic=True)
    return packed


def duration(seconds: float) -> Duration:
    """A span of time."""
    value = Duration()
    value.FromNanoseconds(round(seconds * 1_000_000_000))
    return value


def number(value: int) -> UInt32Value:
    """An optional number that is set."""
    return UInt32Value(value=value)


def flag(value: bool) -> BoolValue:
    """An optional flag that is set."""
    return BoolValue(value=value)


def extension(name: str, message: Message) -> extension_pb2.TypedExtensionConfig:
    """A typed extension."""
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=any_of(message))


def socket(address: str) -> address_pb2.Address:
    """A TCP address from "host:port"."""
    host, port = split_address(address)
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host, port_value=port))


def pipe(path: str) -> address_pb2.Address:
    """A Unix socket, reachable by its owner only."""
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path, mode=0o600))


def over_ads() -> config_source_pb2.ConfigSource:
    """Configuration that comes over the aggregated stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
    )
