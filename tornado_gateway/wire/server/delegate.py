"""A delegate for requests without Tornado's parsed messages, beside Tornado's HTTPMessageDelegate.

The server's delegate may also answer a request in start_request() itself, and then returns None: a refusal under
overload needs no object for its request.
"""

from collections.abc import Awaitable


class HeadDelegate:
    """Takes a request; reads the exchange's RequestHead instead of Tornado's start line and HTTPHeaders.

    The exchange's close callback tells a HeadDelegate that the client has left. The method names do not clash with
    RequestHandler's, so that a handler can be a HeadDelegate.
    """

    def head_received(self) -> Awaitable[None] | None:
        """Called when the head has come.

        Returns:
            An awaitable, to pause reading until the awaitable is done; None to read on.
        """
        raise NotImplementedError

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take a piece of the body. Returns as head_received()."""
        raise NotImplementedError

    def body_received(self) -> None:
        """Called when the body is complete. Not called for a request without a body."""
        raise NotImplementedError
