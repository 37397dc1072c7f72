"""Tests of the SCXML compiler and runtime; no processes, no network."""
