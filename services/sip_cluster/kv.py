"""Key-value lists and events between the pure model and the contracts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from voice.tlib.v1 import event_pb2
from voice.type.v1 import kv_pb2

from services.sip_cluster.calls import Attributes
from services.sip_cluster.user_data import KvList, Value

_EMPTY = kv_pb2.KvList()
_LISTS = frozenset({"user_data", "extensions", "reasons"})


def to_proto(pairs: KvList) -> kv_pb2.KvList:
    """voice.type.v1.KvList of a list."""
    result = kv_pb2.KvList()
    add = result.pairs.add
    for key, value in pairs:
        if isinstance(value, str):
            add(key=key, string_value=value)
        elif isinstance(value, bytes):
            add(key=key, binary_value=value)
        elif isinstance(value, int):
            add(key=key, int_value=value)
        else:
            add(key=key, list_value=to_proto(value))
    return result


def from_proto(message: kv_pb2.KvList) -> KvList:
    """A list from its contract; a pair without a value has an empty text."""
    return tuple((pair.key, _value(pair)) for pair in message.pairs)


def _value(pair: kv_pb2.KvPair) -> Value:
    kind = pair.WhichOneof("value")
    if kind == "int_value":
        return pair.int_value
    if kind == "binary_value":
        return pair.binary_value
    if kind == "list_value":
        return from_proto(pair.list_value)
    return pair.string_value


class Lists:
    """Converts key-value lists, the last ones from memory: the events of a call share theirs."""

    def __init__(self, capacity: int = 1024) -> None:
        self._known: dict[KvList, kv_pb2.KvList] = {}
        self._capacity = capacity

    def get(self, pairs: KvList) -> kv_pb2.KvList:
        """The contract message of a list; not to be changed by who gets it."""
        if not pairs:
            return _EMPTY
        found = self._known.get(pairs)
        if found is None:
            if len(self._known) >= self._capacity:
                self._known.clear()
            found = self._known[pairs] = to_proto(pairs)
        return found


_shared = Lists()


def event(kind: int, attributes: Attributes) -> event_pb2.Event:
    """voice.tlib.v1.Event from a kind and attributes."""
    fields: dict[str, Any] = attributes  # field names by construction; their types are checked by protobuf
    if not _LISTS.isdisjoint(fields):
        fields = {
            name: _shared.get(value) if name in _LISTS else value  # type: ignore[arg-type]
            for name, value in attributes.items()
        }
    return event_pb2.Event(event_type=kind, **fields)  # type: ignore[arg-type]


def attributes_of(message: event_pb2.Event, without: Iterable[str] = ()) -> Attributes:
    """Attributes from an event, as `event` takes them; fields named in `without` are left out."""
    skipped = {"event_type", *without}
    found: Attributes = {}
    for field, value in message.ListFields():
        if field.name not in skipped:
            found[field.name] = from_proto(value) if field.name in _LISTS else value
    return found
