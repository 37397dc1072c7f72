"""The fenced write: one Lua script that refuses an epoch below the slot's fence, and the operations it
performs.

Redis does not roll a script back, so everything that can refuse (fence, gaps in streams) is looked at
before the first change. Every operation may be repeated without harm: an unanswered write is simply sent
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Value = bytes | str | int

MAX_OPERATIONS = 1000
"""Operations a write."""
MAX_ARGUMENTS = 2000
"""Arguments an operation; Lua unpacks them on its stack."""

SCRIPT = """
local epoch, writer, line = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local found = redis.call('HMGET', KEYS[1], 'epoch', writer)
local fence, known = tonumber(found[1] or '0'), tonumber(found[2] or '0')
if epoch < fence then return {'STALE', fence} end
if epoch == fence and line < known then return {'LATE', known} end

local function last_seq(key)
  local entries = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if entries[1] then return tonumber(string.match(entries[1][1], '^%d+')) end
  if redis.call('EXISTS', key) == 0 then return 0 end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local operations, last, at = {}, {}, 4
for number = 2, #KEYS do
  local name, count = ARGV[at], tonumber(ARGV[at + 1])
  local args = {}
  for i = 1, count do args[i] = ARGV[at + 1 + i] end
  at = at + 2 + count
  local operation = {name, KEYS[number], args}
  if name == 'APPEND' then
    local key, seq = KEYS[number], tonumber(table.remove(args, 1))
    local first = table.remove(args, 1)
    if not last[key] then last[key] = last_seq(key) end
    if seq > last[key] + 1 and not (last[key] == 0 and first == 'any') then
      return {'GAP', number - 2, last[key]}
    end
    operation[4] = seq
    if seq <= last[key] then operation[1] = 'SKIP' else last[key] = seq end
  end
  operations[number - 1] = operation
end

if epoch > fence then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], writer, ARGV[3])
elseif line > known then
  redis.call('HSET', KEYS[1], writer, ARGV[3])
end
local result = {'OK', fence}
for i, operation in ipairs(operations) do
  local name, key, args, answer = operation[1], operation[2], operation[3], 0
  if name == 'APPEND' then
    redis.call('XADD', key, string.format('%.0f-0', operation[4]), unpack(args))
    answer = 1
  elseif name ~= 'SKIP' then
    answer = redis.call(name, key, unpack(args))
    if type(answer) == 'table' then answer = answer['ok'] or #answer end
  end
  result[i + 2] = answer
end
return result
"""
"""KEYS: the fence, then one key an operation. ARGV: epoch, writer, line, then for each operation its name,
how many arguments it has, and these. Answers {'OK', fence found, answer of each operation}, {'STALE', fence},
{'LATE', line} or {'GAP', operation, last}.

The fence is a hash: `epoch`, and for each writer (a store object of the owner) the number of its latest
connection. What an earlier connection of the same writer left in a socket buffer of a Redis that stood
still is refused when it comes late; without that it would overwrite what was written since.

Numbers in Lua are doubles: epochs and sequence numbers stay below 2^53."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a fenced write on the key `{<service>:<slot>}:<key>`."""

    name: str
    key: str
    args: tuple[Value, ...] = ()


def put(key: str, value: Value, *, ttl_ms: int | None = None) -> Operation:
    """SET, expiring after `ttl_ms` milliseconds when given. Answers b"OK"."""
    return Operation("SET", key, (value,) if ttl_ms is None else (value, "PX", _positive("ttl_ms", ttl_ms)))


def remove(key: str) -> Operation:
    """DEL. Answers how many keys there were."""
    return Operation("DEL", key)


def put_fields(key: str, fields: Mapping[str, Value]) -> Operation:
    """HSET of at least one field. Answers how many are new."""
    if not fields:
        raise ValueError("fields: at least one")
    return Operation("HSET", key, tuple(part for field in fields.items() for part in field))


def remove_fields(key: str, *fields: str) -> Operation:
    """HDEL of at least one field. Answers how many there were."""
    if not fields:
        raise ValueError("fields: at least one")
    return Operation("HDEL", key, fields)


def append(key: str, seq: int, fields: Mapping[str, Value], *, first: bool = False) -> Operation:
    """XADD with id `<seq>-0`, seq from 1. A seq the stream has already is acknowledged (answer 0) and not
    added again, one that would leave a gap refuses the whole write (SequenceGap); else 1. `first`: an empty
    stream takes any seq, for rewriting the rest of a stream that was lost."""
    if not fields:
        raise ValueError("fields: at least one")
    values = tuple(part for field in fields.items() for part in field)
    return Operation("APPEND", key, (_positive("seq", seq), "any" if first else "next", *values))


def trim(key: str, length: int) -> Operation:
    """XTRIM to about `length` entries. Answers how many were dropped."""
    return Operation("XTRIM", key, ("MAXLEN", "~", length))


def add_members(key: str, *members: Value) -> Operation:
    """SADD of at least one member. Answers how many are new."""
    if not members:
        raise ValueError("members: at least one")
    return Operation("SADD", key, members)


def remove_members(key: str, *members: Value) -> Operation:
    """SREM of at least one member. Answers how many there were."""
    if not members:
        raise ValueError("members: at least one")
    return Operation("SREM", key, members)


def expire(key: str, ttl_ms: int) -> Operation:
    """PEXPIRE. Answers 1 when there is such a key."""
    return Operation("PEXPIRE", key, (_positive("ttl_ms", ttl_ms),))


OFFSETS = "offsets"
"""Key of a slot's offsets: a hash of stream -> position."""


def offset(stream: str, position: str) -> Operation:
    """Keeps how far `stream` has been consumed, in the same write as the state that the consumption made."""
    return Operation("HSET", OFFSETS, (stream, position))


def _positive(name: str, value: int) -> int:
    if not 0 < value < 1 << 53:
        raise ValueError(f"{name} {value}: must be 1 to 2^53 - 1")
    return value
