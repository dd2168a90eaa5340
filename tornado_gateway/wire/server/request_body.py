"""The body of a request that is being read: framing, size limit and least rate."""

from tornado_gateway.errors import ContentTooLarge
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.pace import Pace
from tornado_gateway.wire.http1 import Body, ChunkedBody, LengthBody


class RequestBody:
    """The body of a request.

    Args:
        framing: the reader of the body.

    Attributes:
        received: bytes of payload received so far.
    """

    __slots__ = ("_framing", "_pace", "received")

    def __init__(self, framing: Body) -> None:
        self._framing = framing
        self._pace: Pace | None = None  # None before the first window, and after a pause of reading
        self.received = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Read bytes of the body.

        Returns:
            The payload, and the bytes behind the body once the body is complete, else None.

        Raises:
            BadRequest: the framing is malformed.
        """
        payload, rest = self._framing.feed(data)
        self.received += len(payload)
        return payload, rest

    def check_announced_size(self, limit: int | None) -> None:
        """Check the Content-Length against a limit.

        Raises:
            ContentTooLarge: Content-Length is greater than `limit`.
        """
        if isinstance(self._framing, LengthBody):
            _check(self._framing.left, limit)

    def check_size(self, limit: int | None) -> None:
        """Check the received bytes against a limit.

        Raises:
            ContentTooLarge: more than `limit` bytes have been received.
        """
        _check(self.received, limit)

    def restart_pace(self) -> None:
        """Begin a new window after a pause of reading, which is not the client's fault."""
        self._pace = None

    def judge_window(self, now: float, rate: float) -> bool:
        """Whether a window ended below `rate` bytes per second; see Pace.judge_window()."""
        if self._pace is None:
            self._pace = Pace(now, self.received)
            return False
        return self._pace.judge_window(now, self.received, rate)

    @property
    def trailers(self) -> list[Field]:
        """The trailers of a chunked body, once the body is complete."""
        return self._framing.trailers if isinstance(self._framing, ChunkedBody) else []


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise ContentTooLarge(f"the request's body is larger than {limit} bytes")
