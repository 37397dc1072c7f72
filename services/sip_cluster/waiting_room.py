"""Messages that came before the slot they name is ours: they wait for it instead of being refused.

A proxy sees a claim as soon as its new owner does, and sends at once what has no answer yet. The core has taken such a
request, and absorbs its repeats; so it is kept as long as its transaction lives. Nothing is answered for a slot that is
another's: the proxy sends the request there, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from voicecore.sip import AckReceived, CancelReceived, RequestReceived

Message: TypeAlias = RequestReceived | AckReceived | CancelReceived

LIMIT = 10_000
"""Messages kept; further ones are dropped and counted. A request that is dropped is not answered."""
PATIENCE_S = 32.0
"""How long a message waits, seconds: 64*T1, after which its sender has given up (RFC 3261 §17.1.2.2)."""


class WaitingRoom:
    """Keeps messages by slot, in the order they came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._messages: dict[int, list[tuple[float, Message]]] = {}
        self._slots: dict[int, int] = {}
        self.depth = 0
        """Messages waiting."""
        self.dropped = 0
        """Messages that found the room full, or whose slot never came."""

    def keep(self, slot: int, message: Message) -> None:
        """Lets a message wait for a slot."""
        if self.depth >= LIMIT:
            self.dropped += 1
            return
        self.depth += 1
        self._messages.setdefault(slot, []).append((self._clock(), message))
        if isinstance(message, RequestReceived):
            self._slots[message.txn] = slot

    def slot_of(self, txn: int) -> int | None:
        """The slot that the request of a transaction waits for: its CANCEL waits behind it."""
        return self._slots.get(txn)

    def leave(self, slot: int) -> list[Message]:
        """What has waited for a slot; it waits no longer."""
        messages = self._messages.pop(slot, [])
        self.depth -= len(messages)
        return [message for _, message in self._gone(messages)]

    def expire(self) -> list[RequestReceived]:
        """Drops what has waited too long; the requests among it."""
        limit = self._clock() - PATIENCE_S
        late: list[Message] = []
        for slot, messages in list(self._messages.items()):
            old = [entry for entry in messages if entry[0] < limit]
            if old:
                left = messages[len(old) :]
                late += [message for _, message in self._gone(old)]
                self.depth -= len(old)
                if left:
                    self._messages[slot] = left
                else:
                    del self._messages[slot]
        self.dropped += len(late)
        return [message for message in late if isinstance(message, RequestReceived)]

    def _gone(self, messages: Iterable[tuple[float, Message]]) -> Iterable[tuple[float, Message]]:
        for entry in messages:
            if isinstance(entry[1], RequestReceived):
                self._slots.pop(entry[1].txn, None)
            yield entry
