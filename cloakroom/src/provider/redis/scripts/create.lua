-- ARGV: 4 the record. KEYS: 4 on a cluster, what is moving; 5 and ARGV 5 a mark to set beside, ARGV 6 its time in ms.
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
