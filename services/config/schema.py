"""What kinds of objects there are: their names, what makes one unique, what one refers to. Pure.

The contract's messages are the domain model here: Config adds nothing to them but rules, so there is no second
set of classes (decision 0040).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from voice.config.v1.object_pb2 import ConfigObject, DnType, ObjectType

Kind = str
"""Name of a kind: the oneof field of ConfigObject, "dn", "agent_login" …; part of every key."""
Key = tuple[str, ...]
"""Something that one object of a tenant has at most, or that others refer to: ("skill", "English")."""

IMPORT_ORDER: tuple[Kind, ...] = (
    "tenant",
    "host",
    "application",
    "script",
    "transaction",
    "dial_rule",
    "switch",
    "skill",
    "dn",
    "agent_login",
    "place",
    "person",
    "agent_group",
)
"""Kinds in an order in which what is referred to comes first."""

TYPE_OF: Mapping[Kind, ObjectType.ValueType] = {
    kind: ObjectType.Value(f"OBJECT_TYPE_{kind.upper()}") for kind in IMPORT_ORDER
}
KIND_OF: Mapping[int, Kind] = {number: kind for kind, number in TYPE_OF.items()}
ROUTE_POINTS = frozenset(
    {DnType.DN_TYPE_ROUTING_POINT, DnType.DN_TYPE_VIRTUAL_ROUTING_POINT, DnType.DN_TYPE_ROUTING_QUEUE}
)
"""Types of DN that have route point settings."""


@dataclass(frozen=True, slots=True)
class Unique:
    """A key that two objects may not both have."""

    field: str
    """Where it stands, below the object's kind: "number"."""
    key: Key


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that must lead somewhere."""

    field: str
    """Where it stands: "skills[2].skill"."""
    key: Key


def kind_of(message: ConfigObject) -> Kind:
    """The kind of an object; "" when none is set."""
    return message.WhichOneof("object") or ""


def natural_key(message: ConfigObject) -> Key:
    """The key under which an import finds the object again."""
    return next(uniques(message)).key


def uniques(message: ConfigObject) -> Iterator[Unique]:
    """Every key that is the object's alone; the natural key first."""
    kind = kind_of(message)
    match kind:
        case "tenant":
            yield Unique("tenant_id", (kind, ""))
        case "dn":
            dn = message.dn
            yield Unique("number", (kind, dn.switch, str(dn.type), dn.number))
        case "agent_login":
            yield Unique("code", (kind, message.agent_login.code))
        case "person":
            person = message.person
            yield Unique("user_name", (kind, person.user_name))
            yield Unique("employee_id", ("employee_id", person.employee_id))
            for at, code in enumerate(person.agent_logins):
                yield Unique(f"agent_logins[{at}]", ("login of a person", code))
        case "place":
            yield Unique("name", (kind, message.place.name))
            for at, number in enumerate(message.place.dns):
                yield Unique(f"dns[{at}]", ("DN of a place", number))
        case _:
            yield Unique("name", (kind, getattr(message, kind).name))


def provided(message: ConfigObject) -> Key | None:
    """What others refer to this object by."""
    match kind_of(message):
        case "dn":
            return ("dn", message.dn.number)
        case "agent_login":
            return ("agent_login", message.agent_login.code)
        case "person":
            return ("person", message.person.user_name)
        case "switch" | "skill" | "place" as kind:
            return (kind, getattr(message, kind).name)
        case _:
            return None


def references(message: ConfigObject) -> Iterator[Reference]:
    """What the object refers to."""
    match kind_of(message):
        case "dn":
            yield Reference("switch", ("switch", message.dn.switch))
            for at, number in enumerate(message.dn.route_point.default_dns):
                yield Reference(f"route_point.default_dns[{at}]", ("dn", number))
        case "agent_login":
            yield Reference("switch", ("switch", message.agent_login.switch))
        case "person":
            yield from _person_references(message)
        case "place":
            for at, number in enumerate(message.place.dns):
                yield Reference(f"dns[{at}]", ("dn", number))
        case "agent_group":
            for at, user_name in enumerate(message.agent_group.members):
                yield Reference(f"members[{at}]", ("person", user_name))


def _person_references(message: ConfigObject) -> Iterator[Reference]:
    person = message.person
    for at, code in enumerate(person.agent_logins):
        yield Reference(f"agent_logins[{at}]", ("agent_login", code))
    for at, level in enumerate(person.skills):
        yield Reference(f"skills[{at}].skill", ("skill", level.skill))
    if person.place:
        yield Reference("place", ("place", person.place))


IMMUTABLE: Mapping[Kind, tuple[str, ...]] = {
    "tenant": ("tenant_id",),
    "dn": ("number", "type", "switch"),
    "agent_login": ("code", "switch"),
}
"""Fields that an update leaves as they are."""

_NOUN: Mapping[str, str] = {"dn": "DN", "agent_login": "agent login"}


def describe(key: Key) -> str:
    """A key for an error text: 'DN "1001"'."""
    return f'{_NOUN.get(key[0], key[0])} "{key[-1]}"'


def label(message: ConfigObject) -> str:
    """An object for an error text: 'person "ada"'."""
    return describe(natural_key(message)) if kind_of(message) != "tenant" else "tenant"


def in_import_order(messages: list[ConfigObject]) -> list[int]:
    """Positions of the messages such that what is referred to comes first; DNs with default DNs after the
    others. DNs that name each other have no such order: their first write leads nowhere for a moment."""
    rank: Callable[[int], tuple[int, bool]] = lambda at: (  # noqa: E731
        IMPORT_ORDER.index(kind_of(messages[at])),
        bool(messages[at].dn.route_point.default_dns),
    )
    return sorted(range(len(messages)), key=rank)
