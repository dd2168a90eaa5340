"""The bounds of 1xx responses before one final response.

A 1xx response shows that the service is at work, and gives the service its timeout again (RFC 9110 §15.2). A service
that sends nothing but 1xx responses must end nevertheless.
"""

from tornado_gateway.errors import UpstreamInvalid

# As many bytes as the final head may have. A bound of the number of responses breaks services that report progress:
# 64 KiB are 2600 of "102 Processing".
MAX_BYTES = 64 * 1024
TIMEOUTS = 10  # for which 1xx responses put off the deadline in all


class InterimResponses:
    """The 1xx responses of one exchange.

    Args:
        now: instant of the first 1xx response.
        timeout: seconds of the exchange.

    Attributes:
        until: instant up to which 1xx responses put off the deadline.
    """

    __slots__ = ("_bytes", "until")

    def __init__(self, now: float, timeout: float) -> None:
        self._bytes = 0
        self.until = now + TIMEOUTS * timeout

    def count(self, size: int) -> None:
        """Count a response.

        Args:
            size: bytes of the head.

        Raises:
            UpstreamInvalid: all heads together are larger than MAX_BYTES.
        """
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise UpstreamInvalid(f"the service sent more than {MAX_BYTES} bytes of interim responses")
