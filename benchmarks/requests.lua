-- Requests for wrk: POST each body of a file, or GET each path, one a line, over and over, beginning after a given number
-- of them.
-- wrk ... -s requests.lua URL -- BODIES FIRST, with the access token in the environment as TOKEN.

local requests = {}
local place = 0

function init(args)
  local headers = {["Authorization"] = "Bearer " .. os.getenv("TOKEN"), ["Content-Type"] = "application/json"}
  for line in io.lines(args[1]) do
    local is_path = line:sub(1, 1) == "/"
    requests[#requests + 1] = is_path and wrk.format("GET", line) or wrk.format("POST", nil, headers, line)
  end
  place = tonumber(args[2])
end

function request()
  place = place % #requests + 1
  return requests[place]
end

-- Times are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nfigures {"requests": %d, "duration": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
