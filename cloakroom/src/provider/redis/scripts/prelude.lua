-- What every script begins with. A session is one string, a record in the native format (docs/format.md); a user's sessions,
-- the deadlines and the keys of a partition are sorted sets beside it, in the same slot.
--
-- KEYS: 1 the session, 2 the partition's deadlines, 3 its keys, 4 what is moving (on a cluster).
-- ARGV: 1 the time in milliseconds, 2 what the name of a user's set begins with, 3 the session's name in the sets.

local DONE, STALE, GONE, TAKEN, CORRUPT, MOVING = 0, 1, 2, 3, 4, 5
local HEAD = 72 + 4096          -- the most that stands before a record's data
local MARGIN = 60000            -- what the server keeps past a deadline, in ms: clocks of several machines differ
local FOREVER = 3155760000000   -- a hundred years in ms: no time to live is set
local now = tonumber(ARGV[1])

local function number(bytes, at)
  local high, low = struct.unpack('>I4I4', bytes, at)
  return high * 4294967296 + low
end

local function plain(n)
  return string.format('%.0f', n)
end

-- What stands before a record's data; false if that is no record.
local function parse(head)
  if #head < 72 or string.sub(head, 1, 5) ~= 'CLKR\1' then return false end
  local last = 72 + struct.unpack('>I4', head, 65)
  if last > #head then return false end
  local record = { head = head, version = string.sub(head, 9, 16), last = last }
  record.deadline = math.min(number(head, 41), number(head, 49))
  local at = 73
  while at + 2 <= last do
    local tag, len = string.byte(head, at), struct.unpack('>I2', head, at + 1)
    if tag == 1 and not record.user then record.user = string.sub(head, at + 3, at + 2 + len) end
    if tag == 2 or tag == 4 then record.tombstone = true end
    at = at + 3 + len
  end
  return record
end

-- The record under a key; nil if there is none, false if what is there is no record.
local function read(key)
  local head = redis.call('GETRANGE', key, 0, HEAD - 1)
  if head == '' then return nil end
  return parse(head)
end

local function lives(record)
  return record and record.deadline > now
end

local function is_session(record)
  return lives(record) and not record.tombstone
end

local function time_to_live(deadline)
  local ttl = deadline - now + MARGIN
  if ttl > FOREVER then return nil end
  return plain(math.max(ttl, 1))
end

local function expire(key, deadline)
  local ttl = time_to_live(deadline)
  if ttl then redis.call('PEXPIRE', key, ttl) else redis.call('PERSIST', key) end
end

local function index(name, record)
  local score = plain(record.deadline)
  -- The two sets change together: what was in the one is in the other.
  if redis.call('ZADD', KEYS[2], score, name) == 1 then redis.call('ZADD', KEYS[3], 0, name) end
  if record.user then
    local user = ARGV[2] .. record.user
    redis.call('ZREMRANGEBYSCORE', user, '-inf', ARGV[1])
    redis.call('ZADD', user, score, name)
    expire(user, tonumber(redis.call('ZRANGE', user, -1, -1, 'WITHSCORES')[2]))
  end
end

local function unindex(name, record)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
  if record.user then redis.call('ZREM', ARGV[2] .. record.user, name) end
end

-- Puts a record under a key, in the place of `old` if something is there.
local function put(key, name, bytes, old)
  local new = parse(bytes)
  if old and (new.tombstone or old.user ~= new.user) then unindex(name, old) end
  local ttl = time_to_live(new.deadline)
  if ttl then redis.call('SET', key, bytes, 'PX', ttl) else redis.call('SET', key, bytes) end
  if not new.tombstone then index(name, new) end
end

-- Takes some of the expired out of the sets, so that they stay as small as what lives: the server drops records by itself,
-- but not what is in sets. Whoever puts a name in takes more than one out.
local function trim()
  local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 8)
  if #gone > 0 then
    redis.call('ZREM', KEYS[2], unpack(gone))
    redis.call('ZREM', KEYS[3], unpack(gone))
  end
end

-- On a cluster, a session on its way to another slot may not change meanwhile. Answers what is noted of the move, and whether
-- its time is over.
local function moving()
  local note = KEYS[4] and redis.call('GET', KEYS[4])
  if not note then return nil end
  local time = redis.call('TIME')
  local over = time[1] * 1000 + math.floor(time[2] / 1000) >= number(note, 17)
  return { MOVING, note, over and 1 or 0 }
end
