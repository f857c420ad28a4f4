-- Replaces a record if it still has the expected version. ARGV: 4 the record, 5 the expected version.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if not (old and old.session) then return GONE end
local busy = moving()
if busy then return busy end
if old.version ~= ARGV[5] then return STALE end
put(KEYS[1], ARGV[3], ARGV[4], old)
return DONE
