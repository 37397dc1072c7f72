"""`python -m tests.conformance`: the suites written by others, as tables."""

from __future__ import annotations

import sys

from tests.conformance.scxml.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
