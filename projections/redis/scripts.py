"""Atomic steps in Redis, in Lua.

All checks come before the first write. Positions are text of twenty digits: Lua's numbers would
lose the last ones. `meta` counts the contents of the other keys: a server that evicts removes whole
keys, and a generation that lacks one reports it.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script, and the digest that identifies it once it was loaded."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


COMMIT = Script("""
-- KEYS as `GenerationKeys.written`. ARGV: a partition's field, its checkpoint as it must be, and as
-- it is from now on; then lists with their lengths: rows, parked fields that go, ranges of events
-- that wait no more, parked fields that come, events that wait.
local meta, rows, all, parked, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('EXISTS', KEYS[6]) == 1 then return 'HELD' end
if redis.call('HGET', meta, ARGV[1]) ~= ARGV[2] then return 'FENCED' end
local at = 3
local function take()
  at = at + 1
  return ARGV[at]
end
local function move(list, was, is)
  if was == is then return end
  if was ~= '' then redis.call('ZREM', list, was) end
  if is ~= '' then redis.call('ZADD', list, 0, is) end
end
for _ = 1, tonumber(take()) do
  local key = take()
  local value = take()
  if value == '' then redis.call('HDEL', rows, key) else redis.call('HSET', rows, key, value) end
  local was = take()
  move(all, was, take())
  for i = 7, #KEYS do
    was = take()
    move(KEYS[i], was, take())
  end
end
for _ = 1, tonumber(take()) do redis.call('HDEL', parked, take()) end
for _ = 1, tonumber(take()) do
  local from = take()
  redis.call('ZREMRANGEBYLEX', held, from, take())
end
for _ = 1, tonumber(take()) do
  local field = take()
  redis.call('HSETNX', parked, field, take())
end
for _ = 1, tonumber(take()) do redis.call('ZADD', held, 0, take()) end
redis.call('HSET', meta, ARGV[1], ARGV[3], 'rows', redis.call('HLEN', rows),
  'all', redis.call('ZCARD', all), 'parked', redis.call('HLEN', parked),
  'held', redis.call('ZCARD', held))
for i = 7, #KEYS do redis.call('HSET', meta, 'i' .. i - 7, redis.call('ZCARD', KEYS[i])) end
return 'OK'
""")

WHOLE = Script("""
-- KEYS as `GenerationKeys.written`: what `meta` says, if everything is there that it counts.
local meta = KEYS[1]
local said = redis.call('HGETALL', meta)
if #said == 0 then return {'GONE'} end
local function counted(field) return tonumber(redis.call('HGET', meta, field) or 0) end
local lost = counted('rows') ~= redis.call('HLEN', KEYS[2])
  or counted('all') ~= redis.call('ZCARD', KEYS[3])
  or counted('parked') ~= redis.call('HLEN', KEYS[4])
  or counted('held') ~= redis.call('ZCARD', KEYS[5])
for i = 7, #KEYS do
  lost = lost or counted('i' .. i - 7) ~= redis.call('ZCARD', KEYS[i])
end
if lost then return {'LOST'} end
return {'OK', said}
""")

CAUGHT_UP = Script("""
-- KEYS: meta. ARGV: a partition's number, its checkpoint.
if redis.call('HGET', KEYS[1], 'p' .. ARGV[1]) ~= ARGV[2] then return 'FENCED' end
redis.call('HDEL', KEYS[1], 'f' .. ARGV[1])
return 'OK'
""")

LIVE = Script("""
-- KEYS: a view's pointer. The live generation, if there is one.
return {'OK', redis.call('HGET', KEYS[1], 'live')}
""")

ROW = Script("""
-- KEYS: meta, rows. ARGV: the key's hash, the key.
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if not partitions then return {'GONE'} end
local partition = ARGV[1] % partitions
local said = redis.call('HMGET', KEYS[1], 'p' .. partition, 'f' .. partition, 'rows')
if said[2] then return {'FILLING'} end
if tonumber(said[3]) ~= redis.call('HLEN', KEYS[2]) then return {'LOST'} end
return {'OK', said[1], redis.call('HGET', KEYS[2], ARGV[2])}
""")

PAGE = Script("""
-- KEYS: meta, rows, all, then a list for each filter. ARGV: how many rows, behind which place, how
-- many places to look at, 1 for the newest first; then for each filter the list's count in `meta`,
-- and what its members begin with.
local said, meta = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #meta, 2 do said[meta[i]] = meta[i + 1] end
if not said.partitions then return {'GONE'} end
local least, most
for i = 0, said.partitions - 1 do
  if said['f' .. i] then return {'FILLING'} end
  local position = string.sub(said['p' .. i], 1, 20)
  if not least or position < least then least = position end
  if not most or position > most then most = position end
end
local function whole(key, field) return redis.call('ZCARD', key) == tonumber(said[field]) end
if redis.call('HLEN', KEYS[2]) ~= tonumber(said.rows) or not whole(KEYS[3], 'all') then
  return {'LOST'}
end
local function up_to(prefix) return '(' .. string.sub(prefix, 1, -2) .. '\\1' end
local list, prefix, chosen, shortest = KEYS[3], '', 0, nil
for i = 1, #KEYS - 3 do
  local key, begins = KEYS[i + 3], ARGV[4 + 2 * i]
  if not whole(key, ARGV[3 + 2 * i]) then return {'LOST'} end
  local length = redis.call('ZLEXCOUNT', key, '[' .. begins, up_to(begins))
  if not shortest or length < shortest then
    list, prefix, chosen, shortest = key, begins, i, length
  end
end
local wanted, behind, left = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local found = {}
local from, to = prefix == '' and '-' or '[' .. prefix, prefix == '' and '+' or up_to(prefix)
local command = 'ZRANGEBYLEX'
if ARGV[4] == '1' then command, from, to = 'ZREVRANGEBYLEX', to, from end
if behind ~= '' then from = '(' .. prefix .. behind end
while #found < 2 * wanted and left > 0 do
  local chunk = math.min(wanted, left)
  local members = redis.call(command, list, from, to, 'LIMIT', 0, chunk)
  for _, member in ipairs(members) do
    local place, matches = string.sub(member, #prefix + 1), true
    for i = 1, #KEYS - 3 do
      matches = matches
        and (i == chosen or redis.call('ZSCORE', KEYS[i + 3], ARGV[4 + 2 * i] .. place))
    end
    if matches then
      local row = redis.call('HGET', KEYS[2], string.sub(place, 22))
      if not row then return {'LOST'} end
      found[#found + 1] = place
      found[#found + 1] = row
    end
    behind = place
    if #found == 2 * wanted then break end
  end
  if #members < chunk then
    behind = ''
    break
  end
  left = left - chunk
  from = '(' .. prefix .. behind
end
return {'OK', least, most, behind, found}
""")

RECUT = Script("""
-- KEYS: meta. ARGV: a number of partitions, then a mark for each; gives where all of them begin.
local said = redis.call('HGETALL', KEYS[1])
if #said == 0 then return false end
local least, filling
for i = 1, #said, 2 do
  local kind = string.sub(said[i], 1, 1)
  if string.match(said[i], '^[pf]%d+$') then
    if kind == 'f' then filling = true end
    local position = string.sub(said[i + 1], 1, 20)
    if kind == 'p' and (not least or position < least) then least = position end
    redis.call('HDEL', KEYS[1], said[i])
  end
end
redis.call('HSET', KEYS[1], 'partitions', ARGV[1])
for i = 0, ARGV[1] - 1 do
  redis.call('HSET', KEYS[1], 'p' .. i, least .. ' ' .. ARGV[i + 2])
  if filling then redis.call('HSET', KEYS[1], 'f' .. i, '1') end
end
return least
""")

HOLD = Script("""
-- KEYS: meta, hold. ARGV: a token, milliseconds. What `meta` says, as writers wait from now on.
local said = redis.call('HGETALL', KEYS[1])
if #said > 0 then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
return said
""")

STILL_HELD = Script("""
-- KEYS: hold. ARGV: a token, milliseconds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

RELEASE = Script("""
-- KEYS: hold. ARGV: a token.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")

POINT = Script("""
-- KEYS: a view's pointer. ARGV: the live generation as it must be (empty for none) and as it is
-- from now on, its definition, its partitions.
if (redis.call('HGET', KEYS[1], 'live') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'live', ARGV[2], 'fingerprint', ARGV[3], 'partitions', ARGV[4])
redis.call('HDEL', KEYS[1], 'b:' .. ARGV[2])
-- Who moves it removes what was live; else it is found here.
if ARGV[1] ~= '' and ARGV[1] ~= ARGV[2] then redis.call('HSET', KEYS[1], 'b:' .. ARGV[1], '1') end
return 1
""")

ALL = [
    COMMIT,
    WHOLE,
    CAUGHT_UP,
    LIVE,
    ROW,
    PAGE,
    RECUT,
    HOLD,
    STILL_HELD,
    RELEASE,
    POINT,
]
