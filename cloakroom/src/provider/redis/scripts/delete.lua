local record = read(KEYS[1])
if record == false then return CORRUPT end
if not (record and record.session) then return GONE end
local busy = moving()
if busy then return busy end
reach(record)
call('DEL', KEYS[1])
unindex(ARGV[3], record)
return DONE
