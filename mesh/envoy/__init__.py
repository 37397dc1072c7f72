"""Envoy's configuration, built as messages: sidecars, the edge, who may call what, and how calls are bounded."""
