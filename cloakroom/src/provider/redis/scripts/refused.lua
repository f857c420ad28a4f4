-- Every script ends with this. As the script's own reply an error would have another form with each version of the server.
local ok, answer = pcall(main)
if ok then return answer end
if type(answer) ~= 'table' then error(answer, 0) end
return { 'cloakroom:refused', answer.refused, wrote }
