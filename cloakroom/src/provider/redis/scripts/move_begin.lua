-- Step 1 of a rename between slots: locks the old session.
-- ARGV: 4 the token of the move, 5 the duration of the lock in ms, 6 the new name, 7 the expected version, 8 the time to live of
-- the lock in ms.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if not (old and old.session) then return GONE end
local busy = moving()
if busy then return busy end
if old.version ~= ARGV[7] then return STALE end
local time = call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[5])
local bytes = struct.pack('>I4I4', math.floor(till / 4294967296), till % 4294967296)
call('SET', KEYS[4], ARGV[4] .. bytes .. 'm' .. ARGV[6], 'PX', ARGV[8])
return DONE
