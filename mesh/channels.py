"""Channels: how a process calls others. One egress channel to the own sidecar, connected on first use."""

from __future__ import annotations

import grpc

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message sent or taken, bytes."""


def egress(target: str) -> grpc.aio.Channel:
    """The channel to the own sidecar's egress listener ("unix:/path" or "host:port").

    Connects on first use; calls wait for it within their deadline. Unary calls get the default timeout of
    mesh.deadline, the present traceparent, metrics and ladder records.
    """
    raise NotImplementedError


def direct(target: str) -> grpc.aio.Channel:
    """A plain channel with the same limits, for tests and tools that talk to a service without a sidecar."""
    raise NotImplementedError
