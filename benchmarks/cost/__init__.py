"""CPU time and memory of the gateway, nginx, haproxy, Envoy, Traefik, Caddy and a plain aiohttp proxy.

    python -m benchmarks                       every scenario, the tables of docs/benchmarks.md
    python -m benchmarks http churn --rounds 5
    python -m benchmarks --help

The main figure is CPU time: microseconds of a proxy's process tree per piece of work, read from /proc, and the ratio to
nginx in the same run. Unlike requests per second, CPU time does not depend on the machine's other load, and CPU time is
what a deployment pays for.

    core 1                             core 0                   core 1
    wrk ──────────── loopback ────► one proxy at a time ────► nginx as the upstream
    stream_load.py's clients ─────► one proxy at a time ────► stream_load.py's service

Event streams and WebSockets are measured per event and per round trip; idle streams are measured by memory per stream.

Reading order: scenarios.py (the work), loads.py and stream_load.py (the load), peers.py (the proxies),
../processes.py (pins, measures and ends a process tree), report.py (the tables).
"""
