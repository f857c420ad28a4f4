-- Changes a session and its entries in the sets.

-- For each tag, the prefix of the sets of users or labels, and the directory: the set of all users or labels that have a set, scored by
-- the time at which the last entry of that set ends. The sets have no time to live, since a server with a `volatile-*` policy would
-- evict them, and with them the lists of a user's sessions.
local KINDS = {}
if ARGV[2] then
  local labels = string.gsub(ARGV[2], 'user:$', 'label:')
  KINDS[USER] = { prefix = ARGV[2], directory = string.gsub(ARGV[2], ':$', 's') .. '' }
  KINDS[LABEL] = { prefix = labels, directory = string.gsub(labels, ':$', 's') .. '' }
end

local function set_of(entry) return KINDS[entry.tag].prefix .. entry.value end

-- Returns the time to live of a record in ms. It is a minute longer than the deadline, since the clocks of several machines differ.
-- Returns false for a deadline in a hundred years or more: the record never expires.
local function time_to_live(deadline)
  local ttl = deadline - now + 60000
  return ttl <= 3155760000000 and (ttl < 1 and 1 or ttl)
end

local function expire(key, deadline)
  local ttl = time_to_live(deadline)
  if ttl then call('PEXPIRE', key, ttl) else call('PERSIST', key) end
end

-- Checks that the keys of a user's set are on this node, before anything is written. On a cluster whose slot is being migrated, keys
-- that are not named in KEYS may have moved already.
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

-- Removes a session from the sets, except from those of entries that `new` has too: there its score only increases.
local function unindex(name, record, new)
  call('ZREM', KEYS[2], name)
  call('ZREM', KEYS[3], name)
  for _, entry in ipairs(record.entries) do
    if not (new and has(new, entry)) then call('ZREM', set_of(entry), name) end
  end
end

-- Removes up to `limit` ended sessions from the set of a user or a label.
local function prune(set, limit)
  local over = call('ZRANGEBYSCORE', set, '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #over > 0 then call('ZREM', set, unpack(over)) end
end

-- Writes a session's entries in the sets. Most changes skip this, since moving an entry costs the more the larger the set is. Time is
-- divided into eighths of the idle timeout; the entries change only when the deadline enters another eighth. So a score in the set of
-- deadlines is never later than the session's end. A score in the set of a user or a label is never earlier, and only increases: a walk
-- in the order of the scores misses no session.
local function index(name, new, old)
  if old and old.index == new.index and old.latest == new.latest and old.deadline <= new.deadline then return end
  -- The two sets hold the same names, so a name that was in this set is in the other.
  if call('ZADD', KEYS[2], new.deadline, name) == 1 then call('ZADD', KEYS[3], 0, name) end
  for _, entry in ipairs(new.entries) do
    local set = set_of(entry)
    prune(set, 128)
    call('ZADD', set, 'GT', new.latest, name)
    call('ZADD', KINDS[entry.tag].directory, 'GT', new.latest, entry.value)
    -- An earlier release gave users' sets a time to live.
    if entry.tag == USER then call('PERSIST', set) end
  end
end

-- Stores a record under a key. `old` is the record that it replaces, if there is one.
local function put(key, name, bytes, old)
  local new = parse(bytes)
  reach(new)
  reach(old)
  -- ZREM comes first: a full server then accepts the tombstone.
  if old and (new.tombstone or old.index ~= new.index) then unindex(name, old, new) end
  local ttl = time_to_live(new.deadline)
  if ttl then call('SET', key, bytes, 'PX', ttl) else call('SET', key, bytes) end
  if not new.tombstone then index(name, new, old) end
end
