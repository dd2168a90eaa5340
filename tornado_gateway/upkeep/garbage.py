"""How often CPython's garbage collector looks for circles of objects.

The collector looks at the young objects once there are as many more containers (lists, tuples, instances) as a
threshold says. CPython's threshold of 700 is less than 64 requests in flight have: each group of requests caused a
look, in which the requests in flight counted as lasting objects. With responses that are stored and pushed out, every
second brought 85 such looks, and a look at all stored responses of 15 to 60 ms. Measured with `python -m benchmarks
kib-varied cache-miss`, on one machine: a miss cost 137 to 142 µs of CPU time, and 86 to 114 µs with YOUNG; the p99
fell from 20 ms to 12 ms.
"""

import gc

# Containers that are made before the collector looks at the young objects: a look at as many takes about a
# millisecond. Circles are rare on the paths of requests; 10,000 containers in circles take some 2 MiB until the look.
YOUNG = 10_000


def settle() -> None:
    """Count all objects made so far as permanent, and look for circles less often. Call once the process serves.

    The collector does not traverse permanent objects (measured: looks at all objects of 0.1 ms instead of 15 ms).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
