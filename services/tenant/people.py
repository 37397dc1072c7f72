"""The configuration as target resolution reads it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mesh.config_view import ConfigView

_NOBODY: Mapping[str, int] = MappingProxyType({})


class TenantPeople:
    """`targets.People` of one tenant over the configuration cache."""

    def __init__(self, view: ConfigView, tenant: str) -> None:
        self._view = view
        self._tenant = tenant

    def levels(self, agent_id: str) -> Mapping[str, int]:
        """Skill levels of the person behind a login code."""
        person = self._view.person_of_login(self._tenant, agent_id)
        return person.skills if person is not None else _NOBODY

    def logins_named(self, name: str) -> frozenset[str]:
        """Login codes meant by a login code, a user name or an employee id, in this order."""
        if self._view.agent_login(self._tenant, name) is not None:
            return frozenset({name})
        person = self._view.person(self._tenant, name) or self._view.person_of_employee(self._tenant, name)
        return frozenset(person.agent_logins) if person is not None else frozenset()

    def group(self, name: str) -> tuple[frozenset[str], str] | None:
        """Login codes of a group's members and its skill expression."""
        group = self._view.group(self._tenant, name)
        if group is None:
            return None
        persons = (self._view.person(self._tenant, user_name) for user_name in group.members)
        codes = frozenset(code for person in persons if person is not None for code in person.agent_logins)
        return codes, group.expression

    def place_dns(self, name: str) -> frozenset[str] | None:
        """DNs of a place."""
        place = self._view.place(self._tenant, name)
        return frozenset(place.dns) if place is not None else None
