"""The answer to an EventSource while the service is unavailable for a moment.

A browser's EventSource reconnects when its stream ends or its connection breaks. Any status but 200 ends the
EventSource for good (WHATWG HTML §9.2.2, "fail the connection"). So a 502 of the gateway during a restart of a service
would stop the events until the page is loaded again. With SSE_UNAVAILABLE=retry the gateway answers with an event
stream of one line, `retry: <ms>`, and a clean end.

Only the gateway's own 502, 503 and 504 are replaced. Statuses of the service are forwarded, and 401, 403, 404 and 429
stay, because a reconnect would not help.
"""

import random
from collections.abc import Sequence

from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.http.negotiation import accepts_nothing_else
from tornado_gateway.policy.http.sse import EVENT_STREAM

RETRY, STATUS = "retry", "status"  # values of SSE_UNAVAILABLE

TRANSIENT = (502, 503, 504)  # the gateway's own statuses after which a reconnect may succeed
METHODS = (b"GET", b"HEAD")  # an EventSource sends GET; a HEAD has the same answer as GET (RFC 9110 §9.3.2)

SHORTEST = 1.0  # seconds until a client reconnects; the shortest Retry-After above 0
LONGEST = 60.0  # seconds until a client reconnects; a breaker may stay open longer, but a service may recover earlier
SPREAD = 4.0  # least seconds over which reconnects are spread: the width of RETRY_MS in policy/http/sse.py
SHARE_OF_SPREAD = 0.5  # share of the wait over which reconnects are spread, if more: long outages collect clients


def comes_back(error: GatewayError, *, mode: str, method: bytes, accept: Sequence[bytes]) -> bool:
    """Whether to answer a failure with an event stream that makes the client reconnect.

    Args:
        error: the gateway's own error.
        mode: RETRY or STATUS.
        method: of the request.
        accept: the values of the request's Accept fields. Without a value the client may not be an EventSource, so
            the status is sent.
    """
    return (
        mode == RETRY and error.status in TRANSIENT and method in METHODS and accepts_nothing_else(accept, EVENT_STREAM)
    )


def pause(retry_after: float, rng: random.Random) -> float:
    """Random seconds until a client should reconnect, from SHORTEST to LONGEST.

    Args:
        retry_after: least seconds to wait, for example until a breaker half-opens; 0 if unknown.
    """
    earliest = min(max(retry_after, SHORTEST), LONGEST / (1 + SHARE_OF_SPREAD))
    return rng.uniform(earliest, earliest + max(SPREAD, earliest * SHARE_OF_SPREAD))


def retry_line(seconds: float) -> bytes:
    """An event stream that only sets the reconnection time.

    >>> retry_line(1.5)
    b'retry: 1500\\n\\n'
    """
    return b"retry: %d\n\n" % round(seconds * 1000)
