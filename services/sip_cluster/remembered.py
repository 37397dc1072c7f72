"""Requests that are over, or cannot be found by ConnID, remembered so that a repetition is known again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from services.sip_cluster.calls import RequestRecord
from services.sip_cluster.entry import Entry

ENDED_KEPT = 4096
"""Calls whose requests' outcomes are remembered here after their end; Redis has those of older ones."""
MAKES_KEPT = 4096
"""MakeCall requests whose thread is remembered by their id."""
LEFT_KEPT = 4096
"""Dialogs remembered whose BYE a node took that died before it could answer."""


@dataclass(frozen=True)
class Ended:
    """What is remembered of a call that ended."""

    tenant: str
    requests: dict[str, RequestRecord]


class Remembered:
    """The newest of them; older ones give way."""

    def __init__(self) -> None:
        self._ended: OrderedDict[int, Ended] = OrderedDict()
        self._makes: OrderedDict[tuple[str, str], Entry] = OrderedDict()
        self._left: OrderedDict[str, None] = OrderedDict()

    def end(self, conn_id: int, call: Ended) -> None:
        """A call with requests has ended."""
        self._ended[conn_id] = call
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def ended(self, conn_id: int) -> Ended | None:
        """A call that ended here."""
        return self._ended.get(conn_id)

    def leave(self, tag: str) -> None:
        """The BYE of the dialog with this tag of ours was taken, and perhaps not answered."""
        self._left[tag] = None
        if len(self._left) > LEFT_KEPT:
            self._left.popitem(last=False)

    def has_left(self, tag: str) -> bool:
        """Whether a BYE in that dialog is a repeat, to be answered 200."""
        return tag in self._left

    def made(self, tenant: str, request: str, entry: Entry) -> None:
        """A MakeCall has begun a thread."""
        self._makes[tenant, request] = entry
        if len(self._makes) > MAKES_KEPT:
            self._makes.popitem(last=False)

    def make(self, tenant: str, request: str) -> Entry | None:
        """The thread of a MakeCall."""
        return self._makes.get((tenant, request))
