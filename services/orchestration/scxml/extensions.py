"""The extensions of applications, by namespace: action elements, their attributes, and functions.

Everything the compiler knows about an extension is in MODULES; an element that is not here is a compile
error. Attribute kinds:

* `value`     a value expression, evaluated when the action runs
* `location`  names a place in the data model that is assigned (`requestid` gets the generated id)
* `word`      one of the listed words as it stands, anything else is a value expression

Functions of `_genesys.<root>` are of three kinds: `query` stops the step until the host has answered,
`action` becomes an Action effect of that name, `state` is answered from what the session already knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NAMESPACE = "www.genesyslab.com/modules/"


@dataclass(frozen=True, slots=True)
class Attr:
    kind: str = "value"
    required: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Child:
    """A parameter element of an action, with the parameter elements that it may hold."""

    attributes: dict[str, Attr]
    children: dict[str, Child] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionRule:
    attributes: dict[str, Attr]
    children: dict[str, Child] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    kind: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Module:
    root: str
    """Property of `_genesys` that holds the functions."""
    actions: dict[str, ActionRule]
    functions: dict[str, Function] = field(default_factory=dict)
    events: tuple[str, ...] = ()


VALUE = Attr()
NEEDED = Attr(required=True)
LOCATION = Attr("location")


def _action(
    required: str = "", optional: str = "", children: dict[str, Child] | None = None, **more: Attr
) -> ActionRule:
    attributes = {name: NEEDED for name in required.split()} | {name: VALUE for name in optional.split()}
    return ActionRule(attributes | {"requestid": LOCATION, "hints": VALUE} | more, children or {})


def _query(*arguments: str) -> Function:
    return Function("query", arguments)


def _does(*arguments: str) -> Function:
    return Function("action", arguments)


TARGET_TYPES = [
    "agent",
    "agentgroup",
    "campaigngroup",
    "dn",
    "label",
    "place",
    "placegroup",
    "queue",
    "routepoint",
    "skill",
]
_TARGET_TYPE = Attr("word", words=tuple(TARGET_TYPES))
_STATISTIC_ORDER = Attr("word", words=("max", "min", "any", "percentage"))

TARGETS = {
    "targets": Child(
        {"type": _TARGET_TYPE, "statserver": VALUE, "clear": VALUE, "timeout": VALUE},
        {
            "target": Child(
                {
                    "name": VALUE,
                    "type": _TARGET_TYPE,
                    "statserver": VALUE,
                    "weight": VALUE,
                    "threshold": VALUE,
                    "skillexpr": VALUE,
                    "location": VALUE,
                }
            ),
            "targetid": Child({"expr": NEEDED}),
        },
    )
}
PROMPTS = {
    "prompts": Child(
        {}, {"prompt": Child({"type": VALUE, "interruptible": VALUE, "value": VALUE, "id": VALUE})}
    ),
    "prompt": Child({"type": VALUE, "interruptible": VALUE, "value": VALUE, "id": VALUE}),
}

_COLLECT = "maxdigits termdigits abortdigits resetdigits backspacedigits startdelay digitdelay totaltimeout cleardtmf"

MODULES: dict[str, Module] = {
    "queue": Module(
        root="queue",
        actions={
            "submit": _action(
                optional="queue priority timeout interactionid route targets skillexpr clearonexit"
                " orderstat statwindow treatment requeue userdata",
                ordertype=_STATISTIC_ORDER,
                children=TARGETS,
            ),
            "update": _action(
                "requestid", "priority timeout targets skillexpr", children=TARGETS, requestid=NEEDED
            ),
            "cancel": _action(optional="interactionid requestid", requestid=VALUE),
            "query": _action(optional="interactionid queue target submitid"),
        },
        functions={
            "checkAgentState": _query("agent", "state"),
            "targetState": _query("target", "type"),
            "rvqdata": _query("queue", "item"),
            "sData": _query("object", "statistic"),
            "excludeAgents": _does("agents"),
            "priorityTuning": _does("usage", "timeInterval", "increment", "priority"),
        },
        events=(
            "queue.submit.requestid",
            "queue.submit.done",
            "error.queue.submit",
            "queue.submit.treatment",
            "queue.update.done",
            "error.queue.update",
            "queue.cancel.done",
            "error.queue.cancel",
            "queue.query.done",
            "error.queue.query",
        ),
    ),
    "interaction": Module(
        root="ixn",
        actions={
            "accept": _action(optional="interactionid resource"),
            "redirect": _action(
                optional="interactionid to from detach type location token reservation routetype timeout extensions"
            ),
            "terminate": _action(optional="interactionid"),
            "createcall": _action("to", "from type udata timeout callprogress associate extensions"),
            "associate": _action("interactionid", "target deactivate"),
            "deliver": _action(optional="interactionid to"),
            "detach": _action(optional="interactionid to"),
            "attach": _action("interactionid"),
            "setudata": _action("udata", "interactionid"),
            "deleteudata": _action(optional="interactionid keys"),
            "singlesteptransfer": _action("to", "interactionid from location"),
            "consult": _action("to", "interactionid from udata"),
            "merge": _action("interactionid with"),
            "respond": _action(optional="interactionid data"),
        },
        functions={
            "setuData": _does("udata", "interactionid"),
            "deleteuData": _does("keys", "interactionid"),
            "getuData": Function("state", ("key", "interactionid")),
        },
        events=(
            "interaction.added",
            "interaction.deleted",
            "interaction.udata.changed",
            "interaction.redirect.done",
            "interaction.accept.done",
            "interaction.terminate.done",
            "interaction.createcall.done",
            "interaction.respond.done",
            "interaction.partystatechanged",
            "interaction.partyadded",
            "interaction.partydeleted",
            "error.interaction.redirect",
            "error.interaction.terminate",
            "error.interaction.createcall",
            "error.interaction.respond",
            "voice.*",
            "msgbased.*",
            "chat.*",
        ),
    ),
    "dialog": Module(
        root="dialog",
        actions={
            "play": _action(
                optional="interactionid language resource bargein repeat duration", children=PROMPTS
            ),
            "playandcollect": _action(
                optional=f"interactionid language resource bargein repeat duration {_COLLECT}",
                children=PROMPTS,
            ),
            "playandverify": _action(
                optional=f"interactionid language resource verifydata attempts {_COLLECT}", children=PROMPTS
            ),
            "playsound": _action(
                optional="interactionid resource duration",
                type=Attr("word", words=("music", "ringback", "silence", "busy", "fastbusy", "ran")),
            ),
            "collect": _action(optional=f"interactionid {_COLLECT}"),
            "createann": _action(optional="interactionid userid maxrecordtime", children=PROMPTS),
            "deleteann": _action("userid annid", "interactionid"),
            "start": _action(
                optional="interactionid src namelist",
                children={"param": Child({"name": Attr("text", True), "expr": NEEDED})},
            ),
            "stop": _action(optional="interactionid"),
        },
        events=tuple(
            f"{prefix}dialog.{name}{suffix}"
            for name in (
                "play",
                "playandcollect",
                "playandverify",
                "playsound",
                "collect",
                "createann",
                "deleteann",
                "start",
                "stop",
            )
            for prefix, suffix in (("", ".done"), ("error.", ""))
        ),
    ),
    "session": Module(
        root="session",
        actions={
            "start": _action("src", "idealtime sessionid namelist data"),
            "terminate": _action(optional="sessionid"),
            "fetch": _action(
                optional="src method type encoding timeout data username password headers retries maxage",
                srcexpr=VALUE,
            ),
            "response": _action("requestid", "type data resultcode content headers", requestid=NEEDED),
        },
        functions={
            "getListItemValue": _query("list", "item", "key"),
            "listLookupValue": _query("list", "item", "key"),
            "getConfigOption": _query("object", "section", "option"),
            "timeInZone": _query("zone"),
            "dateInZone": _query("zone"),
            "dayInZone": _query("zone"),
            "isSpecialDay": _query("table", "zone"),
        },
        events=(
            "session.fetch.done",
            "error.session.fetch",
            "session.start.done",
            "error.session.start",
            "session.request",
            "session.terminate.done",
            "error.session.terminate",
            "error.session.response",
        ),
    ),
    "ws": Module(
        root="ws",
        actions={
            "request": _action("url", "method headers data type timeout username password retries"),
            "send": _action("url", "method headers data type timeout"),
        },
        events=("ws.request.done", "error.ws.request", "error.ws.send"),
    ),
    "statistic": Module(
        root="statistic",
        actions={
            "subscribe": _action("statistic", "object objecttype statserver interval"),
            "unsubscribe": _action("requestid", requestid=NEEDED),
            "get": _action("statistic", "object objecttype statserver"),
        },
        functions={
            "sData": _query("object", "statistic"),
            "getStat": _query("object", "statistic"),
            "getSkillInEx": _query("expression"),
        },
        events=(
            "statistic.changed",
            "statistic.subscribe.done",
            "error.statistic.subscribe",
            "statistic.get.done",
            "error.statistic.get",
        ),
    ),
    "resource": Module(
        root="resource",
        actions={
            "query": _action(optional="name type interactionid"),
            "reserve": _action("name", "type timeout priority"),
            "release": _action("reservation", ""),
        },
        functions={"getState": _query("name", "type"), "getSkills": _query("name")},
        events=(
            "resource.query.done",
            "error.resource.query",
            "resource.reserve.done",
            "error.resource.reserve",
            "error.resource.release",
        ),
    ),
    "classification": Module(
        root="classification",
        actions={
            "classify": _action(optional="interactionid text categories language"),
            "screen": _action(optional="interactionid text rules language"),
        },
        functions={"getCategory": _query("name")},
        events=(
            "classification.classify.done",
            "error.classification.classify",
            "classification.screen.done",
            "error.classification.screen",
        ),
    ),
    "agent": Module(
        root="agent",
        actions={
            "setstate": _action("agent state", "reason workmode"),
            "query": _action("agent"),
        },
        functions={"getState": _query("agent"), "isLoggedIn": _query("agent")},
        events=(
            "agent.statechanged",
            "agent.setstate.done",
            "error.agent.setstate",
            "agent.query.done",
            "error.agent.query",
        ),
    ),
}

ALIASES = {"ixn": "interaction", "classify": "classification", "stat": "statistic"}
"""Other names a module's namespace goes by in existing applications."""


def module_of(namespace: str) -> str | None:
    """The module's short name for a namespace with or without http://; None when it is no extension."""
    bare = namespace.removeprefix("http://").removeprefix("https://").rstrip("/")
    if not bare.startswith(NAMESPACE):
        return None
    name = bare.removeprefix(NAMESPACE).lower()
    return ALIASES.get(name, name)


def function_table() -> dict[str, dict[str, list[object]]]:
    """What the runtime needs to build `_genesys`: root -> function -> [kind, module, arguments]."""
    return {
        module.root: {
            name: [function.kind, short, list(function.arguments)]
            for name, function in module.functions.items()
        }
        for short, module in MODULES.items()
    }
