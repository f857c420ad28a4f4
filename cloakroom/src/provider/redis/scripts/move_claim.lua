-- Takes over the expired lock of another process's move, which can no longer finish from here on. ARGV: 4 the lock as it was read.
if call('GET', KEYS[4]) ~= ARGV[4] then return GONE end
-- PEXPIRE comes first: a full server accepts it, and then also the rest of the script.
call('PEXPIRE', KEYS[4], 3600000)
call('SETRANGE', KEYS[4], 24, 'u')
return DONE
