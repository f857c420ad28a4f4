-- Step 3 of a rename between slots: ends the old session if this move still holds the lock. ARGV: 4 the token, 5 the tombstone or ''.
local note = call('GET', KEYS[4])
if not note or string.sub(note, 1, 16) ~= ARGV[4] or string.sub(note, 25, 25) ~= 'm' then return GONE end
local old = read(KEYS[1])
reach(old)
if ARGV[5] == '' then
  call('DEL', KEYS[1])
  if old then unindex(ARGV[3], old) end
else
  put(KEYS[1], ARGV[3], ARGV[5], old)
end
call('DEL', KEYS[4])
return DONE
