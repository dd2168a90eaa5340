"""The caches that the suite is run against: a configuration and a command each.

nginx, Squid and Apache get the configurations that the suite itself brings for them (docker/), but for addresses,
paths and what a program needs to run beside others; Varnish gets the suite's parameters. None of these, and not the
gateway, keeps a response that names no lifetime, because the suite asks for that.
"""

import getpass
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Debian installs servers in directories that only root's PATH has.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))

_NGINX = """\
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{suite}
}}
"""

_VARNISH = 'vcl 4.1; backend default {{ .host = "127.0.0.1"; .port = "{service}"; }}\n'
_VARNISH_PARAMETERS = ("default_ttl=0", "default_grace=0", "default_keep=3600")  # of the suite's docker/serve.sh

_APACHE_MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http", "cache", "cache_disk", "negotiation")
_APACHE = """\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog /dev/stderr
User www-data
Group www-data
{modules}
{ports}
{suite}
"""

# The patterns are those of Debian's squid.conf.
_SQUID = """\
{suite}
visible_hostname localhost
pid_filename {folder}/pid
cache_log {folder}/cache.log
access_log none
netdb_filename none
pinger_enable off
refresh_pattern -i (/cgi-bin/|\\?) 0 0% 0
refresh_pattern . 0 20% 4320
"""

GATEWAY = {
    "HOST": "127.0.0.1",
    "ACCESS_LOG": "false",
    "ROUTES": json.dumps([{"path": "/*", "service": "suite"}]),
    "CACHE_ENABLED": "true",
    "CACHE_DEFAULT_TTL_MS": "0",
    "CACHE_HEURISTIC_PERCENT": "10",
    "CACHE_SET_COOKIE": "true",  # the suite wants Set-Cookie to be stored
    "CACHE_STALE_IF_ERROR_MS": "60000",  # cases with must-revalidate build on a stale answer to an error
    "BREAKER_FAILURES": "0",  # many cases want a 5xx
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cache runs.

    Attributes:
        suite: folder of the suite.
        folder: for all files of the cache; everybody may write.
        port: of the cache, on loopback.
        service: port of the suite's server, on loopback.
    """

    suite: Path
    folder: Path
    port: int
    service: int

    def adapted(self, file: str, replacements: Mapping[str, str]) -> str:
        """A configuration of the suite; each text to be replaced must be found."""
        text = (self.suite / "docker" / file).read_text(encoding="utf-8")
        for old, new in replacements.items():
            if old not in text:
                raise ValueError(f"{file}: no {old}")
            text = text.replace(old, new)
        return text

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)


@dataclass(frozen=True, slots=True)
class Cache:
    """A kind of cache.

    Attributes:
        command: writes the configuration; returns the command.
        version: the command that tells the version.
        variables: of the environment.
    """

    command: Callable[[Place], list[str]]
    version: tuple[str, ...]
    variables: Callable[[Place], dict[str, str]] = field(default=lambda place: {})


def _gateway_variables(place: Place) -> dict[str, str]:
    upstreams = json.dumps({"suite": [f"http://127.0.0.1:{place.service}"]})
    return {**GATEWAY, "PORT": str(place.port), "UPSTREAMS": upstreams, "PYTHONPATH": str(ROOT)}


def _nginx(place: Place) -> list[str]:
    suite = place.adapted("nginx/nginx.conf", {
        "8002": f"127.0.0.1:{place.port}",
        "localhost:8000": f"127.0.0.1:{place.service}",
        "/var/cache/nginx": f"{place.folder}/cache",
    })  # fmt: skip
    text = _NGINX.format(user=getpass.getuser(), folder=place.folder, suite=suite)
    return ["nginx", "-p", str(place.folder), "-c", place.write("nginx.conf", text)]


def _varnish(place: Place) -> list[str]:
    vcl = place.write("default.vcl", _VARNISH.format(service=place.service))
    parameters = [part for each in _VARNISH_PARAMETERS for part in ("-p", each)]
    name = str(place.folder / "varnish")
    return ["varnishd", "-F", "-j", "none", "-n", name, "-a", f"127.0.0.1:{place.port}", "-f", vcl, *parameters,
            "-s", "malloc,64M"]  # fmt: skip


def _apache(place: Place) -> list[str]:
    suite = place.adapted("apache/apache.conf", {
        "*:8004": f"127.0.0.1:{place.port}",
        "localhost:8000": f"127.0.0.1:{place.service}",
        "/var/cache/apache": str(place.folder),
    })  # fmt: skip
    ports = place.adapted("apache/ports.conf", {"8004": f"127.0.0.1:{place.port}"})
    modules = "\n".join(f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so" for each in _APACHE_MODULES)
    text = _APACHE.format(folder=place.folder, modules=modules, ports=ports, suite=suite)
    return ["apache2", "-D", "FOREGROUND", "-f", place.write("apache.conf", text)]


def _squid(place: Place) -> list[str]:
    suite = place.adapted("squid/squid.conf", {
        "http_port 8001": f"http_port 127.0.0.1:{place.port}",
        "cache_peer localhost parent 8000": f"cache_peer 127.0.0.1 parent {place.service}",
    })  # fmt: skip
    return ["squid", "-N", "-f", place.write("squid.conf", _SQUID.format(folder=place.folder, suite=suite))]


OURS = "this gateway"
CACHES = {
    OURS: Cache(
        lambda place: [sys.executable, "-m", "tornado_gateway"],
        (sys.executable, "-m", "tornado_gateway", "--version"),
        _gateway_variables,
    ),
    "nginx": Cache(_nginx, ("nginx", "-v")),
    "Varnish": Cache(_varnish, ("varnishd", "-V")),
    "Apache": Cache(_apache, ("apache2", "-v")),
    "Squid": Cache(_squid, ("squid", "-v")),
}


def found(command: list[str]) -> list[str]:
    """The command with the program's path.

    Raises:
        FileNotFoundError: the program is not installed.
    """
    program = shutil.which(command[0], path=PATH)
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    return [program, *command[1:]]
