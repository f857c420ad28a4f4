-- Commands that write. A full server refuses the ones that need memory, unless the script has written something before.
local WRITES = {
  SET = true, SETRANGE = true, PEXPIRE = true, PERSIST = true, DEL = true, RENAME = true, ZADD = true, ZREM = true,
}
local wrote = 0

-- Returns the code of an error and the failed command, in one form for all versions of the server.
local function reason(name, text)
  text = string.gsub(string.gsub(text, '^@?user_script:%s*%d+:%s*', ''), '^%-', '')
  local code = string.match(text, '^(%u+)%f[%A]') or 'ERR'
  if string.find(text, 'ACL failure', 1, true) or string.find(text, 'The user executing the script', 1, true) then
    code = 'NOPERM'
    if string.find(text, ' key', 1, true) then name = name .. ' on this key' end
  elseif string.find(text, 'non local key', 1, true) then
    -- The slot is being migrated, and this key has moved already.
    code = 'TRYAGAIN'
  elseif string.find(text, 'nknown Redis command', 1, true) then
    code = 'ERR unknown command'
  end
  return code .. ' in the script: ' .. name
end

-- Runs a command. Returns its reply, or nil and its error.
local function try(name, ...)
  local reply = redis.pcall(name, ...)
  if type(reply) == 'table' and reply.err then return nil, reply.err end
  if WRITES[name] then wrote = 1 end
  return reply
end

-- Runs a command and returns its reply. An error ends the script, and refused.lua reports it.
local function call(name, ...)
  local reply, failed = try(name, ...)
  if failed then error({ refused = reason(name, failed) }, 0) end
  return reply
end
