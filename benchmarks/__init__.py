"""Measurements, each a program of its own:

    python -m benchmarks            what a request, an event and a stream cost beside other proxies (cost/)
    python -m benchmarks.balancing  what each balancer makes of endpoints that differ, in virtual time
    python -m benchmarks.choosing   what the choice of an endpoint costs among many
    python -m benchmarks.soak       whether memory stays flat under mixed load with aborts
    python -m benchmarks.trace      the calls of one request, by phases
    python -m benchmarks.counts     what a source tree is like, two commits side by side

Files beside this one serve several of the programs: processes.py (how a process tree is pinned, read and ended),
programs.py, readiness.py, machine.py and streams.py (both ends of event streams and WebSockets, as bytes).
"""
