-- ARGV: 4 the time of use, 5 the idle deadline, as they stand in a record.
local record = read(KEYS[1])
if record == false then return CORRUPT end
if not is_session(record) then return GONE end
local function less(one, other)
  local high, low = struct.unpack('>I4I4', one)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return high < other_high or (high == other_high and low < other_low)
end
local absolute = string.sub(record.head, 49, 56)
local idle = less(absolute, ARGV[5]) and absolute or ARGV[5]
redis.call('SETRANGE', KEYS[1], 32, ARGV[4] .. idle)
record.deadline = number(idle, 1)
expire(KEYS[1], record.deadline)
index(ARGV[3], record)
return DONE
