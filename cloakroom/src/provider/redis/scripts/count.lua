-- Counts the live sessions of a partition. Removes expired ones first; if the server refuses writes, only leaves them out.
-- KEYS: only 2 and 3. ARGV: 3 the prefix of records, 4 the most expired entries to examine; on a server that evicts, 5 the first
-- session to examine and 6 the most sessions to examine.
-- Returns the count, 1 if the script must run again, and the session after which the next call goes on ('' at the end).
local ok, failed = pcall(collect_sessions, ARGV[3], ARGV[4])
local over = 0
if not ok then
  if type(failed) ~= 'table' or wrote == 1 then error(failed, 0) end
  for _, name in ipairs(call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[4])) do
    local record = read(ARGV[3] .. name)
    if not (record and record.session) then over = over + 1 end
  end
  if call('ZCOUNT', KEYS[2], '-inf', ARGV[1]) > tonumber(ARGV[4]) then error(failed, 0) end
elseif call('ZCOUNT', KEYS[2], '-inf', ARGV[1]) > 0 then
  return { 0, 1, '' }
end
if not ARGV[5] then return { call('ZCARD', KEYS[2]) - over, 0, '' } end
-- Removes the entries of evicted sessions from the sets.
local names, gone = call('ZRANGEBYLEX', KEYS[3], ARGV[5], '+', 'LIMIT', 0, ARGV[6]), {}
for _, name in ipairs(names) do
  if call('EXISTS', ARGV[3] .. name) == 0 then gone[#gone + 1] = name end
end
if #gone > 0 and not failed then
  call('ZREM', KEYS[2], unpack(gone))
  call('ZREM', KEYS[3], unpack(gone))
end
return { #names - #gone, 0, #names == tonumber(ARGV[6]) and names[#names] or '' }
