-- A page of a set, without the sessions' data. KEYS: 1 the set. ARGV: 2 what the names of records begin with, 3 the page's length. Of a
-- partition's keys: 4 the first name. Of a user's set: 5 and 6 the score and the name after which it begins, if not at the start.
-- 7 and 8 (on a cluster) what the names of notes and marks of moves begin with.

-- Whether a name comes before another, byte by byte as in a set; the language's own order is that of a locale.
local function before(one, other)
  for place = 1, math.min(#one, #other) do
    local a, b = string.byte(one, place), string.byte(other, place)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- How many entries of the set stand up to this one, which may have gone. Many may have the same score.
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
