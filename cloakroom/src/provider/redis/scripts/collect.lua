-- Removes expired sessions of a partition.
-- KEYS: only 2 and 3. ARGV: 3 the prefix of records, 4 the most entries to examine.
-- Returns the number removed, the number left, and 1 if some of these may have expired.
local removed = collect(ARGV[3], ARGV[4])
local due = call('ZCOUNT', KEYS[2], '-inf', ARGV[1])
return { removed, call('ZCARD', KEYS[2]), due > 0 and 1 or 0 }
