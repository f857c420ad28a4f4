-- Runs every command of the other scripts on keys of its own, so that a missing right is an error at startup and not for a visitor.
-- KEYS: 1 to 3 the keys.
call('PEXPIRE', KEYS[1], 1000)
call('SET', KEYS[1], 'x', 'PX', 1000)
call('SETRANGE', KEYS[1], 0, 'y')
call('GETRANGE', KEYS[1], 0, 0)
call('GET', KEYS[1])
call('EXISTS', KEYS[1])
call('RENAME', KEYS[1], KEYS[2])
call('PERSIST', KEYS[2])
call('ZADD', KEYS[3], 'GT', 1, 'x')
call('ZCARD', KEYS[3])
call('ZCOUNT', KEYS[3], '-inf', 0)
call('ZRANGE', KEYS[3], 0, 0)
call('ZRANGEBYSCORE', KEYS[3], '-inf', 0)
call('ZRANGEBYLEX', KEYS[3], '-', '+')
call('ZREM', KEYS[3], 'x')
call('DEL', KEYS[1], KEYS[2], KEYS[3])
if ARGV[2] == 'cluster' then call('TIME') end
return DONE
