"""Logs: one JSON object a line, with node, service, trace id and what is bound; secrets never get in."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from structlog.typing import FilteringBoundLogger, Processor
from voice.type.v1 import options_pb2

from mesh.telemetry.tracing import trace_id

REDACTED = "[redacted]"
WARNINGS_IN_A_ROW = 10
"""Warnings of one kind (event and part) written within `WARNINGS_PERIOD_S`; further ones are counted only."""
WARNINGS_PERIOD_S = 10.0
"""Seconds after which a kind of warning is written again, with the number left out as `left_out`."""
MAX_KINDS = 1000
"""Kinds of warnings remembered."""


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
    limit = WarningLimit()
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, limit, *stamp, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=render, foreign_pre_chain=stamp))
    handler.addFilter(limit)
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)


def _identity(service: str, node: str) -> Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"], event["node"] = service, node
        trace = trace_id()
        if trace:
            event["trace_id"] = trace
        return event

    return add


class WarningLimit(logging.Filter):
    """Keeps a dependency that is away from filling the disk: a warning repeated ten times a second by every
    process says no more than once. Errors and audit lines are always written. A processor of structlog's
    chain, and a filter of the standard library's handlers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, str], tuple[float, int, int]] = OrderedDict()

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Passes an event on or drops it."""
        if event.get("level") != "warning" or event.get("audit"):
            return event
        left_out = self._left_out(str(event.get("event")), str(event.get("part", "")))
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            event["left_out"] = left_out
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record of the standard library is written."""
        return record.levelno != logging.WARNING or self._left_out(str(record.msg), record.name) is not None

    def _left_out(self, event: str, part: str) -> int | None:
        """None when the warning is left out, else how many of its kind were before it."""
        now = self._clock()
        since, written, left_out = self._kinds.pop((event, part), (now, 0, 0))
        before = 0
        if now - since >= WARNINGS_PERIOD_S:
            since, written, left_out, before = now, 0, 0, left_out
        write = written < WARNINGS_IN_A_ROW
        self._kinds[event, part] = (since, written + write, left_out + (not write))
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        return before if write else None


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
