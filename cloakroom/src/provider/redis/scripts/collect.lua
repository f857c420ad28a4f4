-- KEYS: 4 and on, sessions that may have expired. ARGV: 3 and on, their names.
local removed = 0
for place = 4, #KEYS do
  local name, record = ARGV[place - 1], read(KEYS[place])
  if lives(record) then
    -- It was prolonged after its name was read; the sets go by the record.
    index(name, record)
  else
    if record then
      redis.call('DEL', KEYS[place])
      if record.user then redis.call('ZREM', ARGV[2] .. record.user, name) end
    end
    removed = removed + redis.call('ZREM', KEYS[2], name)
    redis.call('ZREM', KEYS[3], name)
  end
end
return removed
