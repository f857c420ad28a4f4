-- Puts aside what is no record, for a week.
local function aside(sessions, name)
  local place = string.sub(sessions, 1, -9) .. 'corrupt:' .. name
  call('RENAME', sessions .. name, place)
  call('PEXPIRE', place, 604800000)
end

-- Takes up to so many of those whose place in the deadlines' set is over out of the sets, with their records. What has been prolonged
-- since its place was written is given the place of its own deadline. Answers how many were removed.
local function collect_sessions(sessions, limit)
  local due = call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  -- All is read before anything is written: where a server does not let us read, nothing is lost.
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
  -- Taken out first: a full server refuses a script's writes until it has removed something.
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

-- The same for up to so many sets of users or labels in which something is over. Of what the server has dropped by itself nobody knows
-- in which sets it was.
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

-- The server drops records by itself, but not what is in sets. So that these stay as small as what lives though nobody collects, whoever puts
-- a name in tidies up, in one millisecond of sixteen and then for all of them. What comes of it is nothing to the change before it.
local function trim()
  if now % 16 == 0 then pcall(collect, string.sub(KEYS[1], 1, #KEYS[1] - #ARGV[3]), 128) end
end
