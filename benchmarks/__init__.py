"""Measurements, each a program of its own:

    python -m benchmarks            what a request, an event and a stream cost beside other proxies (cost/)
    python -m benchmarks.balancing  latency, errors and imbalance of each balancer, in virtual time
    python -m benchmarks.choosing   CPU time of choosing an endpoint among many
    python -m benchmarks.features   what a feature costs a request
    python -m benchmarks.workers    what a further worker costs a request
    python -m benchmarks.overload   latencies while there is more to do than can be done
    python -m benchmarks.scrape     CPU time of a scrape of many endpoints
    python -m benchmarks.reloads    how long a reload of many endpoints keeps the event loop
    python -m benchmarks.soak       whether memory stays flat under mixed load with aborts
    python -m benchmarks.trace      the calls of a request, by phases
    python -m benchmarks.counts     counts of a source tree, for several commits side by side

Several programs share processes.py (pins, measures and ends a process tree), programs.py, readiness.py, machine.py and
streams.py (encodes and decodes event streams and WebSockets).
"""
