-- The common start of every script: reads a session's record, a string in the native format (docs/format.md). Sorted sets in the same
-- slot hold the deadlines and the keys of a partition, and the sessions of each user and label.
--
-- KEYS: 1 the session, 2 the partition's deadlines, 3 its keys, 4 the session's move lock (on a cluster).
-- ARGV: 1 the time in milliseconds, 2 the prefix of users' sets, 3 the session's name in the sets.

local DONE, STALE, GONE, TAKEN, CORRUPT, MOVING = 0, 1, 2, 3, 4, 5
-- The tags of the fields for the index entries.
local USER, LABEL = 1, 133
local now = tonumber(ARGV[1])
local fields = struct.unpack

-- Parses the part of a record before its data. Returns false if it is not a record. Computed fields:
--   lives     true before the deadline, also for a tombstone
--   session   true for a live session, not for a tombstone
--   latest    the latest deadline that needs no change in the sets: see sets.lua
--   entries   the index entries: tag and value of the user and of each label; none for a tombstone
--   index     the entries as one text, for comparisons
local function parse(head)
  if #head < 72 then return false end
  local mark, format, version, used_high, used_low, idle_high, idle_low, end_high, end_low, _, _, length =
    fields('>c4Bxxxc8xxxxxxxxxxxxxxxxI4I4I4I4I4I4I4I4I4', head)
  local last = 72 + length
  -- Every later format keeps this header, and the fields for the user and for tombstones.
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

-- Reads the record under a key. Returns nil if there is none, and false if the value is not a record. The header has 72 bytes and the
-- fields at most 4,096, so this reads no more.
local function read(key)
  local head, failed = try('GETRANGE', key, 0, 4167)
  if failed then
    if string.find(failed, 'WRONGTYPE', 1, true) then return false end
    error({ refused = reason('GETRANGE', failed) }, 0)
  end
  if head == '' then return nil end
  return parse(head)
end
