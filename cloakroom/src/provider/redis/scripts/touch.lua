-- Records a use of a session, and moves its idle deadline. ARGV: 4 the time of use, in the form of a record's times.
local old = read(KEYS[1])
if old == false then return CORRUPT end
if not (old and old.session) then return GONE end

-- Times have 8 bytes, and Lua's numbers are exact only up to 53 bits. So they are compared and added in two halves.
local function less(one, other)
  local high, low = fields('>I4I4', one)
  local other_high, other_low = fields('>I4I4', other)
  return high < other_high or (high == other_high and low < other_low)
end
local function later(one, other) return less(one, other) and other or one end
local function bytes(high, low)
  if low < 0 then high, low = high - 1, low + 4294967296 end
  if low >= 4294967296 then high, low = high + 1, low - 4294967296 end
  if high >= 4294967296 then return string.rep('\255', 8) end
  return struct.pack('>I4I4', high, low)
end

-- The stored record's own idle timeout decides, as in `Record::touch`. No time moves back, and the absolute deadline is the limit.
local at, used, idle, absolute =
  ARGV[4], string.sub(old.head, 33, 40), string.sub(old.head, 41, 48), string.sub(old.head, 49, 56)
local at_high, at_low = fields('>I4I4', at)
local used_high, used_low = fields('>I4I4', used)
local idle_high, idle_low = fields('>I4I4', idle)
if less(used, idle) then
  idle = later(idle, bytes(at_high + idle_high - used_high, at_low + idle_low - used_low))
else
  idle = later(idle, at)
end
if less(absolute, idle) then idle = absolute end
used = later(used, at)

local new = parse(string.sub(old.head, 1, 32) .. used .. idle .. string.sub(old.head, 49))
reach(new)
-- PEXPIRE comes first: a full server accepts it, and then also the rest, which needs little or no memory.
expire(KEYS[1], new.deadline)
call('SETRANGE', KEYS[1], 32, used .. idle)
index(ARGV[3], new, old)
return DONE
