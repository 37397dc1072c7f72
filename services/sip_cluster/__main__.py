"""Starts the controller of a SIP pod: `python -m services.sip_cluster`."""

from __future__ import annotations

import sys

from services.sip_cluster.controller import main

if __name__ == "__main__":
    sys.exit(main())
