"""Options of a device, by precedence. Pure.

Strongest first (domain facts §8, T-Server's order with the person between): annex of the agent's login code,
annex of the person, annex of the device, annex of the switch's T-Server application, annex of the tenant.
"""

from __future__ import annotations

from mesh.config_cache import ConfigView, Dn, Named, Options, Person, overlay
from mesh.config_objects import NO_OPTIONS

SECTION = "TServer"
"""Section of telephony options."""
NO_ANSWER_S = 30
"""Seconds a device rings when nobody says otherwise."""
MAX_NO_ANSWER_S = 600
TRUE = frozenset({"true", "yes", "on", "1"})


def effective(view: ConfigView, tenant: str, dn: Dn | None, person: Person | None, agent_id: str) -> Options:
    """The options in force on a device with this agent."""
    layers = [found.options if (found := view.tenant(tenant)) is not None else NO_OPTIONS]
    if dn is not None:
        switch = view.switch(tenant, dn.switch)
        application = view.by_dbid(tenant, "application", switch.tserver_dbid) if switch is not None else None
        layers.append(application.options if isinstance(application, Named) else NO_OPTIONS)
        layers.append(dn.options)
    if person is not None:
        layers.append(person.options)
    login = view.agent_login(tenant, agent_id) if agent_id else None
    if login is not None:
        layers.append(login.login_options)
    return overlay(*layers)


def telephony(options: Options, name: str, default: str = "") -> str:
    """An option of the telephony section."""
    return options.get(SECTION, {}).get(name, default)


def no_answer_timeout(options: Options) -> int:
    """Seconds the device may ring: 1 to 600. `no-answer-timeout` 0 switches the timeout off, that is 600; what
    is no number counts as not given."""
    text = telephony(options, "no-answer-timeout")
    if not text.isascii() or not text.isdigit():
        return NO_ANSWER_S
    return min(int(text), MAX_NO_ANSWER_S) or MAX_NO_ANSWER_S


def overflow(options: Options, configured: str) -> str:
    """Where the call goes instead: the first of `no-answer-overflow` ("none": nowhere), else the DN's own."""
    first = telephony(options, "no-answer-overflow").partition(",")[0].strip()
    if not first:
        return configured
    return "" if first == "none" else first


def do_not_disturb(options: Options) -> bool:
    """Whether `dnd` is configured on. What agents switch is Agent State's, which the router asks."""
    return telephony(options, "dnd").lower() in TRUE
