-- Counts a request under several rules, if all rules admit the request; counts nothing otherwise. Or adds the cost of a
-- request that was admitted, whatever the rules say.
--
-- KEYS[i]           the key of the request under rule i
-- ARGV[4 * i - 3]   algorithm of rule i: "gcra" or "sliding"
-- ARGV[4 * i - 2]   limit: requests per window
-- ARGV[4 * i - 1]   window in microseconds
-- ARGV[4 * i]       burst; of a sliding window: number of slices
-- ARGV[#ARGV]       requests to add in any case; 0: one request, if all rules admit the request
--
-- Returns, for each rule: wait, remaining, renewal, reset (see Judgement in policy/limits/algorithms.py), with times in
-- microseconds. The clock is the clock of Redis, so that all processes agree.
--
-- The state of "gcra" is the number of requests that have not yet leaked out of the bucket, and the instant: the leaky
-- bucket is the generic cell rate algorithm in other units (ITU-T I.371), and keeps whole requests whole in floats.

local LEAST = 1e-6 -- of a request: what rounding may add

local cost = tonumber(ARGV[#ARGV])
local added = math.max(1, cost)
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function numbers(text)
  local found = {}
  for each in string.gmatch(text or '', '%S+') do
    found[#found + 1] = tonumber(each)
  end
  return found
end

local function gcra(state, limit, window, burst)
  local used, each = 0, window / limit
  if state[2] then
    used = math.max(0, state[1] - math.max(0, now - state[2]) / each)
  end
  local free = burst - used
  if cost == 0 and free + LEAST < 1 then
    local wait = (1 - free) * each
    return { wait, 0, wait, used * each }
  end
  used, free = used + added, free - added
  local remaining = math.max(0, math.floor(free + LEAST))
  local value = string.format('%.9f %.0f', used, now)
  return { 0, remaining, (remaining + 1 - free) * each, used * each, value, used * each }
end

local function sliding(state, limit, window, slices)
  local slice = math.ceil(window / slices)
  local newest, counts, total = math.floor(now / slice), {}, 0
  local passed = state[1] and math.max(0, newest - state[1]) or slices + 1
  newest = math.max(newest, state[1] or 0)
  for age = 0, slices do
    counts[age] = age >= passed and state[age - passed + 2] or 0
    total = total + counts[age]
  end
  local function untilGone(number)
    local age = slices
    while age > 0 and number > counts[age] do
      number = number - counts[age]
      age = age - 1
    end
    return (newest - age + slices + 1) * slice - now
  end
  if cost == 0 and total >= limit then
    local wait = untilGone(total - limit + 1)
    return { wait, 0, wait, untilGone(total) }
  end
  counts[0] = counts[0] + added
  local value = { string.format('%.0f', newest) }
  for age = 0, slices do
    value[age + 2] = string.format('%.0f', counts[age])
  end
  local reset = untilGone(total + added)
  return { 0, math.max(0, limit - total - added), untilGone(1), reset, table.concat(value, ' '), reset }
end

local algorithms, judgements, admitted = { gcra = gcra, sliding = sliding }, {}, true
for i, key in ipairs(KEYS) do
  local judge, limit = algorithms[ARGV[4 * i - 3]], tonumber(ARGV[4 * i - 2])
  local state = numbers(redis.call('GET', key) or '')
  judgements[i] = judge(state, limit, tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i]))
  admitted = admitted and judgements[i][1] == 0
end

local answer = {}
for i, key in ipairs(KEYS) do
  local found = judgements[i]
  if admitted then
    redis.call('SET', key, found[5], 'PX', string.format('%.0f', math.ceil(found[6] / 1000) + 1))
  end
  answer[i] = { math.ceil(found[1]), found[2], math.ceil(found[3]), math.ceil(found[4]) }
end
return answer
