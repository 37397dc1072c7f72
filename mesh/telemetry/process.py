"""Telemetry of a process as its settings ask: logs, ladder, recorded spans."""

from __future__ import annotations

from collections.abc import Callable

from mesh.settings import MeshSettings
from mesh.telemetry import logs, steps, tracing


def begin(settings: MeshSettings) -> Callable[[], None]:
    """Configures this process; returns what to call at its end. OSError when the trace file cannot be
    opened."""
    logs.configure(service=settings.service, node=settings.node, level=settings.log_level)
    steps.configure(enabled=settings.ladder, node=settings.node)
    return _record(settings) if settings.trace_file else lambda: None


def _record(settings: MeshSettings) -> Callable[[], None]:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    from mesh.telemetry.recording import Recorder

    file = open(settings.trace_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by `end`
    exporter = ConsoleSpanExporter(out=file, formatter=lambda span: str(span.to_json(indent=None)) + "\n")
    recorder = Recorder(exporter, service=settings.service, node=settings.node)
    tracing.record_with(recorder)

    def end() -> None:
        tracing.record_with(None)
        recorder.close()
        file.close()

    return end
