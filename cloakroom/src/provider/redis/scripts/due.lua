-- Takes up to so many of those whose place in the deadlines' set is over out of the sets, with their records. What has been prolonged
-- since its place was written is given the place of its own deadline. Answers how many were removed.
-- Out and in again, for a full server lets a script write more after it has taken away.
local function collect(sessions, limit)
  local due = call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  call('ZREM', KEYS[2], unpack(due))
  local dead = {}
  for _, name in ipairs(due) do
    local record = read(sessions .. name)
    if record and record.session then
      call('ZADD', KEYS[2], record.deadline, name)
    else
      dead[#dead + 1] = name
      if record and not record.lives then call('DEL', sessions .. name) end
      if record and record.user then call('ZREM', ARGV[2] .. record.user, name) end
    end
  end
  if #dead > 0 then call('ZREM', KEYS[3], unpack(dead)) end
  return #dead
end

-- The server drops records by itself, but not what is in sets. So that these stay as small as what lives though nobody collects, one in
-- sixteen of those who put a name in, by the name, takes out as many as all of them would.
local function trim(name)
  if string.byte(name, -1) % 16 == 0 then collect(string.sub(KEYS[1], 1, #KEYS[1] - #ARGV[3]), 128) end
end
