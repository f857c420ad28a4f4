-- The common end of every script: returns an error as data. A plain error reply has a different form in each version of the server.
local ok, answer = pcall(main)
if ok then return answer end
if type(answer) ~= 'table' then error(answer, 0) end
return { 'cloakroom:refused', answer.refused, wrote }
