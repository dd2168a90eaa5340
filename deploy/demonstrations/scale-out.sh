#!/usr/bin/env bash
# Two gateways with one Redis share a limit of ten requests: of twenty requests to both in turn, ten get 429.
#
#     bash deploy/demonstrations/scale-out.sh
#
# Needs redis-server. PYTHON names the interpreter, .venv/bin/python by default.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
free() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ports=("$(free)" "$(free)") service=$(free) redis=$(free)
export HOST=127.0.0.1 ACCESS_LOG=false LOG_FORMAT=text RATE_LIMIT_MAX=10 RATE_LIMIT_ALGORITHM=sliding
export REDIS_URL=redis://127.0.0.1:$redis UPSTREAMS="{\"files\": [\"http://127.0.0.1:$service\"]}"
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
