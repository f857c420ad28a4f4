-- Someone else's move whose time is over is undone; from here on it cannot end any more. ARGV: 4 what was noted.
if call('GET', KEYS[4]) ~= ARGV[4] then return GONE end
call('SETRANGE', KEYS[4], 24, 'u')
return DONE
