"""The proxies that are compared, and how each is started.

All of them serve /api/svc/<path> from the one upstream over pooled connections, add
X-Request-Id and X-Forwarded-For where they can, and otherwise run as they come. Event
streams under /sse/streams/ are not buffered (with http-no-delay in haproxy, which else
keeps events for up to 200 ms), and /ws/streams is relayed as a WebSocket; both go to the
service that a load of streams brings with it. The gateway sees the shell's variables, so
that an option's price can be measured, for example EVENT_LOOP=asyncio python -m benchmarks
http; it does not see a .env file.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cost import binaries
from benchmarks.cost.nginx import ACCESS_LOG, start_nginx
from benchmarks.processes import Child
from benchmarks.programs import (
    AIOHTTP,
    CADDY,
    ENVOY,
    FROM_ROOT,
    HAPROXY,
    NGINX,
    TRAEFIK,
    Library,
    Program,
    our_own,
)
from benchmarks.readiness import HOST

PREFIX = "/api/svc/"

# What is asked of the service behind streams; it looks only at the kind of the request.
EVENTS_PATH = "/sse/streams/events"
SOCKET_PATH = "/ws/streams?path=/echo"

# Fewer than nginx's connections, more than any load of requests opens.
_KEPT_ALIVE = 256

# Seconds; longer than any run, so that no idle stream is ended.
_PATIENCE = 3600

_NGINX = """\
    upstream svc {{
        server {host}:{upstream_port};
        keepalive {kept_alive};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port} backlog=4096;
        location {prefix} {{
            proxy_pass http://svc/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            add_header X-Request-Id $request_id;
        }}
        location /sse/streams/ {{
            proxy_pass http://{host}:{stream_port}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            add_header X-Request-Id $request_id;
            proxy_buffering off;
            proxy_read_timeout {patience}s;
        }}
        location /ws/streams {{
            proxy_pass http://{host}:{stream_port};
            proxy_http_version 1.1;
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            add_header X-Request-Id $request_id;
            proxy_read_timeout {patience}s;
        }}
    }}"""

_HAPROXY = """\
global
    nbthread 1
    maxconn 4500
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client {patience}s
    timeout server {patience}s
    timeout tunnel {patience}s
    option forwardfor
    http-reuse always
frontend entrance
    bind {host}:{port} backlog 4096
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    use_backend streams if {{ path_beg /sse/streams/ /ws/streams }}
    default_backend svc
backend svc
    http-request replace-path {prefix}(.*) /\\1
    server one {host}:{upstream_port}
backend streams
    option http-no-delay
    http-request replace-path /sse/streams/(.*) /\\1
    server one {host}:{stream_port}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy is to run.

    Attributes:
        directory: for its files; empty.
        core: to be pinned to.
        port: to listen on, on loopback.
        upstream_port: of the service behind it.
        stream_port: of the service behind event streams and WebSockets.
        access_log: whether it writes a line for each request.
    """

    directory: Path
    core: int
    port: int
    upstream_port: int
    stream_port: int
    access_log: bool

    def fill(self, configuration: str) -> str:
        """A proxy's configuration for this place."""
        return configuration.format(
            host=HOST,
            port=self.port,
            upstream_port=self.upstream_port,
            stream_port=self.stream_port,
            prefix=PREFIX,
            kept_alive=_KEPT_ALIVE,
            patience=_PATIENCE,
        )

    @property
    def services(self) -> dict[str, int]:
        """Ports of the services, by name."""
        return {"svc": self.upstream_port, "streams": self.stream_port}

    def write(self, name: str, configuration: dict[str, Any]) -> str:
        """Write a configuration as JSON into the directory; the file's path."""
        path = self.directory / name
        path.write_text(json.dumps(configuration))
        return str(path)


def _gateway(place: Place) -> Child:
    env = {
        "HOST": HOST,
        "PORT": str(place.port),
        "UPSTREAMS": json.dumps({name: [f"http://{HOST}:{port}"] for name, port in place.services.items()}),
        "LOG_LEVEL": "info" if place.access_log else "error",
        "ACCESS_LOG": "true" if place.access_log else "false",
        "AUTH_REQUIRED": "false",
        "HTTP_PROXY_TIMEOUT_MS": "600000",
        "WEB_CONCURRENCY": "1",
        "UPSTREAMS_FILE": "",
    }
    return Child(our_own("tornado_gateway"), place.core, place.directory / ACCESS_LOG, FROM_ROOT | env)


def _nginx(place: Place) -> Child:
    return start_nginx(place.directory, place.core, place.fill(_NGINX), place.access_log)


def _haproxy(place: Place) -> Child:
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(place.fill(_HAPROXY))
    return Child(HAPROXY.argv("-db", "-f", str(configuration)), place.core, place.directory / "output.log")


def _start(place: Place, argv: list[str]) -> Child:
    """Start a program that may write files to its home; a Go program runs on one thread."""
    home = {"GOMAXPROCS": "1", "HOME": str(place.directory), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
    return Child(argv, place.core, place.directory / "output.log", home)


def _envoy(place: Place) -> Child:
    path = place.write("envoy.json", binaries.envoy(HOST, place.port, place.services, PREFIX))
    one_thread = ("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error")
    return _start(place, ENVOY.argv("-c", path, *one_thread))


def _traefik(place: Place) -> Child:
    # Not traefik.yml: Traefik would take a file of that name in its directory for its static configuration.
    path = place.write("routes.yml", binaries.traefik(HOST, place.services, PREFIX))
    return _start(
        place,
        TRAEFIK.argv(
            f"--entrypoints.entrance.address={HOST}:{place.port}",
            f"--providers.file.filename={path}",
            f"--serverstransport.maxidleconnsperhost={_KEPT_ALIVE}",
            "--log.level=ERROR",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ),
    )


def _caddy(place: Place) -> Child:
    path = place.write("caddy.json", binaries.caddy(HOST, place.port, place.services, PREFIX, _KEPT_ALIVE))
    return _start(place, CADDY.argv("run", "--config", path))


def _aiohttp(place: Place) -> Child:
    ports = map(str, (place.port, place.upstream_port, place.stream_port))
    return Child(our_own("benchmarks.cost.plain_proxy", *ports), place.core, place.directory / "output.log", FROM_ROOT)


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Attributes:
        start: starts it; what it returns is to be used as a context manager.
        needs: what must be installed.
        keeps_log: whether it can write an access log, to ACCESS_LOG in its directory.
    """

    start: Callable[[Place], Child]
    needs: Program | Library | None = None
    keeps_log: bool = False


PEERS = {
    "gateway": Peer(_gateway, keeps_log=True),
    "nginx": Peer(_nginx, NGINX, keeps_log=True),
    "haproxy": Peer(_haproxy, HAPROXY),
    "envoy": Peer(_envoy, ENVOY),
    "traefik": Peer(_traefik, TRAEFIK),
    "caddy": Peer(_caddy, CADDY),
    "aiohttp": Peer(_aiohttp, AIOHTTP),
}
