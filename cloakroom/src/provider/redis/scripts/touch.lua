-- ARGV: 4 the time of use, 5 the idle deadline, as they stand in a record; 6 the expected version.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if not (old and old.session) then return GONE end
if old.version ~= ARGV[6] then return STALE end
local function less(one, other)
  local high, low = fields('>I4I4', one)
  local other_high, other_low = fields('>I4I4', other)
  return high < other_high or (high == other_high and low < other_low)
end
local absolute = string.sub(old.head, 49, 56)
local idle = less(absolute, ARGV[5]) and absolute or ARGV[5]
local new = parse(string.sub(old.head, 1, 32) .. ARGV[4] .. idle .. string.sub(old.head, 49))
reach(new)
-- This first: a full server takes it, and after it the rest, which needs no more room or little.
expire(KEYS[1], new.deadline)
call('SETRANGE', KEYS[1], 32, ARGV[4] .. idle)
index(ARGV[3], new, old)
return DONE
