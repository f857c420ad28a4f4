-- Deletes the session that a move has created under the new key, and nothing else. KEYS: 5 the arrival mark. ARGV: 4 the token.
if call('GET', KEYS[5]) ~= ARGV[4] then return GONE end
local record = read(KEYS[1])
reach(record)
call('DEL', KEYS[1], KEYS[5])
if record then unindex(ARGV[3], record) end
return DONE
