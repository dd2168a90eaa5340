"""The upstream of every proxy: an nginx that serves four paths from memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cost.nginx import start_nginx
from benchmarks.readiness import HOST, free_port, wait_until_served

# A body of an ordinary JSON API; the response has six header fields beside nginx's own.
SMALL = '{"id":17,"name":"Grace Hopper","email":"grace@example.org","roles":["admin","editor"],"active":true}'

# A body of 1 KiB that caches may keep, whatever the query.
KIB = "x" * 1024

FILES = {"64k": 64 * 1024, "64m": 64 * 1024 * 1024}  # bytes, by path

# Size of each path's body in bytes.
BODY_BYTES = {"small": len(SMALL), "kib": len(KIB), **FILES}

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
        location = /kib {{
            default_type application/json;
            add_header Cache-Control "public, max-age=3600";
            add_header ETag '"5f2b-1024"';
            add_header Vary Accept-Encoding;
            return 200 '{kib}';
        }}
        location / {{
            root {files};
            default_type application/octet-stream;
        }}
    }}"""


@contextlib.contextmanager
def upstream(directory: Path, core: int) -> Iterator[int]:
    """Run the upstream; yield its port on loopback.

    Args:
        directory: empty directory for the upstream's files.
        core: core to pin the upstream to.

    Raises:
        ChildFailed: nginx does not serve; the text has nginx's last lines.
    """
    files = directory / "files"
    files.mkdir()
    for name, size in FILES.items():
        with (files / name).open("wb") as file:
            file.truncate(size)  # a sparse file, read from the page cache
    port = free_port()
    with start_nginx(directory, core, _SERVER.format(host=HOST, port=port, small=SMALL, kib=KIB, files=files)) as child:
        wait_until_served(child, port, "/small", BODY_BYTES["small"])
        yield port
