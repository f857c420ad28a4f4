-- A change of a session and of the sets it stands in.

-- How long the server keeps what ends at `deadline`, in ms: a minute longer, since clocks of several machines differ; false if for ever,
-- from a hundred years on.
local function time_to_live(deadline)
  local ttl = deadline - now + 60000
  return ttl <= 3155760000000 and (ttl < 1 and 1 or ttl)
end

local function unindex(name, record)
  call('ZREM', KEYS[2], name)
  call('ZREM', KEYS[3], name)
  if record.user then call('ZREM', ARGV[2] .. record.user, name) end
end

-- Gives a session its places in the sets, by its deadline. After most changes they stay as they are, since to move an entry takes the server
-- the longer the more of them there are: while the deadline goes on within the same eighth of the idle time, time being cut into such
-- eighths. So the deadlines' set never says later than the session ends, and the user's never earlier, whatever else has changed.
local function index(name, new, old)
  if old and old.user == new.user and old.latest == new.latest and old.deadline <= new.deadline then return end
  -- The two sets change together: what was in the one is in the other.
  if call('ZADD', KEYS[2], new.deadline, name) == 1 then call('ZADD', KEYS[3], 0, name) end
  if not new.user then return end
  local user = ARGV[2] .. new.user
  call('ZREMRANGEBYSCORE', user, '-inf', ARGV[1])
  call('ZADD', user, new.latest, name)
  local ttl = time_to_live(tonumber(call('ZRANGE', user, -1, -1, 'WITHSCORES')[2]))
  if ttl then call('PEXPIRE', user, ttl) else call('PERSIST', user) end
end

-- Puts a record under a key, in the place of `old` if something is there.
local function put(key, name, bytes, old)
  local new = parse(bytes)
  if old and (new.tombstone or old.user ~= new.user) then unindex(name, old) end
  local ttl = time_to_live(new.deadline)
  if ttl then call('SET', key, bytes, 'PX', ttl) else call('SET', key, bytes) end
  if not new.tombstone then index(name, new, old) end
end
