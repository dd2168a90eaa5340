-- Numbers a purge, keeps the latest, and tells all gateways: at once, so that gateways hear purges in their order.
-- KEYS: number, log    ARGV: channel, gateway, purge, how many purges are kept
local number = redis.call('INCR', KEYS[1])
local entry = number .. ' ' .. ARGV[2] .. ' ' .. ARGV[3]
redis.call('LPUSH', KEYS[2], entry)
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
redis.call('PUBLISH', ARGV[1], 'purge ' .. entry)
return number
