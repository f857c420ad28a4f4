-- Returns a page of a set: each session's name, and its record without the data.
-- KEYS: 1 the set. ARGV: 2 the prefix of records, 3 the length of the page. For a partition's keys: 4 the first name. For a user's
-- set: 5 and 6 the score and the name of the last entry of the page before ('' for the first page). On a cluster: 7 and 8 the
-- prefixes of move locks and arrival marks.
-- Returns the number of sessions that are being moved, the last score if more entries follow, then names and records by turns. A
-- session that has ended has '' as its record.

-- Compares two names byte by byte, as the set orders them. Lua's own order depends on the locale.
local function before(one, other)
  for place = 1, math.min(#one, #other) do
    local a, b = string.byte(one, place), string.byte(other, place)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Returns the number of entries up to and including this one, which may be gone. Many entries may have the same score.
local function up_to(set, score, last)
  local low, high = call('ZCOUNT', set, '-inf', '(' .. score), call('ZCOUNT', set, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(last, call('ZRANGE', set, middle, middle)[1]) then high = middle else low = middle + 1 end
  end
  return low
end

local names, scores, more = {}, {}, ''
if ARGV[4] ~= '' then
  names = call('ZRANGEBYLEX', KEYS[1], ARGV[4], '+', 'LIMIT', 0, ARGV[3])
else
  local first = ARGV[5] == '' and call('ZCOUNT', KEYS[1], '-inf', ARGV[1]) or up_to(KEYS[1], ARGV[5], ARGV[6])
  local found = call('ZRANGE', KEYS[1], first, first + ARGV[3] - 1, 'WITHSCORES')
  for place = 1, #found, 2 do names[#names + 1] = found[place] end
  if first + #names < call('ZCARD', KEYS[1]) then more = found[#found] or '' end
end
local found, moving = { 0, more }, 0
for _, name in ipairs(names) do
  local record, bare = read(ARGV[2] .. name), ''
  if record and record.session then
    bare = string.sub(record.head, 1, 68) .. '\0\0\0\0' .. string.sub(record.head, 73, record.last)
  end
  if ARGV[7] then moving = moving + call('EXISTS', ARGV[7] .. name, ARGV[8] .. name) end
  found[#found + 1] = name
  found[#found + 1] = bare
end
found[1] = moving
return found
