-- Sets aside a value that is not a record, for a week.
local function aside(sessions, name)
  local place = string.sub(sessions, 1, -9) .. 'corrupt:' .. name
  call('RENAME', sessions .. name, place)
  call('PEXPIRE', place, 604800000)
end

-- Removes up to `limit` expired sessions with their entries in the sets. Examines those whose score in the set of deadlines has passed.
-- A session that was prolonged since gets its deadline as the new score. Returns the number removed.
local function collect_sessions(sessions, limit)
  local due = call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  -- All records are read before anything is written, so a failed read loses nothing.
  local dead, records, living = {}, {}, {}
  for _, name in ipairs(due) do
    local record = read(sessions .. name)
    if record and record.session then
      living[#living + 1] = record.deadline
      living[#living + 1] = name
    else
      dead[#dead + 1] = name
      records[#dead] = record
      if record then reach(record) end
    end
  end
  -- ZREM comes first: a full server refuses a script's writes until the script has removed something.
  call('ZREM', KEYS[2], unpack(due))
  if #living > 0 then call('ZADD', KEYS[2], unpack(living)) end
  if #dead > 0 then call('ZREM', KEYS[3], unpack(dead)) end
  for place, name in ipairs(dead) do
    local record = records[place]
    if record == false then aside(sessions, name) end
    if record and not record.lives then call('DEL', sessions .. name) end
    if record then
      for _, entry in ipairs(record.entries) do call('ZREM', set_of(entry), name) end
    end
  end
  return #dead
end

-- Removes expired entries from up to `limit` sets of users or of labels. When the server expires a record itself, its user and labels are
-- no longer known, so the entries stay until this runs.
local function collect_entries(kind, limit)
  local due = call('ZRANGEBYSCORE', kind.directory, '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #due == 0 then return end
  call('ZREM', kind.directory, unpack(due))
  for _, value in ipairs(due) do
    local set = kind.prefix .. value
    prune(set, 128)
    local last = call('ZRANGE', set, -1, -1, 'WITHSCORES')
    if last[2] then call('ZADD', kind.directory, last[2], value) end
  end
end

local function collect(sessions, limit)
  local removed = collect_sessions(sessions, limit)
  collect_entries(KINDS[USER], limit)
  collect_entries(KINDS[LABEL], limit)
  return removed
end

-- Collects expired entries in one of sixteen milliseconds, after an entry was added. So the sets stay small even if no garbage
-- collection runs: the server expires records itself, but not entries of sets. An error here does not fail the change.
local function trim()
  if now % 16 == 0 then pcall(collect, string.sub(KEYS[1], 1, #KEYS[1] - #ARGV[3]), 128) end
end
