"""What happens in Redis in one step. Each script touches keys of one slot (or queue) only.

APPEND is the heart of the service: the one place where an event becomes part of its stream and of its slot.
"""

from __future__ import annotations

from typing import Final

APPENDED: Final = 0
DUPLICATE: Final = 1
STALE: Final = 2
GAP: Final = 3
DIFFERENT: Final = 4
RESUMED: Final = 5
"""Appended to an agent's stream of which Redis has nothing left: those are never removed, so it has forgotten it."""

APPEND: Final = """
-- KEYS: slot stream, first kept id of the slot, streams…
-- ARGV: events kept of a stream, events kept of the slot, idle ms (0: never removed), retention ms,
--       then for each event: number of its stream, seq, epoch, encoded envelope
-- Gives: id of the slot's last entry before, then for each event {outcome, last seq, epoch, slot id or stored envelope}
local slot, first = KEYS[1], KEYS[2]
local keep, slot_keep = ARGV[1], tonumber(ARGV[2])
local idle, retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local before = redis.call('XREVRANGE', slot, '+', '-', 'COUNT', 1)
local result = {before[1] and before[1][1] or redis.call('GET', first) or '0-0'}
local last, epochs, touched = {}, {}, {}
for i = 5, #ARGV, 4 do
  local stream = KEYS[2 + tonumber(ARGV[i])]
  local seq, epoch, envelope = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  if not last[stream] then
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    last[stream] = newest and tonumber(string.match(newest[1], '^%d+')) or 0
    epochs[stream] = newest and tonumber(newest[2][2]) or 0
  end
  if seq <= last[stream] then
    local there = redis.call('XRANGE', stream, ARGV[i + 1] .. '-0', ARGV[i + 1] .. '-0')[1]
    if not there or there[2][4] == envelope then
      result[#result + 1] = {1, last[stream], epochs[stream], ''}
    elseif epoch < epochs[stream] then
      result[#result + 1] = {2, last[stream], epochs[stream], ''}
    else
      result[#result + 1] = {4, last[stream], epochs[stream], there[2][4]}
    end
  elseif epoch < epochs[stream] then
    result[#result + 1] = {2, last[stream], epochs[stream], ''}
  elseif seq > last[stream] + 1 and not (idle == 0 and last[stream] == 0) then
    result[#result + 1] = {3, last[stream], epochs[stream], ''}
  else
    redis.call('XADD', stream, 'MAXLEN', '~', keep, ARGV[i + 1] .. '-0', 'p', ARGV[i + 2], 'e', envelope)
    local id = redis.call('XADD', slot, '*', 'e', envelope)
    result[#result + 1] = {seq == last[stream] + 1 and 0 or 5, seq, epoch, id}
    last[stream], epochs[stream], touched[stream] = seq, epoch, true
  end
end
if idle > 0 then
  for stream in pairs(touched) do
    local left = redis.call('PTTL', stream)
    if left < 0 or left > retention then redis.call('PEXPIRE', stream, idle) end
  end
end
if redis.call('XLEN', slot) > slot_keep + math.floor(slot_keep / 8) then
  redis.call('XTRIM', slot, 'MAXLEN', slot_keep)
  redis.call('SET', first, redis.call('XRANGE', slot, '-', '+', 'COUNT', 1)[1][1])
end
return result
"""

SWEEP: Final = """
-- KEYS: slot stream, first kept id of the slot. ARGV: milliseconds since 1970 before which entries go.
-- The newest entry stays, so that a reader that has seen all of a quiet slot never finds its cursor expired.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not newest then return 0 end
local cut = math.min(tonumber(ARGV[1]), tonumber(string.match(newest[1], '^%d+')))
local gone = redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', cut))
if gone > 0 then redis.call('SET', KEYS[2], redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]) end
return gone
"""

ENQUEUE: Final = """
-- KEYS: entries (stream), ids (hash id -> entry; under '' the last entry there ever was), done (sorted set of
-- acknowledged ids by time)
-- ARGV: now ms, entries at most, memory ms, idle ms, then for each entry: id, encoded entry
-- Gives: depth (or -1: full, nothing was added), last entry before, then the entry added for each ('' for a repeat)
local now = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[3]))
local depth, new, seen = redis.call('XLEN', KEYS[1]), {}, {}
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  if not seen[id] and redis.call('HEXISTS', KEYS[2], id) == 0 and not redis.call('ZSCORE', KEYS[3], id) then
    new[i], seen[id] = true, true
    depth = depth + 1
  end
end
if next(new) and depth > tonumber(ARGV[2]) then return {-1} end
local result = {depth, redis.call('HGET', KEYS[2], '') or '0-0'}
for i = 5, #ARGV, 2 do
  if new[i] then
    local entry = redis.call('XADD', KEYS[1], '*', 'e', ARGV[i + 1])
    redis.call('HSET', KEYS[2], ARGV[i], entry, '', entry)
    result[#result + 1] = entry
  else
    result[#result + 1] = ''
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
return result
"""

ACKNOWLEDGE: Final = """
-- KEYS as for ENQUEUE. ARGV: now ms, memory ms, idle ms, ids… Gives: depth
local now = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[2]))
for i = 4, #ARGV do
  local entry = redis.call('HGET', KEYS[2], ARGV[i])
  if entry then
    redis.call('XDEL', KEYS[1], entry)
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZADD', KEYS[3], now, ARGV[i])
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return redis.call('XLEN', KEYS[1])
"""
