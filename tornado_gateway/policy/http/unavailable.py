"""What an EventSource is told while its service, or the gateway, is away for a moment.

A browser's EventSource comes back when its stream ends or its connection breaks. Any status but 200 ends the
EventSource for good (WHATWG HTML §9.2.2, "fail the connection"). So a 502 of the gateway during a restart of a service
would do what the restart itself does not: take the stream away until the page is loaded again. With
SSE_UNAVAILABLE=retry the gateway answers such a request with an event stream of one line, `retry: <ms>`, and a clean
end.

That holds for the gateway's own 502, 503 and 504. The service's own statuses pass, and what the client could only
repeat in vain (401, 403, 404, 429) stays what it is.
"""

import random
from collections.abc import Sequence

from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.http.negotiation import accepts_nothing_else
from tornado_gateway.policy.http.sse import EVENT_STREAM

RETRY, STATUS = "retry", "status"  # what SSE_UNAVAILABLE may say

PASSING = (502, 503, 504)  # statuses of the gateway's own that say nothing against asking again
METHODS = (b"GET", b"HEAD")  # an EventSource asks by GET; HEAD is answered as GET would be (RFC 9110 §9.3.2)

SHORTEST = 1.0  # seconds until a client comes back; as long as a Retry-After can be short
LONGEST = 60.0  # seconds; a breaker may be open for longer, but a service that is back should not wait for its clients
SPREAD = 4.0  # seconds over which clients are spread at least, as at any end of a stream: policy/http/sse.py's RETRY_MS
SHARE_OF_SPREAD = 0.5  # of the wait, where that is more: a long outage collects more clients


def comes_back(error: GatewayError, *, mode: str, method: bytes, accept: Sequence[bytes]) -> bool:
    """Whether a failure is answered with an event stream that tells the client to come back.

    Args:
        error: a failure of the gateway's own.
        mode: RETRY or STATUS.
        method: of the request.
        accept: the values of the request's Accept fields. Without any, the client may be anybody, who is better told
            the status.
    """
    return (
        mode == RETRY and error.status in PASSING and method in METHODS and accepts_nothing_else(accept, EVENT_STREAM)
    )


def pause(retry_after: float, rng: random.Random) -> float:
    """Seconds until a client should come back: SHORTEST to LONGEST, each client another time.

    Args:
        retry_after: seconds that the failure asks for, such as the rest of a breaker's opening; 0 for no wish.
    """
    earliest = min(max(retry_after, SHORTEST), LONGEST / (1 + SHARE_OF_SPREAD))
    return rng.uniform(earliest, earliest + max(SPREAD, earliest * SHARE_OF_SPREAD))


def retry_line(seconds: float) -> bytes:
    """A whole event stream that says when to come back.

    >>> retry_line(1.5)
    b'retry: 1500\\n\\n'
    """
    return b"retry: %d\n\n" % round(seconds * 1000)
