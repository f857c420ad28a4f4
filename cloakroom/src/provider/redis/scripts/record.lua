-- Every script begins with this: the record of a session, a string in the native format (docs/format.md). The sessions of a user or a
-- label, the deadlines and the keys of a partition are sorted sets beside it, in the same slot.
--
-- KEYS: 1 the session, 2 the partition's deadlines, 3 its keys, 4 what is moving (on a cluster).
-- ARGV: 1 the time in milliseconds, 2 what the name of a user's set begins with, 3 the session's name in the sets.

local DONE, STALE, GONE, TAKEN, CORRUPT, MOVING = 0, 1, 2, 3, 4, 5
-- The tags of the fields that a session is found by.
local USER, LABEL = 1, 133
local now = tonumber(ARGV[1])
local fields = struct.unpack

-- What stands before a record's data; false if that is no record. Beside what is written there:
--   lives     it has not ended; a tombstone, too, is remembered only so long
--   session   it lives and is no tombstone
--   latest    when it ends at the latest while its places in the sets stay as they are: see sets.lua
--   entries   what the session is found by: the tag and the value of its user and of each label; none of a tombstone
--   index     the same as one text, for a comparison
local function parse(head)
  if #head < 72 then return false end
  local mark, format, version, used_high, used_low, idle_high, idle_low, end_high, end_low, _, _, length =
    fields('>c4Bxxxc8xxxxxxxxxxxxxxxxI4I4I4I4I4I4I4I4I4', head)
  local last = 72 + length
  -- A newer format has the same header and the same fields for the user and for tombstones.
  if mark ~= 'CLKR' or format < 1 or last > #head then return false end
  local deadline, absolute = idle_high * 4294967296 + idle_low, end_high * 4294967296 + end_low
  local idle = deadline - used_high * 4294967296 - used_low
  local eighth = idle < 8 and 1 or (idle - idle % 8) / 8
  if deadline > absolute then deadline = absolute end
  local latest = deadline - deadline % eighth + eighth
  local entries, index, tombstone = {}, '', false
  local at = 73
  while at + 2 <= last do
    local tag, len = fields('>BI2', head, at)
    if tag == USER or tag == LABEL then
      entries[#entries + 1] = { tag = tag, value = string.sub(head, at + 3, at + 2 + len) }
      index = index .. string.sub(head, at, at + 2 + len)
    end
    if tag == 2 or tag == 4 then tombstone = true end
    at = at + 3 + len
  end
  return {
    head = head, last = last, version = version, tombstone = tombstone,
    entries = tombstone and {} or entries, index = tombstone and '' or index,
    deadline = deadline, latest = latest > absolute and absolute or latest,
    lives = deadline > now, session = deadline > now and not tombstone,
  }
end

-- The record under a key; nil if there is none, false if what is there is no record. At most 4,096 bytes of fields stand before the data.
local function read(key)
  local head, failed = try('GETRANGE', key, 0, 4167)
  if failed then
    if string.find(failed, 'WRONGTYPE', 1, true) then return false end
    error({ refused = reason('GETRANGE', failed) }, 0)
  end
  if head == '' then return nil end
  return parse(head)
end
