"""Who goes first when the machine has too little for all: what calls wait for. In Kubernetes requests and limits say it
(docs/decisions/0103)."""

from __future__ import annotations

from typing import Final

STORES: Final = -10
"""Niceness of etcd and Redis: what they answer late costs leases, and protection, of calls."""
_PACKETS: Final = -5
_ON_THE_PATH: Final = frozenset({"sip_cluster", "sip_proxy"})


def niceness(service: str) -> int:
    """Of a service and its sidecar: less for what carries packets of calls."""
    return _PACKETS if service in _ON_THE_PATH else 0
