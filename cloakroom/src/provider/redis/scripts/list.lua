-- What stands in a set, without the sessions' data. KEYS: 1 the set. ARGV: 2 what the names of records begin with, 3 the first name of a
-- page, or nothing for all that lives, 4 the page's length, 5 and 6 (on a cluster) what the names of notes and marks of moves begin with.
local names
if ARGV[3] == '' then
  names = call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')
else
  names = call('ZRANGEBYLEX', KEYS[1], ARGV[3], '+', 'LIMIT', 0, ARGV[4])
end
local found, moving = { 0 }, 0
for _, name in ipairs(names) do
  local record, bare = read(ARGV[2] .. name), ''
  if record and record.session then
    bare = string.sub(record.head, 1, 68) .. '\0\0\0\0' .. string.sub(record.head, 73, record.last)
  end
  if ARGV[5] then moving = moving + call('EXISTS', ARGV[5] .. name, ARGV[6] .. name) end
  found[#found + 1] = name
  found[#found + 1] = bare
end
found[1] = moving
return found
