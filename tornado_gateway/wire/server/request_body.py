"""The body of a request while the body is being read: its framing, its size and its pace."""

from tornado_gateway.errors import ContentTooLarge
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.pace import Pace
from tornado_gateway.wire.http1 import Body, ChunkedBody, LengthBody


class RequestBody:
    """The body of one request.

    Attributes:
        received: bytes of payload so far.
    """

    __slots__ = ("_framing", "_pace", "received")

    def __init__(self, framing: Body) -> None:
        self._framing = framing
        self._pace: Pace | None = None  # None while others than the client were waited for
        self.received = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes off the wire.

        Returns:
            The payload, and the bytes behind the body; None instead of the latter until the body is complete.

        Raises:
            BadRequest: the framing is malformed.
        """
        payload, rest = self._framing.feed(data)
        self.received += len(payload)
        return payload, rest

    def check_announced_size(self, limit: int | None) -> None:
        """Refuse a body by its Content-Length, before the first byte is read.

        Raises:
            ContentTooLarge: the body has more than `limit` bytes.
        """
        if isinstance(self._framing, LengthBody):
            _check(self._framing.left, limit)

    def check_size(self, limit: int | None) -> None:
        """
        Raises:
            ContentTooLarge: more than `limit` bytes have been received.
        """
        _check(self.received, limit)

    def restart_pace(self) -> None:
        """Begin a new window: the client was not waited for, so the window that runs says nothing of the client."""
        self._pace = None

    def judge_window(self, now: float, rate: float) -> bool:
        """Whether fewer than `rate` bytes per second have been received in the window that ends now."""
        if self._pace is None:
            self._pace = Pace(now, self.received)
            return False
        return self._pace.judge_window(now, self.received, rate)

    @property
    def trailers(self) -> list[Field]:
        """The fields behind a chunked body, once the body is complete."""
        return self._framing.trailers if isinstance(self._framing, ChunkedBody) else []


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise ContentTooLarge(f"the request's body is larger than {limit} bytes")
