"""What the gateway costs beside nginx, haproxy, Envoy, Traefik, Caddy and a plain aiohttp proxy, on the same work.

    python -m benchmarks                       every scenario, the tables of docs/benchmarks.md
    python -m benchmarks http churn --rounds 5
    python -m benchmarks --help

The figure that counts is CPU time: the microseconds that a proxy's process tree
spends per piece of work, read from /proc, as a ratio to nginx measured in the same run.
Unlike requests per second it says the same on a busy machine, and it is what a
deployment pays for.

    core 1                             core 0                   core 1
    wrk ──────────── loopback ────► one proxy at a time ────► nginx as the upstream
    stream_load.py's clients ─────► one proxy at a time ────► stream_load.py's service

Event streams and WebSockets are measured per event and per round trip, and idle ones by
the memory that each takes.

Reading order: scenarios.py (what is measured), loads.py and stream_load.py (how), peers.py
(on whom), processes.py (how a process tree is pinned, read and ended), report.py (the tables).
"""
