"""Who goes first when the machine has too little for all: what everybody waits for (docs/decisions/0103)."""

from __future__ import annotations

from typing import Final

STORES: Final = -10
"""Niceness of etcd and Redis: what they answer late costs leases, and protection, of calls."""
