"""Benchmarks beside peers: `make bench`, one JSON object a line. What a file measures stands at its top."""
