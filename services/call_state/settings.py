"""Settings of Call State, from VOICEMESH_CALL_STATE_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CallStateSettings:
    """How long what is over is kept."""

    ended_s: int = 60
    """Seconds a thread is kept after its last call ended, 0 … 86,400; then its event stream is closed too."""
    orphan_s: int = 86_400
    """Seconds without an event after which a thread that has not ended is given up, 60 … 2,592,000."""
    orphan_grace_s: float = 10.0
    """Seconds from a change of a SIP slot's owner until it is asked for the calls of its predecessor, and until it is asked
    again before they are given up, 0.1 … 3600."""
    index_s: int = 604_800
    """Seconds for which a ConnID or CallUUID leads to its thread, 60 … 31,536,000."""
    sweep_s: float = 1.0
    """Seconds between removals, 0.05 … 3600."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        bounds: dict[str, tuple[float, float]] = {
            "ended_s": (0, 86_400),
            "orphan_s": (60, 2_592_000),
            "orphan_grace_s": (0.1, 3600),
            "index_s": (60, 31_536_000),
            "sweep_s": (0.05, 3600),
        }
        return [
            f"VOICEMESH_CALL_STATE_{name.upper()}: must be {low} to {high}"
            for name, (low, high) in bounds.items()
            if not low <= getattr(self, name) <= high
        ]
