"""What the configuration says about DNs and agents, from the local cache."""

from __future__ import annotations

from enum import Enum
from typing import Final

from mesh.config_cache import Options, overlay
from mesh.config_objects import NO_OPTIONS, Named
from mesh.config_view import ConfigView

SECTION: Final = "TServer"
LOGOUT_ON_UNREG: Final = "agent-logout-on-unreg"
NO_ANSWER_ACTION: Final = "no-answer-action"


class NoAnswer(Enum):
    """What becomes of an agent who did not answer a call (option no-answer-action)."""

    NONE = "none"
    NOT_READY = "notready"
    LOGOUT = "logout"


class FromConfig:
    """Answers of the cache; it never leaves the process."""

    def __init__(self, view: ConfigView) -> None:
        self._view = view

    def registered(self, tenant: str, dn: str, now_us: int) -> bool:
        """Whether a device is registered for the DN; True when nothing was ever registered for it."""
        found = self._view.registrations(tenant, dn)
        return found is None or bool(found.live(now_us))

    def logout_on_unregister(self, tenant: str, agent_id: str, dn: str) -> bool:
        """Option agent-logout-on-unreg; that of the agent login goes before that of the DN (domain facts §8)."""
        return self._option(tenant, agent_id, dn, LOGOUT_ON_UNREG) == "true"

    def no_answer_action(self, tenant: str, agent_id: str, dn: str) -> NoAnswer:
        """Option no-answer-action; a value that is none of the three counts as none."""
        text = self._option(tenant, agent_id, dn, NO_ANSWER_ACTION)
        return NoAnswer(text) if text in {action.value for action in NoAnswer} else NoAnswer.NONE

    def knows(self, tenant: str, agent_id: str) -> bool:
        """Whether there is an agent login of this code; True while the configuration is not there."""
        return self._view.tenant(tenant) is None or self._view.agent_login(tenant, agent_id) is not None

    def _option(self, tenant: str, agent_id: str, dn: str, name: str) -> str:
        """An option in force on a DN with this agent: strongest first the agent login's, the person's, the DN's, that of the
        switch's T-Server application, the tenant's (domain facts §8). Empty when nobody gives it."""
        view = self._view
        device, login = view.dn(tenant, dn), view.agent_login(tenant, agent_id)
        switch = view.switch(tenant, device.switch) if device is not None else None
        application = view.by_dbid(tenant, "application", switch.tserver_dbid) if switch is not None else None
        person, whole = view.person_of_login(tenant, agent_id), view.tenant(tenant)
        layers: list[Options] = [
            whole.options if whole is not None else NO_OPTIONS,
            application.options if isinstance(application, Named) else NO_OPTIONS,
            device.options if device is not None else NO_OPTIONS,
            person.options if person is not None else NO_OPTIONS,
            login.login_options if login is not None else NO_OPTIONS,
        ]
        return overlay(*layers).get(SECTION, {}).get(name, "")
