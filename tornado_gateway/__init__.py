"""A real-time API gateway: HTTP, Server-Sent Events and WebSockets through one entrance."""

__version__ = "1.0.0"
