"""The proxies that are compared, and how each is started.

All of them serve /api/svc/<path> from the one upstream over pooled connections, add
X-Request-Id and X-Forwarded-For where they can, and otherwise run as they come. The
gateway sees the shell's variables, so that an option's price can be measured, for
example EVENT_LOOP=asyncio python -m benchmarks http; it does not see a .env file.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nginx import ACCESS_LOG, start_nginx
from benchmarks.processes import Child
from benchmarks.programs import AIOHTTP, HAPROXY, NGINX, Library, Program
from benchmarks.readiness import HOST

PREFIX = "/api/svc/"

# Fewer than the workers' 1,024 connections, more than any load opens.
_KEPT_ALIVE = 256

# Python programs run in their temporary directory, so that no .env is found, and import from the repository's root.
_ROOT = str(Path(__file__).resolve().parent.parent)
_FROM_ROOT = {"PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}

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
    }}"""

_HAPROXY = """\
global
    nbthread 1
    maxconn 400
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
    http-reuse always
frontend entrance
    bind {host}:{port} backlog 4096
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    default_backend svc
backend svc
    http-request replace-path {prefix}(.*) /\\1
    server one {host}:{upstream_port}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy is to run.

    Attributes:
        directory: for its files; empty.
        core: to be pinned to.
        port: to listen on, on loopback.
        upstream_port: of the service behind it.
        access_log: whether it writes a line for each request.
    """

    directory: Path
    core: int
    port: int
    upstream_port: int
    access_log: bool


def _gateway(place: Place) -> Child:
    env = {
        "HOST": HOST,
        "PORT": str(place.port),
        "UPSTREAMS": json.dumps({"svc": [f"http://{HOST}:{place.upstream_port}"]}),
        "LOG_LEVEL": "info" if place.access_log else "error",
        "ACCESS_LOG": "true" if place.access_log else "false",
        "AUTH_REQUIRED": "false",
        "RATE_LIMIT_MAX": "1000000000",
        "HTTP_PROXY_TIMEOUT_MS": "600000",
        "WEB_CONCURRENCY": "1",
        "UPSTREAMS_FILE": "",
    }
    return Child([sys.executable, "-m", "tornado_gateway"], place.core, place.directory / ACCESS_LOG, _FROM_ROOT | env)


def _nginx(place: Place) -> Child:
    body = _NGINX.format(
        host=HOST, port=place.port, upstream_port=place.upstream_port, prefix=PREFIX, kept_alive=_KEPT_ALIVE
    )
    return start_nginx(place.directory, place.core, body, place.access_log)


def _haproxy(place: Place) -> Child:
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(
        _HAPROXY.format(host=HOST, port=place.port, upstream_port=place.upstream_port, prefix=PREFIX)
    )
    return Child(HAPROXY.argv("-db", "-f", str(configuration)), place.core, place.directory / "output.log")


def _aiohttp(place: Place) -> Child:
    argv = [sys.executable, "-m", "benchmarks.plain_proxy", str(place.port), str(place.upstream_port)]
    return Child(argv, place.core, place.directory / "output.log", _FROM_ROOT)


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
    "aiohttp": Peer(_aiohttp, AIOHTTP),
}
