"""The proxies that are compared, and how each proxy is started.

Each proxy serves /api/svc/<path> from the upstream over pooled connections, adds X-Request-Id and X-Forwarded-For if
possible, and has its default settings otherwise. Event streams under /sse/streams/ are not buffered (haproxy holds
events back for up to 200 ms without http-no-delay), and /ws/streams is relayed as a WebSocket; both go to the service
of streams, which is part of the load (stream_load.py). The gateway reads the shell's variables but no .env file, so
that options can be measured, for example EVENT_LOOP=asyncio python -m benchmarks http. `watched` is the gateway with
everything on that it can tell of itself, and with two viewers of the dashboard.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cost import binaries
from benchmarks.cost.certificates import Pair
from benchmarks.cost.nginx import ACCESS_LOG, start_nginx
from benchmarks.cost.viewers import viewed
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

# Targets of the service of streams, which looks only at the kind of the request.
EVENTS_PATH = "/sse/streams/events"
SOCKET_PATH = "/ws/streams?path=/echo"

# Idle connections to keep: fewer than nginx's connections, more than any load of requests opens.
_KEPT_ALIVE = 256

# Seconds; longer than any run, so that no idle stream is ended.
_PATIENCE = 3600

_NGINX = """\
    {cache_path}
    upstream svc {{
        server {host}:{upstream_port};
        keepalive {kept_alive};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port} backlog=4096 {ssl};
        {certificate}
        location {prefix} {{
            proxy_pass http://svc/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            add_header X-Request-Id $request_id;
            {cache_use}
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

# nginx keeps responses in files, and their keys in memory. A miss is collapsed, as in the gateway.
_NGINX_CACHE = (
    "proxy_cache_path kept levels=1:2 keys_zone=kept:64m;",
    "proxy_cache kept; proxy_cache_lock on; add_header X-Cache-Status $upstream_cache_status;",
)

# Without this, nginx 1.22 has TLS 1.2 at most.
_NGINX_TLS = "ssl_certificate {0}; ssl_certificate_key {1}; ssl_protocols TLSv1.3;"

# What the gateway can tell of itself, beside the access log, which a scenario turns on.
_SEES_EVERYTHING = {
    "METRICS_ENDPOINT_HISTOGRAMS": "true",
    "SLOW_REQUEST_MS": "1000",
    "STREAM_OPEN_LOG": "true",
    "TRACE_SAMPLE": "0",
}

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
    """Where and with which upstreams to run a proxy.

    Attributes:
        directory: empty directory for the proxy's files.
        core: core to pin the proxy to.
        port: port to listen on, on loopback.
        upstream_port: port of the upstream of requests.
        stream_port: port of the service of streams.
        access_log: whether the proxy writes an access log.
        caches: bytes of responses that the proxy keeps; 0 for a proxy that keeps none. nginx keeps all, in files.
        pair: certificate and key of a proxy that speaks TLS; None for no TLS.
    """

    directory: Path
    core: int
    port: int
    upstream_port: int
    stream_port: int
    access_log: bool
    caches: int = 0
    pair: Pair | None = None

    def fill(self, configuration: str) -> str:
        """Fill the ports and constants into a configuration."""
        return configuration.format(
            host=HOST,
            port=self.port,
            upstream_port=self.upstream_port,
            stream_port=self.stream_port,
            prefix=PREFIX,
            kept_alive=_KEPT_ALIVE,
            patience=_PATIENCE,
            cache_path=_NGINX_CACHE[0] if self.caches else "",
            ssl="ssl" if self.pair else "",
            certificate=_NGINX_TLS.format(*self.pair) if self.pair else "",
            cache_use=_NGINX_CACHE[1] if self.caches else "",
        )

    @property
    def services(self) -> dict[str, int]:
        """Ports of the services by name."""
        return {"svc": self.upstream_port, "streams": self.stream_port}

    def write(self, name: str, configuration: dict[str, Any]) -> str:
        """Write a configuration as JSON into the directory; return the file's path."""
        path = self.directory / name
        path.write_text(json.dumps(configuration))
        return str(path)


def gateway(place: Place, variables: Mapping[str, str] | None = None) -> Child:
    """Start the gateway.

    Args:
        variables: beside the variables that every measurement has.
    """
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
    env |= {"CACHE_ENABLED": "true", "CACHE_MAX_BYTES": str(place.caches)} if place.caches else {}
    env |= {"TLS_CERT": place.pair.certificate, "TLS_KEY": place.pair.key} if place.pair else {}
    env |= variables or {}
    return Child(our_own("tornado_gateway"), place.core, place.directory / ACCESS_LOG, FROM_ROOT | env)


def _watched(place: Place) -> AbstractContextManager[Child]:
    return viewed(gateway(place, _SEES_EVERYTHING), place.port, 2)


def _nginx(place: Place) -> Child:
    return start_nginx(place.directory, place.core, place.fill(_NGINX), place.access_log)


def _haproxy(place: Place) -> Child:
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(place.fill(_HAPROXY))
    return Child(HAPROXY.argv("-db", "-f", str(configuration)), place.core, place.directory / "output.log")


def _start(place: Place, argv: list[str]) -> Child:
    """Start a program with the place's directory as its home, and a Go program with a single thread."""
    home = {"GOMAXPROCS": "1", "HOME": str(place.directory), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
    return Child(argv, place.core, place.directory / "output.log", home)


def _envoy(place: Place) -> Child:
    path = place.write("envoy.json", binaries.envoy(HOST, place.port, place.services, PREFIX))
    one_thread = ("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error")
    return _start(place, ENVOY.argv("-c", path, *one_thread))


def _traefik(place: Place) -> Child:
    # Not traefik.yml, because Traefik reads its static configuration from a file of that name.
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
    """A proxy to compare.

    Attributes:
        start: starts the proxy.
        needs: program or library to install; None for the gateway.
        keeps_log: whether the proxy can write an access log, to ACCESS_LOG in its directory.
        caches: whether the proxy can keep responses.
        has_tls: whether the proxy is measured with TLS.
        by_default: whether the proxy is measured unless others are named.
    """

    start: Callable[[Place], AbstractContextManager[Child]]
    needs: Program | Library | None = None
    keeps_log: bool = False
    caches: bool = False
    has_tls: bool = False
    by_default: bool = True


PEERS = {
    "gateway": Peer(gateway, keeps_log=True, caches=True, has_tls=True),
    "watched": Peer(_watched, keeps_log=True, by_default=False),
    "nginx": Peer(_nginx, NGINX, keeps_log=True, caches=True, has_tls=True),
    "haproxy": Peer(_haproxy, HAPROXY),
    "envoy": Peer(_envoy, ENVOY),
    "traefik": Peer(_traefik, TRAEFIK),
    "caddy": Peer(_caddy, CADDY),
    "aiohttp": Peer(_aiohttp, AIOHTTP),
}
