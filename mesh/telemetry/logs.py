"""Logs: one JSON object a line, with node, service, trace id and what is bound; secrets never get in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from structlog.typing import FilteringBoundLogger, Processor
from voice.type.v1 import options_pb2

from mesh.telemetry.tracing import trace_id

REDACTED = "[redacted]"


def logger(name: str = "") -> FilteringBoundLogger:
    """A logger; `name` says which part speaks. Event names are lower-case words: log.info("lease lost",
    slot=17)."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=name) if name else structlog.get_logger())


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Adds fields (call_thread_id, tenant, …) to every line and ladder record written inside."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def bound_fields() -> Mapping[str, Any]:
    """What is bound now."""
    return structlog.contextvars.get_contextvars()


def configure(*, service: str, node: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Sets the process's logging, the standard library's included. `stream`: standard error by default."""
    out = stream or sys.stderr
    threshold = getattr(logging, level.upper())
    stamp: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _identity(service, node),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _redact,
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*stamp, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=render, foreign_pre_chain=stamp))
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)


def _identity(service: str, node: str) -> Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"], event["node"] = service, node
        trace = trace_id()
        if trace:
            event["trace_id"] = trace
        return event

    return add


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, Message):
            event[key] = redacted(value)
        elif isinstance(value, list | tuple):
            event[key] = [redacted(item) if isinstance(item, Message) else item for item in value]
    return event


def redacted(message: Message) -> dict[str, Any]:
    """The message as plain data for a log line, fields marked (voice.type.v1.sensitive) replaced."""
    return {field.name: _redacted_value(field, value) for field, value in message.ListFields()}


def _redacted_value(field: FieldDescriptor, value: Any) -> Any:
    if field.GetOptions().Extensions[options_pb2.sensitive]:
        return REDACTED
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return list(value) if field.is_repeated else value
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _redacted_value(inner, value[key]) for key in value}
    return [redacted(item) for item in value] if field.is_repeated else redacted(value)
