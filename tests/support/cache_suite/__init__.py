"""The public test suite of HTTP caches (http-tests/cache-tests), run against the gateway and against other caches."""
