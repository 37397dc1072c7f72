"""What waits for a slot, and what a turn of the slot has decided so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.rq import SlotEvents
from services.orchestration.effects import Effect
from services.orchestration.inputs import Input
from services.orchestration.session import Session
from services.orchestration.store import Change


@dataclass(frozen=True, slots=True)
class ForSession:
    """An input for one session."""

    session_id: str
    item: Input
    stored: Callable[[], None] | None = None
    """Called when what the input changed is stored."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A session begins that no event asked for."""

    session: Session
    stored: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Rest:
    """Sessions that have rested since this time (UTC microseconds) go to sleep."""

    since_us: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another Redis primary answers, which may lack the last writes: all that is awake is written again."""


@dataclass(frozen=True, slots=True)
class Flush:
    """What is not stored has waited long enough."""


@dataclass
class Turn:
    """What one turn has decided so far, with what turns before it have not stored."""

    change: Change
    effects: list[tuple[Session, Effect]] = field(default_factory=list)
    stored: list[Callable[[], None]] = field(default_factory=list)
    due: bool = False
    """It is stored whatever it is."""


Item = SlotEvents | ForSession | Adopt | Rest | Rewrite | Flush
