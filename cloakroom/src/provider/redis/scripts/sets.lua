-- A change of a session and of the sets it stands in.

-- The set of all users who have a set, by the time at which the last entry in theirs is over. A user's set has no time to live itself: a
-- server that evicts what has one would forget which sessions a user has.
local directory = ARGV[2] and string.gsub(ARGV[2], ':$', 's')

-- How long the server keeps what ends at `deadline`, in ms: a minute longer, since clocks of several machines differ; false if for ever,
-- from a hundred years on.
local function time_to_live(deadline)
  local ttl = deadline - now + 60000
  return ttl <= 3155760000000 and (ttl < 1 and 1 or ttl)
end

local function expire(key, deadline)
  local ttl = time_to_live(deadline)
  if ttl then call('PEXPIRE', key, ttl) else call('PERSIST', key) end
end

-- On a cluster, a key that is not named with the call may have left for another node alone. This says so before anything is written.
local function reach(record)
  if KEYS[4] and record and record.user then call('EXISTS', ARGV[2] .. record.user, directory) end
end

local function unindex(name, record)
  call('ZREM', KEYS[2], name)
  call('ZREM', KEYS[3], name)
  if record.user then call('ZREM', ARGV[2] .. record.user, name) end
end

-- Removes up to `limit` entries that are over from a user's set.
local function prune(user, limit)
  local over = call('ZRANGEBYSCORE', user, '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #over > 0 then call('ZREM', user, unpack(over)) end
end

-- Gives a session its places in the sets, by its deadline. After most changes they stay as they are, since to move an entry takes the server
-- the longer the more of them there are: while the deadline goes on within the same eighth of the idle time, time being cut into such
-- eighths. So the deadlines' set never says later than the session ends. A user's set never says earlier, and its entries only
-- move up, so that a walk in the order of their scores misses none.
local function index(name, new, old)
  if old and old.user == new.user and old.latest == new.latest and old.deadline <= new.deadline then return end
  -- The two sets change together: what was in the one is in the other.
  if call('ZADD', KEYS[2], new.deadline, name) == 1 then call('ZADD', KEYS[3], 0, name) end
  if not new.user then return end
  local user = ARGV[2] .. new.user
  prune(user, 128)
  call('ZADD', user, 'GT', new.latest, name)
  call('ZADD', directory, 'GT', new.latest, new.user)
  -- Of an earlier release.
  call('PERSIST', user)
end

-- Puts a record under a key, in the place of `old` if something is there.
local function put(key, name, bytes, old)
  local new = parse(bytes)
  reach(new)
  reach(old)
  -- Taken out first: a full server takes a tombstone after it.
  if old and (new.tombstone or old.user ~= new.user) then unindex(name, old) end
  local ttl = time_to_live(new.deadline)
  if ttl then call('SET', key, bytes, 'PX', ttl) else call('SET', key, bytes) end
  if not new.tombstone then index(name, new, old) end
end
