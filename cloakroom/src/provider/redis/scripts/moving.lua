-- Returns nil if the session may change. On a cluster, a session that is being moved to another slot may not: returns its lock, and 1
-- if the lock has expired.
local function moving()
  local note = KEYS[4] and call('GET', KEYS[4])
  if not note then return nil end
  local time = call('TIME')
  local high, low = fields('>I4I4', note, 17)
  local over = time[1] * 1000 + math.floor(time[2] / 1000) >= high * 4294967296 + low
  return { MOVING, note, over and 1 or 0 }
end
