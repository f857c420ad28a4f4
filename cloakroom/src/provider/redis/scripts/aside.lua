-- Sets aside a value that is not a record.
-- KEYS: 4 the new key. ARGV: 4 the bytes that were read, or '' if the value cannot be read; 5 the time to keep it, in ms.
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
