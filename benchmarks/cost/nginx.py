"""Starts an nginx with a single worker and all files in a temporary directory, without the system's configuration."""

from pathlib import Path

from benchmarks.processes import Child
from benchmarks.programs import NGINX

ACCESS_LOG = "access.log"

# More than two connections for each of 4,000 streams.
CONNECTIONS = 10_000

# The configuration that upstream and peer share. Paths are relative to the directory of -p. Each *_temp_path is set
# because the built-in paths belong to the system's nginx.
_FRAME = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log {access_log};
    keepalive_requests 1000000000;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{body}
}}
"""


def configuration(body: str, access_log: bool) -> str:
    """A whole nginx.conf.

    Args:
        body: directives of the http block.
        access_log: whether requests are logged, in nginx's own "combined" format.
    """
    return _FRAME.format(access_log=ACCESS_LOG if access_log else "off", connections=CONNECTIONS, body=body)


def start_nginx(directory: Path, core: int, body: str, access_log: bool = False) -> Child:
    """Start nginx with the given directives of the http block, in a directory."""
    (directory / "nginx.conf").write_text(configuration(body, access_log))
    arguments = ("-p", f"{directory}/", "-c", "nginx.conf")
    return Child(NGINX.argv(*arguments), core, directory / "output.log")
