"""W3C SCXML 1.0 implementation report tests."""
