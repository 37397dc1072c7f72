"""The document as the recommendation sees it: frozen values, each with its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from services.orchestration.scxml.problems import Position


@dataclass(frozen=True, slots=True)
class Code:
    """ECMAScript text as the author wrote it and where it begins."""

    text: str
    at: Position


@dataclass(frozen=True, slots=True)
class Inline:
    """Literal content of `<data>`, `<assign>`, `<content>`: the element when there is one, else the text."""

    text: str
    tree: tuple[object, ...] | None
    """The element as `xmltext.to_tree` gives it; None for text."""


@dataclass(frozen=True, slots=True)
class Param:
    at: Position
    name: str
    expr: Code | None
    location: Code | None


@dataclass(frozen=True, slots=True)
class Content:
    at: Position
    expr: Code | None
    inline: Inline | None


@dataclass(frozen=True, slots=True)
class Raise:
    at: Position
    event: str


@dataclass(frozen=True, slots=True)
class Log:
    at: Position
    label: str
    expr: Code | None


@dataclass(frozen=True, slots=True)
class Assign:
    at: Position
    location: Code
    expr: Code | None
    inline: Inline | None


@dataclass(frozen=True, slots=True)
class Script:
    at: Position
    code: Code


@dataclass(frozen=True, slots=True)
class Branch:
    cond: Code | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    at: Position
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Foreach:
    at: Position
    array: Code
    item: Code
    index: Code | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Send:
    at: Position
    values: dict[str, str]
    """Literal attributes: event, target, type, id, delay."""
    exprs: dict[str, Code]
    """The same names as expressions, and `hints` of the extensions."""
    idlocation: Code | None
    namelist: tuple[Code, ...]
    params: tuple[Param, ...]
    content: Content | None


@dataclass(frozen=True, slots=True)
class Cancel:
    at: Position
    sendid: str | None
    sendidexpr: Code | None


@dataclass(frozen=True, slots=True)
class ExtensionChild:
    name: str
    exprs: dict[str, Code]
    words: dict[str, str]
    children: tuple[ExtensionChild, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ExtensionAction:
    at: Position
    module: str
    name: str
    exprs: dict[str, Code]
    words: dict[str, str]
    requestid: Code | None
    children: tuple[ExtensionChild, ...]
    params: tuple[Param, ...]
    content: Content | None


Statement: TypeAlias = Raise | Log | Assign | Script | If | Foreach | Send | Cancel | ExtensionAction


@dataclass(frozen=True, slots=True)
class Data:
    at: Position
    id: str
    expr: Code | None
    inline: Inline | None
    failed_source: str = ""
    """Why `src` could not be had; error.execution when the data is bound (5.3.1)."""


@dataclass(frozen=True, slots=True)
class DoneData:
    at: Position
    params: tuple[Param, ...]
    content: Content | None


@dataclass(frozen=True, slots=True)
class Invoke:
    at: Position
    values: dict[str, str]
    """Literal attributes: type, src, id."""
    exprs: dict[str, Code]
    idlocation: Code | None
    namelist: tuple[Code, ...]
    params: tuple[Param, ...]
    content: Content | None
    autoforward: bool
    finalize: tuple[Statement, ...] | None
    """None without `<finalize>`; empty when it has no content (6.5.2)."""


@dataclass(frozen=True, slots=True)
class Transition:
    at: Position
    events: tuple[str, ...]
    cond: Code | None
    targets: tuple[str, ...]
    internal: bool
    body: tuple[Statement, ...]


Kind = Literal["scxml", "state", "parallel", "final", "history"]


@dataclass(frozen=True, slots=True)
class State:
    """`<scxml>`, `<state>`, `<parallel>`, `<final>` or `<history>`; what a kind cannot have is empty."""

    at: Position
    kind: Kind
    id: str
    named: bool
    """False when the compiler made the id up."""
    children: tuple[State, ...]
    initial: Transition | None
    transitions: tuple[Transition, ...]
    onentry: tuple[tuple[Statement, ...], ...]
    onexit: tuple[tuple[Statement, ...], ...]
    invokes: tuple[Invoke, ...]
    data: tuple[Data, ...]
    donedata: DoneData | None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    datamodel: Literal["ecmascript", "null"]
    late: bool
    root: State
    scripts: tuple[Script, ...]
