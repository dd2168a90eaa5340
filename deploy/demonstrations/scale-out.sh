#!/usr/bin/env bash
# Two gateways with one Redis share a limit of ten requests: of twenty requests to both in turn, ten get 429. An endpoint
# that an operator drains at one gateway is drained at the other.
#
#     bash deploy/demonstrations/scale-out.sh
#
# Needs redis-server. PYTHON names the interpreter, .venv/bin/python by default.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
free() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ports=("$(free)" "$(free)") service=$(free) redis=$(free)
export HOST=127.0.0.1 ACCESS_LOG=false LOG_FORMAT=text RATE_LIMIT_ALGORITHM=sliding
export SHARED_ENDPOINTS_SECRET=$(printf 'demo%.0s' {1..8})
export REDIS_URL=redis://127.0.0.1:$redis
export UPSTREAMS="{\"files\": {\"endpoints\": [\"http://127.0.0.1:$service\"], \"rateLimitMax\": 10}}"
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

redis-server --port "$redis" --bind 127.0.0.1 --save '' >/dev/null &
"$python" -m http.server "$service" --bind 127.0.0.1 >/dev/null 2>&1 &
until (: <"/dev/tcp/127.0.0.1/$service") 2>/dev/null && (: <"/dev/tcp/127.0.0.1/$redis") 2>/dev/null; do sleep 0.1; done
for port in "${ports[@]}"; do
  PORT=$port "$python" -m tornado_gateway &
  until curl -sf "http://127.0.0.1:$port/readyz" >/dev/null; do sleep 0.1; done
done

statuses=$(for number in $(seq 20); do
  curl -s -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:${ports[number % 2]}/api/files/LICENSE"
done | sort | uniq -c | awk '{print $1 " times " $2}')
echo "$statuses"
[ "$statuses" = $'10 times 200\n10 times 429' ]

curl -sf -o /dev/null "http://127.0.0.1:${ports[0]}/admin/api/drain" \
  -d "{\"service\": \"files\", \"endpoint\": \"http://127.0.0.1:$service\"}"
for _ in $(seq 50); do
  curl -sf "http://127.0.0.1:${ports[1]}/admin/api/services" | grep -q '"state": *"drained"' && break || sleep 0.1
done
curl -sf "http://127.0.0.1:${ports[1]}/admin/api/services" | grep -q '"state": *"drained"'
echo "drained at one gateway, drained at both"
