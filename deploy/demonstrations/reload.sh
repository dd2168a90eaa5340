#!/usr/bin/env bash
# A service is added by SIGHUP while requests come; a file that is broken changes nothing, and no request is lost.
#
#     bash deploy/demonstrations/reload.sh
#
# PYTHON names the interpreter, .venv/bin/python by default.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python} folder=$(mktemp -d)
free() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free) service=$(free)
export HOST=127.0.0.1 ACCESS_LOG=false LOG_FORMAT=text
export PORT=$port UPSTREAMS_FILE=$folder/services.json
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

ask() { curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/api/$1/LICENSE" || true; }
until_status() { until [ "$(ask "$1")" = "$2" ]; do sleep 0.1; done; }

echo "{\"files\": [\"http://127.0.0.1:$service\"]}" >"$folder/services.json"
"$python" -m http.server "$service" --bind 127.0.0.1 >/dev/null 2>&1 &
"$python" -m tornado_gateway & gateway=$!
until_status files 200

while [ ! -e "$folder/end" ]; do
  [ "$(ask files)" = 200 ] && echo answered || echo lost
  sleep 0.01
done >"$folder/requests" & client=$!

echo '{"broken' >"$folder/services.json"
kill -HUP "$gateway"
sleep 1
echo "after a broken file: files $(ask files), more $(ask more)"

echo "{\"files\": [\"http://127.0.0.1:$service\"], \"more\": [\"http://127.0.0.1:$service\"]}" >"$folder/services.json"
kill -HUP "$gateway"
until_status more 200
echo "after a reload: files $(ask files), more $(ask more)"

touch "$folder/end"
wait "$client"
answered=$(grep -c answered "$folder/requests") lost=$(grep -c lost "$folder/requests" || true)
echo "answered: $answered, lost: $lost"
[ "$lost" = 0 ]
