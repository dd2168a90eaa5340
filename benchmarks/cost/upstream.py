"""The service behind every proxy: an nginx that answers three paths from memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cost.nginx import start_nginx
from benchmarks.readiness import HOST, free_port, wait_until_served

# The answer of an ordinary JSON API; six header fields beside nginx's own.
SMALL = '{"id":17,"name":"Grace Hopper","email":"grace@example.org","roles":["admin","editor"],"active":true}'

FILES = {"64k": 64 * 1024, "64m": 64 * 1024 * 1024}  # bytes, by path

# How many bytes each path answers.
BODY_BYTES = {"small": len(SMALL), **FILES}

_SERVER = """\
    sendfile on;
    server {{
        listen {host}:{port} backlog=4096;
        location = /small {{
            default_type application/json;
            add_header Cache-Control "private, max-age=0";
            add_header ETag '"5f2b-17"';
            add_header Vary "Accept-Encoding, Origin";
            add_header X-Content-Type-Options nosniff;
            add_header X-Response-Time 3ms;
            add_header Strict-Transport-Security "max-age=31536000";
            return 200 '{small}';
        }}
        location / {{
            root {files};
            default_type application/octet-stream;
        }}
    }}"""


@contextlib.contextmanager
def upstream(directory: Path, core: int) -> Iterator[int]:
    """Run the service in a directory of its own; yields its port on loopback.

    Raises:
        ChildFailed: nginx does not serve; what it said is in the text.
    """
    files = directory / "files"
    files.mkdir()
    for name, size in FILES.items():
        with (files / name).open("wb") as file:
            file.truncate(size)  # zeros without a disk behind them: read from the page cache
    port = free_port()
    with start_nginx(directory, core, _SERVER.format(host=HOST, port=port, small=SMALL, files=files)) as child:
        wait_until_served(child, port, "/small", BODY_BYTES["small"])
        yield port
