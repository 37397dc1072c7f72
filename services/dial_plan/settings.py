"""Settings of Dial Plan: VOICEMESH_DIAL_PLAN_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DialPlanSettings:
    """What an installation may choose."""

    journal: bool = True
    """Keep the last configuration on disk (in the run directory), so that a node that starts while Config is
    away serves it."""
