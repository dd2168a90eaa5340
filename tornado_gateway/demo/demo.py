"""The demo: services and traffic that --demo starts around a gateway.

    traffic ──► gateway ──► api-1, api-2              equal instances: balancing; a report that is cached
    (or you)        ├─────► slow-1, slow-2            20 ms and 300 ms: balancing by latency
                    ├─────► flaky-1, flaky-2, (none)  good, half failing, refusing: breakers
                    ├─────► clock-1                   an endless event stream
                    └─────► chat-1                    a page with events and WebSockets; on /live/*, too

The upstreams are stock Tornado servers on 127.0.0.1 and free ports. Requests of upstreams end when the client leaves,
or at stop().
"""

import asyncio
import itertools
import random
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_gateway.demo.traffic import hold_socket, hold_stream, keep_open, visit
from tornado_gateway.demo.upstreams import (
    API_ABOUT,
    API_ROUTES,
    CHAT_ABOUT,
    CHAT_ROUTES,
    CLOCK_ABOUT,
    Clock,
    EchoSocket,
    Flaky,
    Routes,
    Slow,
    Upstream,
)

LOOPBACK = "127.0.0.1"

# A value for ROUTES: a route that carries everything that the page of "chat" needs.
ROUTES = ({"path": "/live/*", "service": "chat", "strip": True},)

# Values of services: the endpoint that refuses is soon out, a limit that refuses nobody is met by the traffic, and what
# names a lifetime is cached.
CONFIGS: dict[str, dict[str, object]] = {
    "flaky": {"breakerFailures": 3, "breakerWindowMs": 60_000},
    "api": {"cache": {"enabled": True, "ttlMs": 0}},
    "slow": {"rateLimits": "10/m", "rateLimitMode": "observe"},
}


def upstreams_of(services: Mapping[str, list[str]]) -> dict[str, object]:
    """A value for UPSTREAMS: the services of `Demo.start()` with their CONFIGS."""
    return {name: {"endpoints": urls, **CONFIGS.get(name, {})} for name, urls in services.items()}


class Demo:
    """The upstreams and the traffic of the demo.

    Args:
        rng: decides which answers fail and what the traffic asks for.
        tick: seconds between two events of the clock.
        slow: seconds until each instance of "slow" answers.
        visitors: connections of the traffic.
        pause: mean seconds between two requests of a visitor. The defaults make fewer than 120 requests a minute: a
            rate limit by address, RATE_LIMIT_MAX=200, leaves room for a person.
    """

    def __init__(
        self,
        rng: random.Random | None = None,
        *,
        tick: float = 1.0,
        slow: tuple[float, ...] = (0.02, 0.3),
        visitors: int = 2,
        pause: float = 1.0,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - protects nothing
        self._tick, self._slow = tick, slow
        self._visitors, self._pause = visitors, pause
        self._traffic: list[asyncio.Task[None]] = []
        self._servers: list[HTTPServer] = []
        self._refusing: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sockets: set[EchoSocket] = set()

    async def start(self) -> dict[str, list[str]]:
        """Start every upstream; the result is the URLs of each service."""
        return {
            "api": [self._serve(f"api-{n}", API_ROUTES, about=API_ABOUT) for n in (1, 2)],
            "slow": [self._serve(f"slow-{n}", [(".*", Slow)], delay=delay) for n, delay in enumerate(self._slow, 1)],
            "flaky": [
                self._serve("flaky-1", [(".*", Flaky)], rng=self._rng, failing=0.0),
                self._serve("flaky-2", [(".*", Flaky)], rng=self._rng, failing=0.5),
                self._refuse(),
            ],
            "clock": [self._serve("clock-1", [("/events", Clock)], about=CLOCK_ABOUT, tick=self._tick)],
            "chat": [
                self._serve(
                    "chat-1",
                    CHAT_ROUTES,
                    about=CHAT_ABOUT,
                    tick=self._tick,
                    sockets=self._sockets,
                    guests=itertools.count(1),
                )
            ],
        }

    def start_traffic(self, gateway_url: str) -> None:
        """Visit the services through the gateway, at an http:// URL, and keep an event stream and a WebSocket
        open, until stop().
        """
        url = urlsplit(gateway_url)
        host, port, rng, pause = url.hostname or LOOPBACK, url.port or 80, self._rng, self._pause
        self._traffic += [asyncio.create_task(visit(host, port, rng, pause)) for _ in range(self._visitors)]
        for hold in (partial(hold_stream, host, port), partial(hold_socket, host, port, rng, pause)):
            self._traffic.append(asyncio.create_task(keep_open(hold, rng, pause)))

    async def stop(self) -> None:
        """End the traffic, then the upstreams with their connections. A second call does nothing."""
        for task in self._traffic:
            task.cancel()
        await asyncio.gather(*self._traffic, return_exceptions=True)
        for server in self._servers:
            server.stop()
            await server.close_all_connections()
        for upgraded in tuple(self._sockets):  # a server forgets upgraded connections
            upgraded.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in self._refusing:
            held.close()
        for ended in (self._traffic, self._servers, self._refusing):
            ended.clear()

    def _serve(self, instance: str, routes: Routes, **settings: Any) -> str:
        application = Application(
            list(routes),
            default_handler_class=Upstream,
            log_function=lambda handler: None,
            instance=instance,
            tasks=self._tasks,
            **settings,
        )
        server = HTTPServer(application)
        self._servers.append(server)
        listening = bind_sockets(0, LOOPBACK, socket.AF_INET)
        server.add_sockets(listening)
        return f"http://{LOOPBACK}:{listening[0].getsockname()[1]}"

    def _refuse(self) -> str:
        """A port that refuses connections: bound, so that no other program takes the port, and not listening."""
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._refusing.append(held)
        held.bind((LOOPBACK, 0))
        return f"http://{LOOPBACK}:{held.getsockname()[1]}"


def banner(gateway_url: str) -> str:
    """The text for the terminal: what to try."""
    url = gateway_url.rstrip("/")
    ws_url = url.replace("http", "ws", 1)
    return f"""\
The gateway is at {url}, with services to try and a little traffic of its own:

  open {url}/admin in a browser               the dashboard: what works, what fails, and why
  open {url}/live/ in a browser               a page, live events and a chat on one route; open it twice
  open {url}/api/chat/ in a browser           the same by the standard routes /api, /sse and /ws
  curl -N {url}/live/events                   an event stream: an event every second
  curl -N {url}/sse/clock/events              the same on a standard route
  python -m websockets '{ws_url}/live/room'  the chat, after pip install websockets; or any other client
  python -m websockets '{ws_url}/ws/chat?path=/echo'    every message comes back
  curl {url}/api/api/                         what this service can be asked; two equal instances
  curl {url}/api/api/items
  curl -d hello '{url}/api/api/echo?a=b'      what an upstream sees of your request
  curl -i '{url}/api/api/items?status=503'    any status you like
  curl '{url}/api/api/items?delay=2000'       a late answer
  curl -i {url}/api/api/report                takes a second, and for ten seconds the cache answers at once
  curl -o /dev/null {url}/api/api/bytes/100000000
  curl {url}/api/slow/                        one instance takes 20 ms, the other 300 ms
  curl -i {url}/api/flaky/                    one instance is good, one fails half the time, one refuses
  curl {url}/healthz
  curl {url}/readyz
"""
