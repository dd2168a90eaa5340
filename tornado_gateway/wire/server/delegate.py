"""What takes a request as it comes, beside Tornado's HTTPMessageDelegate."""

from collections.abc import Awaitable


class HeadDelegate:
    """A delegate that reads the exchange's head as it is, instead of Tornado's start line and HTTPHeaders.

    The exchange's close callback tells a HeadDelegate that the client has left. No name here is a name of Tornado's
    RequestHandler with another meaning, so that a handler can be a HeadDelegate.
    """

    def head_received(self) -> Awaitable[None] | None:
        """The head has come.

        Returns:
            An awaitable: the body is not read before its end. None: the body may be read at once.
        """
        raise NotImplementedError

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A piece of the body has come.

        Returns:
            As head_received().
        """
        raise NotImplementedError

    def body_received(self) -> None:
        """The body has come whole. Not called for a request without a body."""
        raise NotImplementedError
