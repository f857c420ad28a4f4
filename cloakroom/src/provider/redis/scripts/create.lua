-- Stores a record under a free key. ARGV: 4 the record.
-- For a session that arrives from another slot: KEYS 5 the arrival mark, ARGV 5 its value, ARGV 6 its time to live in ms.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if old and old.lives then return TAKEN end
reach(old)
reach(parse(ARGV[4]))
if old then unindex(ARGV[3], old) end
if KEYS[4] then call('DEL', KEYS[4]) end
put(KEYS[1], ARGV[3], ARGV[4])
if KEYS[5] then call('SET', KEYS[5], ARGV[5], 'PX', ARGV[6]) end
trim()
return DONE
