"""The gRPC server of a node: one Unix socket, the pipeline in front, health and reflection beside the
contracts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from mesh.channels import SERVER_OPTIONS
from mesh.pipeline import Pipeline

MAX_CONCURRENT_RPCS = 8192
"""Calls served at once, streams included; one more gets RESOURCE_EXHAUSTED."""

AddServicer = Callable[[Any], None]


class NodeServer:
    """Serves contracts on a Unix socket."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[pipeline], options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS
        )
        self._names: list[str] = []

    @property
    def contracts(self) -> Sequence[str]:
        """Full names of the services served."""
        return tuple(self._names)

    def add(self, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """Serves a contract: add(add_XServicer_to_server, servicer)."""
        add_to_server(servicer, _NamingServer(self._server, self._names))

    async def start(self, socket: str) -> None:
        """Listens. All contracts are NOT_SERVING until `set_serving(True)`. OSError when the path cannot be
        used."""
        self.add(health_pb2_grpc.add_HealthServicer_to_server, self._health)
        await self.set_serving(False)
        reflection.enable_server_reflection([*self._names, reflection.SERVICE_NAME], self._server)
        self._server.add_insecure_port(f"unix:{_free_path(socket)}")
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """Says so for every contract and for "", the server as a whole."""
        state = health_pb2.HealthCheckResponse.ServingStatus
        for name in ("", *self._names):
            await self._health.set(name, state.SERVING if serving else state.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Ends open streams with REASON_DRAINING, gives other calls `grace` seconds, closes the socket."""
        self._pipeline.end_streams()
        await self._server.stop(grace)


def _free_path(socket: str) -> Path:
    """The absolute path, its folder made, a socket that an earlier process left behind removed."""
    path = Path(socket).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot listen on {path}: the folder is not writable")
    path.unlink(missing_ok=True)
    return path


class _NamingServer:
    """Stands in for the server while a contract is added, to learn the contract's name."""

    def __init__(self, server: grpc.aio.Server, names: list[str]) -> None:
        self._server = server
        self._names = names

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._names.extend(handler.service_name() for handler in handlers)
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, handlers)
