"""Whether a request that failed before its response began is sent again, and where.

What failed                         sent again
──────────────────────────────────  ─────────────────────────────────────────────────────
no connection was made              to another endpoint: nothing was sent
a kept connection ended silently    once, over a new connection to the same endpoint, if the
                                    method is idempotent or nothing of the body was sent: the
                                    server closed it while the request was on its way
any other connection ended          to another endpoint, if the method is idempotent
too slow, or not HTTP               not at all: a second try would double the wait
an event stream, not too slow       to another endpoint, whatever failed, if the method is idempotent or POST:
                                    to a client that waits for events, none have come

and only while the body can be sent again from its beginning. Any other request that may have
been carried out is never repeated (RFC 9110 §9.2.2).
"""

from enum import Enum

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, UpstreamError, UpstreamReset, UpstreamTimeout

# RFC 9110 §9.2.2, and those registered as idempotent since (RFC 4918, RFC 3253, QUERY).
IDEMPOTENT = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"QUERY", b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE",
     b"REPORT", b"SEARCH")
)  # fmt: skip

REPLAY_BYTES = 64 * 1024  # of a body that are kept for a second try; Linkerd keeps as much


class Again(Enum):
    """Where to send a request again."""

    NOWHERE = "nowhere"
    SAME_ENDPOINT = "same endpoint"
    OTHER_ENDPOINT = "other endpoint"


def again(
    error: UpstreamError,
    *,
    is_repeatable: bool,
    reused: bool,
    body_sent: bool,
    replayable: bool,
    heard: bool = False,
    awaits_stream: bool = False,
) -> Again:
    """Decide on a request of whose response the client has seen nothing.

    Args:
        is_repeatable: whether carrying it out twice does no harm: its method is idempotent.
        reused: whether it went out on a kept connection.
        body_sent: whether anything of its body went out.
        replayable: whether its body, as far as it has come, is still at hand.
        heard: whether anything of a response has come.
        awaits_stream: whether the client waits for an event stream.
    """
    if not replayable:
        return Again.NOWHERE
    if isinstance(error, ConnectFailed | ConnectTimeout):
        return Again.OTHER_ENDPOINT
    if awaits_stream and not isinstance(error, UpstreamTimeout):
        is_repeatable = True
    elif heard or not isinstance(error, UpstreamReset):
        return Again.NOWHERE
    if reused and not heard and (is_repeatable or not body_sent):
        return Again.SAME_ENDPOINT
    return Again.OTHER_ENDPOINT if is_repeatable else Again.NOWHERE
