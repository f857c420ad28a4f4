-- A change of a session and of the sets it stands in.

-- By tag, what the name of a user's or a label's set of sessions begins with, and the directory: the set of all users or labels that have
-- a set, by the time at which the last entry in theirs is over. Their sets have no time to live: a server that evicts what has one
-- would forget which sessions a user has.
local KINDS = {}
if ARGV[2] then
  local labels = string.gsub(ARGV[2], 'user:$', 'label:')
  KINDS[USER] = { prefix = ARGV[2], directory = string.gsub(ARGV[2], ':$', 's') .. '' }
  KINDS[LABEL] = { prefix = labels, directory = string.gsub(labels, ':$', 's') .. '' }
end

local function set_of(entry) return KINDS[entry.tag].prefix .. entry.value end

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
  if not (KEYS[4] and record) then return end
  for _, entry in ipairs(record.entries) do call('EXISTS', set_of(entry), KINDS[entry.tag].directory) end
end

local function has(record, entry)
  for _, other in ipairs(record.entries) do
    if other.tag == entry.tag and other.value == entry.value then return true end
  end
  return false
end

-- Takes a session out of the sets. It stays in those of the entries that `new` has, too: there it only moves up.
local function unindex(name, record, new)
  call('ZREM', KEYS[2], name)
  call('ZREM', KEYS[3], name)
  for _, entry in ipairs(record.entries) do
    if not (new and has(new, entry)) then call('ZREM', set_of(entry), name) end
  end
end

-- Removes up to `limit` names that are over from a user's or a label's set.
local function prune(set, limit)
  local over = call('ZRANGEBYSCORE', set, '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #over > 0 then call('ZREM', set, unpack(over)) end
end

-- Gives a session its places in the sets, by its deadline. After most changes they stay as they are, since to move an entry takes the server
-- the longer the more of them there are: while the deadline goes on within the same eighth of the idle time, time being cut into such
-- eighths. So the deadlines' set never says later than the session ends. A user's or a label's set never says earlier, and its names only
-- move up, so that a walk in the order of their scores misses none.
local function index(name, new, old)
  if old and old.index == new.index and old.latest == new.latest and old.deadline <= new.deadline then return end
  -- The two sets change together: what was in the one is in the other.
  if call('ZADD', KEYS[2], new.deadline, name) == 1 then call('ZADD', KEYS[3], 0, name) end
  for _, entry in ipairs(new.entries) do
    local set = set_of(entry)
    prune(set, 128)
    call('ZADD', set, 'GT', new.latest, name)
    call('ZADD', KINDS[entry.tag].directory, 'GT', new.latest, entry.value)
    -- Of an earlier release, which knew no labels.
    if entry.tag == USER then call('PERSIST', set) end
  end
end

-- Puts a record under a key, in the place of `old` if something is there.
local function put(key, name, bytes, old)
  local new = parse(bytes)
  reach(new)
  reach(old)
  -- Taken out first: a full server takes a tombstone after it.
  if old and (new.tombstone or old.index ~= new.index) then unindex(name, old, new) end
  local ttl = time_to_live(new.deadline)
  if ttl then call('SET', key, bytes, 'PX', ttl) else call('SET', key, bytes) end
  if not new.tombstone then index(name, new, old) end
end
