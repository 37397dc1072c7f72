"""Metrics, logs, traces and the ladder of a call.

log = telemetry.logger("policy")            # structlog; JSON lines with trace id, node, tenant
with telemetry.bound(call_thread_id=..., tenant=...):    # fields of every line and ladder record inside
with telemetry.continued(envelope.traceparent):          # calls made inside belong to that trace
telemetry.ladder("event", text="EventRinging", to="call_state")
calls = service.metrics.counter("calls_created_total", "Calls created", ["tenant"])
"""

from mesh.telemetry.logs import bound, logger, redacted
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.steps import ladder
from mesh.telemetry.tracing import continued, current_traceparent, new_traceparent, trace_id

__all__ = [
    "Metrics",
    "bound",
    "continued",
    "current_traceparent",
    "ladder",
    "logger",
    "new_traceparent",
    "redacted",
    "trace_id",
]
