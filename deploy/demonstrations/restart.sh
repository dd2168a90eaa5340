#!/usr/bin/env bash
# A gateway is replaced three times while requests come, each on a connection of its own; a request that is lost is shown.
#
#     bash deploy/demonstrations/restart.sh
#
# PYTHON names the interpreter, .venv/bin/python by default.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python} folder=$(mktemp -d)
free() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free) service=$(free)
export HOST=127.0.0.1 ACCESS_LOG=false LOG_FORMAT=text TAKEOVER_SOCKET=$folder/takeover.sock
export PORT=$port UPSTREAMS="{\"files\": [\"http://127.0.0.1:$service\"]}"
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

until_ready() { until curl -sf "http://127.0.0.1:$port/api/files/LICENSE" >/dev/null; do sleep 0.1; done; }

"$python" -m http.server "$service" --bind 127.0.0.1 >/dev/null 2>&1 &
"$python" -m tornado_gateway & gateway=$!
until_ready 2>/dev/null

while [ ! -e "$folder/end" ]; do
  curl -sf "http://127.0.0.1:$port/api/files/LICENSE" -o /dev/null && echo answered || echo lost
  sleep 0.01
done >"$folder/requests" & client=$!

for number in 1 2 3; do
  "$python" -m tornado_gateway --takeover & successor=$!
  wait "$gateway"  # until the old process has drained, and ended well
  gateway=$successor
  echo "replaced: $number"
done
touch "$folder/end"
wait "$client"
answered=$(grep -c answered "$folder/requests") lost=$(grep -c lost "$folder/requests" || true)
echo "answered: $answered, lost: $lost"
[ "$lost" = 0 ]
