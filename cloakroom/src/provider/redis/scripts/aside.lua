-- Puts aside what is no record, if it is still what was read. KEYS: 4 where to. ARGV: 4 what was read, 5 how long it is kept in ms.
if call('GET', KEYS[1]) ~= ARGV[4] then return GONE end
call('RENAME', KEYS[1], KEYS[4])
call('PEXPIRE', KEYS[4], ARGV[5])
call('ZREM', KEYS[2], ARGV[3])
call('ZREM', KEYS[3], ARGV[3])
return DONE
