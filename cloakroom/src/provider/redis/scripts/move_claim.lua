-- Someone else's move whose time is over is undone; from here on it cannot end any more. ARGV: 4 what was noted.
if call('GET', KEYS[4]) ~= ARGV[4] then return GONE end
-- This first: a full server takes it, and after it the rest.
call('PEXPIRE', KEYS[4], 3600000)
call('SETRANGE', KEYS[4], 24, 'u')
return DONE
