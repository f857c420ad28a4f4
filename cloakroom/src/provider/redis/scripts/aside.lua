-- Puts aside what is no record. KEYS: 4 where to. ARGV: 4 what was read, if that is what counts; nothing for what no script can read.
-- 5 how long it is kept in ms.
if ARGV[4] ~= '' then
  if call('GET', KEYS[1]) ~= ARGV[4] then return GONE end
elseif call('EXISTS', KEYS[1]) == 0 or read(KEYS[1]) then
  return GONE
end
call('RENAME', KEYS[1], KEYS[4])
call('PEXPIRE', KEYS[4], ARGV[5])
call('ZREM', KEYS[2], ARGV[3])
call('ZREM', KEYS[3], ARGV[3])
return DONE
