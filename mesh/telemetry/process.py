"""Telemetry of a process as its settings ask: logs, ladder, recorded spans."""

from __future__ import annotations

from typing import TextIO

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from mesh.settings import MeshSettings
from mesh.telemetry import logs, steps, tracing


class ProcessTelemetry:
    """What has to be closed at the end."""

    def __init__(self, recorder: tracing.Recorder | None, file: TextIO | None) -> None:
        self._recorder = recorder
        self._file = file

    def close(self) -> None:
        """Writes the spans that are left."""
        tracing.record_with(None)
        if self._recorder is not None:
            self._recorder.close()
        if self._file is not None:
            self._file.close()


def begin(settings: MeshSettings) -> ProcessTelemetry:
    """Configures this process. OSError when the trace file cannot be opened."""
    logs.configure(service=settings.service, node=settings.node, level=settings.log_level)
    steps.configure(enabled=settings.ladder, node=settings.node)
    if not settings.trace_file:
        return ProcessTelemetry(None, None)
    file = open(settings.trace_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by `close`
    exporter = ConsoleSpanExporter(out=file, formatter=_one_line)
    recorder = tracing.Recorder(exporter, service=settings.service, node=settings.node)
    tracing.record_with(recorder)
    return ProcessTelemetry(recorder, file)


def _one_line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"
