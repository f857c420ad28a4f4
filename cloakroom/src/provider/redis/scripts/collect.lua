-- KEYS: 2 and 3 alone. ARGV: 3 what the names of records begin with, 4 the most to look at. Answers how many were removed, how many are
-- left, and 1 if some of these may be due.
local removed = collect(ARGV[3], ARGV[4])
local due = call('ZCOUNT', KEYS[2], '-inf', ARGV[1])
return { removed, call('ZCARD', KEYS[2]), due > 0 and 1 or 0 }
