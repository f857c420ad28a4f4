-- Moves a session to another key of the same slot. KEYS: 4 the new key.
-- ARGV: 4 the record, 5 the expected version, 6 the new name, 7 the tombstone or ''.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if not (old and old.session) then return GONE end
if old.version ~= ARGV[5] then return STALE end
local there = read(KEYS[4])
if there == false then return CORRUPT end
if there and there.lives then return TAKEN end
if there then unindex(ARGV[6], there) end
put(KEYS[4], ARGV[6], ARGV[4])
if ARGV[7] == '' then
  call('DEL', KEYS[1])
  unindex(ARGV[3], old)
else
  put(KEYS[1], ARGV[3], ARGV[7], old)
end
trim()
return DONE
