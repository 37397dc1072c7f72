"""What may stand beside what in a tenant: unique keys, references both ways, immutable fields, revisions. Pure.

`TenantModel` is a tenant's objects at one revision with the indexes that deciding needs. `plan` takes what is to
be written and gives either every problem or what to put and delete. A plan is true for the model's revision
only, so it is committed under a guard on the tenant's counter key (store.py): nothing can have changed between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import DomainError, Reason
from services.config.schema import (
    IMMUTABLE,
    Key,
    Kind,
    Unique,
    describe,
    kind_of,
    label,
    natural_key,
    provided,
    references,
    uniques,
)

Id = tuple[Kind, int]
"""An object: kind and DBID."""
MAX_PROBLEMS = 50
STEP = 250
"""Writes looked at in one step of `planning`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is kept."""

    message: ConfigObject
    """Without DBID and revision; passwords as stored."""
    revision: int
    request_id: str = ""


class TenantModel:
    """Objects of a tenant and who has and who refers to which key."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[int, Stored]] = {}
        self._owner: dict[Key, Id] = {}
        self._providers: dict[Key, set[Id]] = {}
        self._referrers: dict[Key, set[Id]] = {}
        self._requests: dict[str, Id] = {}

    def get(self, kind: Kind, dbid: int) -> Stored | None:
        """An object by DBID."""
        return self.objects.get(kind, {}).get(dbid)

    def owner(self, key: Key) -> Id | None:
        """The object that has a unique key."""
        return self._owner.get(key)

    def created_by(self, request_id: str) -> Id | None:
        """The object that a request with this id created."""
        return self._requests.get(request_id)

    def providers(self, key: Key) -> set[Id]:
        """Objects others refer to by this key: one, or several DNs of one number."""
        return self._providers.get(key, set())

    def referrers(self, key: Key) -> set[Id]:
        """Objects that refer to this key."""
        return self._referrers.get(key, set())

    @property
    def size(self) -> int:
        """Number of objects."""
        return sum(map(len, self.objects.values()))

    def put(self, kind: Kind, dbid: int, stored: Stored) -> None:
        """The object is now this."""
        self.remove(kind, dbid)
        self.objects.setdefault(kind, {})[dbid] = stored
        me = (kind, dbid)
        for unique in uniques(stored.message):
            self._owner[unique.key] = me
        key = provided(stored.message)
        if key is not None:
            self._providers.setdefault(key, set()).add(me)
        for reference in references(stored.message):
            self._referrers.setdefault(reference.key, set()).add(me)
        if stored.request_id:
            self._requests[stored.request_id] = me

    def remove(self, kind: Kind, dbid: int) -> Stored | None:
        """The object is gone; gives what it was."""
        stored = self.objects.get(kind, {}).pop(dbid, None)
        if stored is None:
            return None
        me = (kind, dbid)
        for unique in uniques(stored.message):
            if self._owner.get(unique.key) == me:
                del self._owner[unique.key]
        key = provided(stored.message)
        if key is not None:
            _discard(self._providers, key, me)
        for reference in references(stored.message):
            _discard(self._referrers, reference.key, me)
        if self._requests.get(stored.request_id) == me:
            del self._requests[stored.request_id]
        return stored


def _discard(index: dict[Key, set[Id]], key: Key, member: Id) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]


@dataclass(frozen=True, slots=True)
class Write:
    """An object to be written or deleted."""

    at: str
    """What the request calls it: "object", "objects[17]"."""
    message: ConfigObject | None
    """The object, passwords already as stored; None deletes."""
    id: Id | None = None
    """The object it replaces or deletes; None creates."""
    request_id: str = ""


@dataclass(slots=True)
class Plan:
    """What to write: (kind, DBID) -> object, None deletes."""

    puts: dict[Id, Stored] = field(default_factory=dict)
    deletes: dict[Id, Stored] = field(default_factory=dict)
    next_dbid: int = 1
    created: int = 0
    updated: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a write cannot be."""

    reason: Reason.ValueType
    field: str
    rule: str


def plan(model: TenantModel, writes: Sequence[Write], next_dbid: int) -> Plan:
    """Checks all writes together; references among them may be in any order. Raises DomainError: for one write
    with the reason of its first problem, for several REASON_INVALID_ATTRIBUTE; each problem is named by field."""
    steps = planning(model, writes, next_dbid)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Plan = end.value
            return result


def planning(model: TenantModel, writes: Sequence[Write], next_dbid: int) -> Generator[None, None, Plan]:
    """`plan` in steps of some milliseconds, so that a large import does not hold up the loop. The model may
    change between them: then the plan is of no revision and its guard refuses it."""
    problems = list[Problem]()
    for item in _problems(model, writes):
        if item is None:
            yield
        elif len(problems) < MAX_PROBLEMS:
            problems.append(item)
    if problems:
        raise _failure(problems, several=len(writes) > 1)
    result = Plan(next_dbid=next_dbid)
    for at, write in enumerate(writes):
        _decide(model, write, result)
        if at % STEP == STEP - 1:
            yield
    return result


def _decide(model: TenantModel, write: Write, result: Plan) -> None:
    message, known = write.message, model.get(*write.id) if write.id else None
    if message is None:
        if write.id is not None and known is not None:
            result.deletes[write.id] = known
    elif write.id is None:
        result.puts[kind_of(message), result.next_dbid] = Stored(message, 0, write.request_id)
        result.next_dbid += 1
        result.created += 1
    elif known is not None and known.message == message:
        result.unchanged += 1
    else:
        result.puts[write.id] = Stored(message, 0, known.request_id if known else "")
        result.updated += 1


def _failure(problems: Sequence[Problem], *, several: bool) -> DomainError:
    reason = Reason.REASON_INVALID_ATTRIBUTE if several else problems[0].reason
    error = DomainError(reason, "; ".join(f"{p.field}: {p.rule}" for p in problems))
    error.violations = tuple((p.field, p.rule) for p in problems)
    return error


Found = Iterator[Problem | None]
"""Problems, and None where a step ends."""


def _in_steps(writes: Iterable[Write], look: Callable[[Write], Iterator[Problem]]) -> Found:
    for at, write in enumerate(writes):
        yield from look(write)
        if at % STEP == STEP - 1:
            yield None


def _problems(model: TenantModel, writes: Sequence[Write]) -> Found:
    touched = {write.id: write for write in writes if write.id is not None}
    change = _provision(model, writes)
    yield None
    yield from _in_steps(writes, lambda write: _immutable_problems(model, write))
    taken: dict[Key, str] = {}
    yield from _in_steps(writes, lambda write: _unique_problems(model, write, touched, taken))
    yield from _in_steps(writes, lambda write: _reference_problems(model, write, change))
    yield from _dangling_problems(model, writes, touched, change)


def _immutable_problems(model: TenantModel, write: Write) -> Iterator[Problem]:
    stored = model.get(*write.id) if write.id else None
    if stored is None or write.message is None:
        return
    kind = kind_of(write.message)
    old, new = getattr(stored.message, kind), getattr(write.message, kind)
    for name in IMMUTABLE.get(kind, ()):
        if getattr(old, name) != getattr(new, name):
            yield Problem(Reason.REASON_INVALID_ATTRIBUTE, f"{write.at}.{kind}.{name}", "is immutable")


def _unique_problems(
    model: TenantModel, write: Write, touched: Mapping[Id, Write], taken: dict[Key, str]
) -> Iterator[Problem]:
    if write.message is None:
        return
    kind = kind_of(write.message)
    for unique in uniques(write.message):
        where = f"{write.at}.{kind}.{unique.field}"
        if unique.key in taken:
            yield Problem(
                _reason(kind, unique), where, f"{describe(unique.key)} is also at {taken[unique.key]}"
            )
        taken.setdefault(unique.key, where)
        owner = model.owner(unique.key)
        if owner is None or owner == write.id or _releases(touched.get(owner), unique.key):
            continue
        yield Problem(
            _reason(kind, unique), where, f"{describe(unique.key)} is taken by {_label(model, owner)}"
        )


def _releases(write: Write | None, key: Key) -> bool:
    """Whether a write gives up a key that its object has."""
    if write is None:
        return False
    return write.message is None or all(unique.key != key for unique in uniques(write.message))


def _reason(kind: Kind, unique: Unique) -> Reason.ValueType:
    # An object that is there already, or one that claims what another has.
    natural = unique.key[0] == kind
    return Reason.REASON_ALREADY_EXISTS if natural else Reason.REASON_INVALID_ATTRIBUTE


def _provision(model: TenantModel, writes: Iterable[Write]) -> Counter[Key]:
    """By how many providers each key has more, or fewer, after the writes."""
    change: Counter[Key] = Counter()
    for write in writes:
        stored = model.get(*write.id) if write.id else None
        old = provided(stored.message) if stored is not None else None
        new = provided(write.message) if write.message is not None else None
        if old is not None:
            change[old] -= 1
        if new is not None:
            change[new] += 1
    return change


def _reference_problems(model: TenantModel, write: Write, change: Counter[Key]) -> Iterator[Problem]:
    if write.message is None:
        return
    for reference in references(write.message):
        if len(model.providers(reference.key)) + change[reference.key] <= 0:
            where = f"{write.at}.{kind_of(write.message)}.{reference.field}"
            yield Problem(Reason.REASON_UNKNOWN_OBJECT, where, f"there is no {describe(reference.key)}")


def _dangling_problems(
    model: TenantModel, writes: Sequence[Write], touched: Mapping[Id, Write], changes: Counter[Key]
) -> Iterator[Problem]:
    for key, change in changes.items():
        if change >= 0 or len(model.providers(key)) + change > 0:
            continue
        # Referrers that are written too have been looked at by their new references.
        left = sorted(id for id in model.referrers(key) if id not in touched)
        if left:
            names = ", ".join(_label(model, id) for id in left[:5]) + (", …" if len(left) > 5 else "")
            where = next(write.at for write in writes if _gives_up(model, write, key))
            yield Problem(Reason.REASON_OBJECT_IN_USE, where, f"{describe(key)} is used by {names}")
    for write in writes:
        if write.id is not None and write.id[0] == "tenant" and write.message is None:
            others = model.size - 1
            if others:
                yield Problem(Reason.REASON_OBJECT_IN_USE, write.at, f"the tenant has {others} other objects")


def _gives_up(model: TenantModel, write: Write, key: Key) -> bool:
    stored = model.get(*write.id) if write.id else None
    return stored is not None and provided(stored.message) == key


def _label(model: TenantModel, id: Id) -> str:
    stored = model.get(*id)
    return label(stored.message) if stored is not None else f"{id[0]} {id[1]}"


def existing(model: TenantModel, message: ConfigObject) -> Id | None:
    """The object that has the message's natural key: what an import replaces."""
    return model.owner(natural_key(message))
