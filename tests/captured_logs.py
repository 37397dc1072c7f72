"""What the mesh logs, as a test sees it; afterwards logging is as it was."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import structlog

from mesh.telemetry import logs


class CapturedLogs:
    """Lines written so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All of it."""
        return self._stream.getvalue()

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """Every line, or those of one event."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if not event or line["event"] == event]


@contextlib.contextmanager
def captured_logs(
    service: str = "probe", node: str = "probe-0", level: str = "info"
) -> Iterator[CapturedLogs]:
    """Configures logging as a process does, into memory."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    stream = io.StringIO()
    # basicConfig closes the handlers it replaces; pytest's are to be put back as they were.
    root.handlers[:] = []
    logs.configure(service=service, node=node, level=level, stream=stream)
    try:
        yield CapturedLogs(stream)
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        structlog.configure(**before)
