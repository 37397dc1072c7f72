"""Which threads may be orphans: their SIP slot has another owner than the one that told their last event. Pure.

The owner is asked; one that knows the call is not asked again, one that has no such call is asked once more after the
grace time, since it may have been reading what its predecessor had stored. Nothing is decided while a slot has no owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.call_state.machine import Thread

TIMES: Final = 2
"""How often, one after the other, an owner must say that it has no such call."""
NEVER: Final = 1 << 62


@dataclass(slots=True)
class _Suspicion:
    epoch: int
    ask_us: int
    unknown: int = 0


class Suspicions:
    """Of the threads of this node. Times are UTC microseconds."""

    def __init__(self, grace_us: int) -> None:
        """`grace_us`: from a change of owner to the first question, and between questions."""
        self._grace_us = grace_us
        self._of: dict[str, _Suspicion] = {}

    def __len__(self) -> int:
        return len(self._of)

    def ask(self, thread: Thread, epoch: int, now_us: int) -> bool:
        """Whether the owner of the thread's SIP slot is to be asked now. `epoch`: of that slot, 0 without an owner."""
        if thread.ended_us or thread.epoch >= epoch:
            self._of.pop(thread.call_thread_id, None)
            return False
        known = self._of.get(thread.call_thread_id)
        if known is None or known.epoch != epoch:
            self._of[thread.call_thread_id] = _Suspicion(epoch, now_us + self._grace_us)
            return False
        return now_us >= known.ask_us

    def answered(self, thread: Thread, epoch: int, known: bool | None, now_us: int) -> bool:
        """The owner's answer, None when there was none; whether the thread is an orphan."""
        found = self._of.get(thread.call_thread_id)
        if found is None or found.epoch != epoch:
            return False  # another owner, or news of the thread, meanwhile
        found.ask_us = NEVER if known else now_us + self._grace_us
        found.unknown = found.unknown + 1 if known is False else 0
        return found.unknown >= TIMES

    def keep(self, threads: set[str]) -> None:
        """Forgets all threads but these."""
        for gone in self._of.keys() - threads:
            del self._of[gone]
