-- Alerts for wrk, each of an incident key of its own; the token is that of SERVICEPILOT_TOKEN. SIZING.md says how it is
-- used.
local count, threads = 0, 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function request()
  count = count + 1
  local id = "host-" .. thread_number .. "-" .. count
  local headers = { ["Authorization"] = "Bearer " .. os.getenv("SERVICEPILOT_TOKEN"), ["Content-Type"] = "application/json" }
  return wrk.format("POST", "/hooks/servicepilot", headers,
    '{"servicepilot_event_id": "' .. id .. '", "state": "CRITICAL", "title": "High CPU usage on ' .. id .. '", "host": "'
    .. id .. '", "service": "payments", "severity": "HIGH", "description": "CPU usage is above 95 % for 5 minutes"}')
end
