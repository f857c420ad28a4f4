-- Unlocks the session. ARGV: 4 the token.
local note = call('GET', KEYS[4])
if not note or string.sub(note, 1, 16) ~= ARGV[4] then return GONE end
call('DEL', KEYS[4])
return DONE
