"""Questions that a document asks by a `_genesys` function and that the host answers while the step waits."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable

from mesh.config_view import ConfigView
from mesh.errors import DomainError
from services.orchestration.agent_states import Agents
from services.orchestration.scxml import Json, Query

_AGENTS = frozenset({"", "agent", "a"})
"""Types of a resource that mean an agent."""


class Queries:
    """Answers from the configuration, the clock and Agent State. What is not built answers with an error that says so."""

    def __init__(self, config: ConfigView, agents: Agents) -> None:
        self._config, self._agents = config, agents

    async def answer(self, tenant: str, query: Query) -> tuple[Json, str]:
        """The value, or an error text that the function throws."""
        arguments = [("" if value is None else str(value)) for value in query.arguments]
        arguments += [""] * (3 - len(arguments))
        match query.namespace, query.function:
            case "session", "getListItemValue" | "listLookupValue":
                return self._list_item(tenant, *arguments[:3])
            case "session", "timeInZone" | "dateInZone" | "dayInZone":
                return self._time(query.function, arguments[0])
            case "session", "isSpecialDay":
                return self._special_day(tenant, arguments[0], arguments[1])
            case "session", "getConfigOption":
                return self._option(tenant, *arguments[:3])
            case "resource", "getSkills":
                return self._skills(tenant, arguments[0])
            case "queue", "checkAgentState":
                return await self._agent(tenant, arguments[0], lambda told: _is(told, arguments[1]))
            case "agent", "isLoggedIn":
                return await self._agent(tenant, arguments[0], lambda told: _is(told, ""))
            case "agent", "getState":
                return await self._agent(tenant, arguments[0], lambda told: told)
            case ("resource", "getState") | ("queue", "targetState") if arguments[1].lower() in _AGENTS:
                return await self._agent(tenant, arguments[0], lambda told: told)
        return None, f"_genesys.{query.namespace}.{query.function} is not available on this platform yet"

    def _list_item(self, tenant: str, name: str, item: str, key: str) -> tuple[Json, str]:
        """A list object is a transaction; items are its option sections."""
        found = self._config.named(tenant, "transaction", name)
        if found is None:
            return None, f"no list object is called {name!r}"
        section = found.options.get(item)
        if section is None:
            return None, f"list object {name!r} has no item {item!r}"
        if not key:
            return dict(section), ""
        return (
            (section[key], "") if key in section else (None, f"item {item!r} of {name!r} has no key {key!r}")
        )

    def _special_day(self, tenant: str, name: str, zone: str) -> tuple[Json, str]:
        """A table is a list object whose items are days, MM-DD for every year or YYYY-MM-DD for one."""
        table = self._config.named(tenant, "transaction", name)
        if table is None:
            return None, f"no list object is called {name!r}"
        now, problem = _now(zone)
        if now is None:
            return None, problem
        return now.strftime("%m-%d") in table.options or now.strftime("%Y-%m-%d") in table.options, ""

    def _option(self, tenant: str, name: str, section: str, option: str) -> tuple[Json, str]:
        """An option of a DN, else of a list object; null when the object does not have it."""
        found = self._config.dn(tenant, name) or self._config.named(tenant, "transaction", name)
        if found is None:
            return None, f"no DN and no list object is called {name!r}"
        return found.options.get(section, {}).get(option), ""

    def _skills(self, tenant: str, name: str) -> tuple[Json, str]:
        """Skills of an agent by user name, login code or employee id."""
        config = self._config
        person = (
            config.person(tenant, name)
            or config.person_of_login(tenant, name)
            or config.person_of_employee(tenant, name)
        )
        return (dict(person.skills), "") if person is not None else (None, f"nobody is called {name!r}")

    async def _agent(
        self, tenant: str, agent: str, value: Callable[[dict[str, Json]], Json]
    ) -> tuple[Json, str]:
        try:
            return value(await self._agents.state(tenant, agent)), ""
        except DomainError as error:
            return None, f"the state of agent {agent!r} is not known: {error.message}"

    def _time(self, function: str, zone: str) -> tuple[Json, str]:
        now, problem = _now(zone)
        if now is None:
            return None, problem
        formats = {"timeInZone": "%H:%M", "dateInZone": "%m-%d", "dayInZone": "%w"}
        return now.strftime(formats[function]), ""


def _now(zone: str) -> tuple[datetime.datetime | None, str]:
    try:
        return datetime.datetime.now(zoneinfo.ZoneInfo(zone or "UTC")), ""
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None, f"no time zone is called {zone!r}"


def _is(told: dict[str, Json], wanted: str) -> bool:
    """Whether an agent is in a state; logged in, when none is named."""
    state = told["state"]
    logged_in = state not in ("loggedout", "unknown")
    return logged_in if wanted.lower() in ("", "loggedin") else bool(state == wanted.lower())
