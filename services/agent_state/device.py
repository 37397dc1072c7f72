"""A DN as Agent State sees it: in service or not, do-not-disturb, and who works on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.agent_state.effects import Answer, Asked, Effect, EventKind, Publish, TellAgent, Value

ALREADY: str = "REASON_ALREADY_IN_STATE"


@dataclass(slots=True)
class Device:
    """One DN. Times are UTC microseconds."""

    tenant: str
    dn: str
    in_service: bool = True
    dnd: bool = False
    agent_id: str = ""
    last_seq: int = 0
    notified_us: int = 0
    """Time of the last notification taken: an older one that comes late says nothing."""

    def notified(self, in_service: bool, cause: str, time_us: int) -> list[Effect]:
        """Registrar tells that a device came or went."""
        if time_us < self.notified_us:
            return []
        self.notified_us = time_us
        if in_service == self.in_service:
            return []
        self.in_service = in_service
        kind = EventKind.DN_BACK_IN_SERVICE if in_service else EventKind.DN_OUT_OF_SERVICE
        return [self._publish(kind, f"registrar:{cause}", None), *self._tell()]

    def set_dnd(self, asked: Asked, on: bool) -> list[Effect]:
        """SetDNDOn, SetDNDOff."""
        if on == self.dnd:
            return [Answer(asked, ALREADY, f"DND of {self.dn} is {'on' if on else 'off'} already")]
        self.dnd = on
        cause = "request:SetDNDOn" if on else "request:SetDNDOff"
        told = self._publish(EventKind.DND_ON if on else EventKind.DND_OFF, cause, asked)
        return [told, *self._tell(), Answer(asked, event=told)]

    def occupied(self, agent_id: str, present: bool) -> list[Effect]:
        """An agent has logged in here, and is told how the DN stands; or has left."""
        if present:
            self.agent_id = agent_id
            return self._tell()
        if self.agent_id == agent_id:  # not when the next one is here already
            self.agent_id = ""
        return []

    def _tell(self) -> list[Effect]:
        return [TellAgent(self.agent_id, self.in_service, self.dnd)] if self.agent_id else []

    def _publish(self, kind: EventKind, cause: str, asked: Asked | None) -> Publish:
        self.last_seq += 1
        attributes: dict[str, Value] = {"this_dn": self.dn}
        if self.agent_id:
            attributes["agent_id"] = self.agent_id
        return Publish(self.last_seq, kind, attributes, cause, asked)
