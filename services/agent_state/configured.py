"""What the configuration says about DNs and agents, from the local cache."""

from __future__ import annotations

from typing import Final

from mesh.config_cache import overlay
from mesh.config_view import ConfigView

SECTION: Final = "TServer"
LOGOUT_ON_UNREG: Final = "agent-logout-on-unreg"


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
        login, device = self._view.agent_login(tenant, agent_id), self._view.dn(tenant, dn)
        options = overlay(
            device.options if device is not None else {},
            login.login_options if login is not None else {},
        )
        return options.get(SECTION, {}).get(LOGOUT_ON_UNREG, "false") == "true"

    def knows(self, tenant: str, agent_id: str) -> bool:
        """Whether there is an agent login of this code; True while the configuration is not there."""
        return self._view.tenant(tenant) is None or self._view.agent_login(tenant, agent_id) is not None
