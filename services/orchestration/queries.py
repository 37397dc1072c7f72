"""Questions that a document asks by a `_genesys` function and that the host answers at once."""

from __future__ import annotations

import datetime
import zoneinfo

from mesh.config_view import ConfigView
from services.orchestration.scxml import Json, Query


class Queries:
    """Answers from the configuration and the clock. What is not built answers with an error that says so."""

    def __init__(self, config: ConfigView) -> None:
        self._config = config

    def answer(self, tenant: str, query: Query) -> tuple[Json, str]:
        """The value, or an error text that the function throws."""
        arguments = [("" if value is None else str(value)) for value in query.arguments]
        arguments += [""] * (3 - len(arguments))
        match query.namespace, query.function:
            case "session", "getListItemValue" | "listLookupValue":
                return self._list_item(tenant, *arguments[:3])
            case "session", "timeInZone" | "dateInZone" | "dayInZone":
                return self._time(query.function, arguments[0])
            case "queue", "checkAgentState":
                login = self._config.login_of(tenant, arguments[0])
                return login is not None, ""
            case "agent", "isLoggedIn":
                return self._config.login_of(tenant, arguments[0]) is not None, ""
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

    def _time(self, function: str, zone: str) -> tuple[Json, str]:
        try:
            now = datetime.datetime.now(zoneinfo.ZoneInfo(zone or "UTC"))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            return None, f"no time zone is called {zone!r}"
        formats = {"timeInZone": "%H:%M", "dateInZone": "%m-%d", "dayInZone": "%w"}
        return now.strftime(formats[function]), ""
