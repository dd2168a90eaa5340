"""Real services behind the gateway, real clients in front of it: nginx and python -m http.server;
curl, httpx and a browser. Large files must be equal by checksum both ways, over TLS too.

nginx, curl and chromium are Debian packages; tests/run installs them.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
LARGE = 64 * 1024 * 1024
CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format tells '$connection $request_method $uri'; access_log {root}/access.log tells;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi; client_max_body_size 0;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl;
    ssl_certificate {root}/chain.pem; ssl_certificate_key {root}/key.pem;
    location / {{ root {root}/www; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@dataclass
class Stage:
    """What runs for these tests."""

    gateway: str
    root: Path
    digest: str

    def connections(self, path: str) -> list[str]:
        """The numbers of the connections on which nginx was asked for a path."""
        lines = (self.root / "access.log").read_text().splitlines()
        return [line.split()[0] for line in lines if line.split()[2] == path]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("stage")
    root.chmod(0o755)
    (root / "www").mkdir()
    (root / "www").chmod(0o777)
    digest = write_large(root / "www" / "large")
    (root / "www" / "page.html").write_text(PAGE)
    (root / "www" / "small.json").write_text('{"ok": true}')
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(root / "ca.pem")
    certificate.private_key_pem.write_to_path(root / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(root / "chain.pem", append=True)
    plain, secure, files, port = (free_port() for _ in range(4))
    user = "user root;" if os.geteuid() == 0 else ""  # the files belong to whoever runs the tests
    (root / "nginx.conf").write_text(CONFIGURATION.format(root=root, plain=plain, secure=secure, user=user))
    services = {
        "nginx": [f"http://127.0.0.1:{plain}"],
        "secure": [f"https://localhost:{secure}"],
        "files": [f"http://127.0.0.1:{files}"],
    }
    env = os.environ | {
        "HOST": "127.0.0.1", "PORT": str(port), "UPSTREAMS": json.dumps(services), "LOG_LEVEL": "error",
        "UPSTREAM_TLS_CA_FILE": str(root / "ca.pem"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for command, listens in (
            ([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(root / "nginx.conf")], plain),
            ([sys.executable, "-m", "http.server", str(files), "--bind", "127.0.0.1", "-d", str(root / "www")], files),
            ([sys.executable, "-m", "tornado_gateway"], port),
        ):
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_for(listens, process)
        yield Stage(f"http://127.0.0.1:{port}", root, digest)


PAGE = """<!doctype html><title>page</title><pre id="seen"></pre><script>
(async () => {
  const seen = [];
  for (let i = 0; i < 3; i++) seen.push((await (await fetch("small.json?" + i)).json()).ok);
  const large = await (await fetch("large")).arrayBuffer();
  const hash = await crypto.subtle.digest("SHA-256", large);
  seen.push([...new Uint8Array(hash)].map(b => b.toString(16).padStart(2, "0")).join(""));
  const put = await fetch("from-browser", {method: "PUT", body: large});
  seen.push(put.status);
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


def write_large(path: Path) -> str:
    """A file of LARGE bytes that do not repeat; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(LARGE // 65536):
            block = hashlib.sha256(str(number).encode()).digest() * 2048
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise AssertionError(f"{process.args} does not listen on {port}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize("service", ["nginx", "secure", "files"])
def test_curl_downloads_a_large_file(stage: Stage, service: str, tmp_path: Path) -> None:
    curl("-o", str(tmp_path / "got"), f"{stage.gateway}/api/{service}/large")
    assert sha256(tmp_path / "got") == stage.digest


@pytest.mark.parametrize("service", ["nginx", "secure"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_curl_uploads_a_large_file(stage: Stage, service: str, framing: str) -> None:
    target = f"from-curl-{service}-{framing}"
    extra = ["-H", "Transfer-Encoding: chunked"] if framing == "chunked" else []
    status = curl(
        "-T", str(stage.root / "www" / "large"), *extra, "-o", "/dev/null", "-w", "%{http_code}",
        f"{stage.gateway}/api/{service}/{target}",
    )  # fmt: skip
    assert status == "201"
    assert sha256(stage.root / "www" / target) == stage.digest


def test_curl_keeps_its_connection_and_so_does_the_gateway(stage: Stage) -> None:
    url = f"{stage.gateway}/api/nginx/small.json"
    assert curl(*[f"{url}?{n}" for n in range(5)], "-w", "%{num_connects} ").count("0 ") == 4
    assert len(set(stage.connections("/small.json"))) == 1


def test_curl_is_told_of_ranges_and_conditions(stage: Stage) -> None:
    url = f"{stage.gateway}/api/nginx/large"
    assert curl("-r", "0-9", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url) == "206 10"
    head = curl("-I", url)
    etag = re.search(r'^ETag: (".*")', head, re.MULTILINE)
    assert etag
    assert f"Content-Length: {LARGE}" in head
    assert curl("-H", f"If-None-Match: {etag[1]}", "-o", "/dev/null", "-w", "%{http_code}", url) == "304"


@pytest.mark.parametrize("service", ["nginx", "secure", "files"])
def test_httpx_streams_down_on_one_connection(stage: Stage, service: str) -> None:
    digest = hashlib.sha256()
    with httpx.Client(timeout=30, trust_env=False) as client:
        for _ in range(3):
            assert client.get(f"{stage.gateway}/api/{service}/small.json").json() == {"ok": True}
        with client.stream("GET", f"{stage.gateway}/api/{service}/large") as response:
            for chunk in response.iter_raw():
                digest.update(chunk)
    assert digest.hexdigest() == stage.digest


def test_httpx_streams_up(stage: Stage) -> None:
    def pieces() -> Iterator[bytes]:
        with (stage.root / "www" / "large").open("rb") as file:
            while piece := file.read(100_000):
                yield piece

    response = httpx.put(f"{stage.gateway}/api/secure/from-httpx", content=pieces(), timeout=30, trust_env=False)
    assert response.status_code == 201
    assert sha256(stage.root / "www" / "from-httpx") == stage.digest


def test_a_browser_loads_a_page_and_moves_files_both_ways(stage: Stage, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom",
            f"{stage.gateway}/api/nginx/page.html",
        ],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert seen, done.stdout
    assert json.loads(seen[1]) == [True, True, True, stage.digest, 201]
    assert sha256(stage.root / "www" / "from-browser") == stage.digest
