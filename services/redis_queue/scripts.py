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
"""Appended behind a gap: what lies between was lost with an earlier store, and its sender has it no longer."""

APPEND: Final = """
-- KEYS: slot stream, first kept id of the slot, store of the slot, then each stream and its fence
-- ARGV: events kept of a stream, events kept of the slot, idle ms (0: never removed), retention ms, store, milliseconds to jump,
--       then for each event: number of its stream, seq, epoch, encoded envelope, 1 when its sender has nothing older
-- Gives: id of the slot's last entry before, then for each event
--        {outcome, last seq, epoch, slot id or stored envelope, events that are missing before it}
local slot, first, home = KEYS[1], KEYS[2], KEYS[3]
local keep, slot_keep = ARGV[1], tonumber(ARGV[2])
local idle, retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local before = redis.call('XREVRANGE', slot, '+', '-', 'COUNT', 1)
local result = {before[1] and before[1][1] or redis.call('GET', first) or '0-0'}
local generation, store = string.match(redis.call('GET', home) or '0 ', '^(%d+) (.*)$')
local id = '*'
generation = tonumber(generation)
if store ~= ARGV[5] then
  generation = generation + 1
  local time = redis.call('TIME')
  local jump = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[6])
  if jump > tonumber(string.match(result[1], '^%d+')) then id = string.format('%.0f-0', jump) end
end
local last, epochs, generations, touched = {}, {}, {}, {}
for i = 7, #ARGV, 5 do
  local place = 2 + 2 * tonumber(ARGV[i])
  local stream = KEYS[place]
  local seq, epoch, envelope = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  if not last[stream] then
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    last[stream] = newest and tonumber(string.match(newest[1], '^%d+')) or 0
    epochs[stream] = math.max(newest and tonumber(newest[2][2]) or 0, tonumber(redis.call('GET', KEYS[place + 1]) or '0'))
    generations[stream] = newest and tonumber(newest[2][6] or '0') or 0
  end
  local gap = seq - last[stream] - 1
  if gap < 0 then
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
  elseif gap > 0 and not (ARGV[i + 4] == '1' and generations[stream] < generation) then
    result[#result + 1] = {3, last[stream], epochs[stream], ''}
  else
    redis.call('XADD', stream, 'MAXLEN', '~', keep, ARGV[i + 1] .. '-0',
      'p', ARGV[i + 2], 'e', envelope, 'g', generation)
    local added = redis.call('XADD', slot, id, 'e', envelope)
    if store ~= ARGV[5] then
      redis.call('SET', home, string.format('%.0f %s', generation, ARGV[5]))
      store, id = ARGV[5], '*'
    end
    result[#result + 1] = {gap == 0 and 0 or 5, seq, epoch, added, gap}
    last[stream], epochs[stream], generations[stream], touched[stream] = seq, epoch, generation, true
  end
end
if idle > 0 then
  for stream in pairs(touched) do
    local left = redis.call('PTTL', stream)
    if left < 0 or (left > retention and left < idle * 0.9) then redis.call('PEXPIRE', stream, idle) end
  end
end
if redis.call('XLEN', slot) > slot_keep + math.floor(slot_keep / 8) then
  redis.call('XTRIM', slot, 'MAXLEN', slot_keep)
  redis.call('SET', first, redis.call('XRANGE', slot, '-', '+', 'COUNT', 1)[1][1])
end
return result
"""
"""`store` names the primary in its present life (services/redis_queue/store.py). An append under another one than the last begins
a new generation of the slot (docs/decisions/0071): its ids jump ahead, so that no cursor of a reader lies beyond them although the
entries it was given may be lost; and a stream whose last event is of an earlier generation may go on behind a gap."""

FENCE: Final = """
-- KEYS: each stream and its fence. ARGV: idle ms (0: never removed), then the epoch of each.
-- Gives for each {last seq, epoch below which events are refused now}
local result = {}
for i = 1, #KEYS, 2 do
  local epoch = tonumber(ARGV[(i + 3) / 2])
  local newest = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
  local fence = math.max(newest and tonumber(newest[2][2]) or 0, tonumber(redis.call('GET', KEYS[i + 1]) or '0'))
  if epoch > fence then
    fence = epoch
    redis.call('SET', KEYS[i + 1], string.format('%.0f', epoch))
    if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[i + 1], ARGV[1]) end
  end
  result[#result + 1] = {newest and tonumber(string.match(newest[1], '^%d+')) or 0, fence}
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
-- KEYS: entries (stream), ids (hash id -> entry; under '' the last entry there ever was and the store it was added to), done
-- (sorted set of acknowledged ids by time)
-- ARGV: now ms, entries at most, memory ms, idle ms, store, milliseconds to jump, then for each entry: id, encoded entry
-- Gives: depth (or -1: full, nothing was added), last entry before, then the entry added for each ('' for a repeat)
local now = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[3]))
local depth, new, seen = redis.call('XLEN', KEYS[1]), {}, {}
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  if not seen[id] and redis.call('HEXISTS', KEYS[2], id) == 0 and not redis.call('ZSCORE', KEYS[3], id) then
    new[i], seen[id] = true, true
    depth = depth + 1
  end
end
if next(new) and depth > tonumber(ARGV[2]) then return {-1} end
local last, store = string.match(redis.call('HGET', KEYS[2], '') or '0-0', '^(%S+) ?(.*)$')
local result, at = {depth, last}, '*'
if store ~= ARGV[5] then
  local time = redis.call('TIME')
  local jump = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[6])
  if jump > tonumber(string.match(last, '^%d+')) then at = string.format('%.0f-0', jump) end
end
for i = 7, #ARGV, 2 do
  if new[i] then
    local entry = redis.call('XADD', KEYS[1], at, 'e', ARGV[i + 1])
    at = '*'
    redis.call('HSET', KEYS[2], ARGV[i], entry, '', entry .. ' ' .. ARGV[5])
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
  end
  -- Also one that is not there: it was lost with an earlier store, and its sender may put it in again.
  redis.call('ZADD', KEYS[3], now, ARGV[i])
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return redis.call('XLEN', KEYS[1])
"""
