"""Proxies in front of a gateway, with the files of deploy/: nginx, HAProxy and Caddy as processes.

A file is used as it is, but for addresses and paths: each replacement must be found in the file.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets

from tests.support.sockets import PATIENCE

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
HOST = "gateway.example.com"  # of all files
GATEWAY = "127.0.0.1:8080"  # in all files

# Debian installs nginx and haproxy in directories that only root's PATH has.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))

_NGINX = """\
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include tornado-gateway.conf;
}
"""


@contextlib.asynccontextmanager
async def echo_service() -> AsyncIterator[str]:
    """A service of WebSockets that says what it hears; yield the base URL."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve_sockets(echo, "127.0.0.1", 0) as server:
        (listening,) = server.sockets
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Certificate:
    """Files of a certificate for HOST, in a folder.

    Attributes:
        authority: file of the authority's certificate.
        chain, key, both: files of the certificate with its chain, of the key, and of all.
        pin: SHA-256 of the public key, as Chromium's --ignore-certificate-errors-spki-list takes the hash.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert(HOST)
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        self.authority, self.chain = folder / "authority.pem", folder / "chain.pem"
        self.key, self.both = folder / "key.pem", folder / "both.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.chain.write_bytes(chain)
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.both.write_bytes(chain + issued.private_key_pem.bytes())
        public = x509.load_pem_x509_certificate(chain).public_key()
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pin = base64.b64encode(hashlib.sha256(spki).digest()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy runs.

    Attributes:
        folder: for all its files.
        port: of the proxy, on loopback.
        gateway: port of the gateway.
    """

    folder: Path
    port: int
    gateway: int
    certificate: Certificate


def _adapted(file: str, place: Place, replacements: Mapping[str, str]) -> str:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    for old, new in {**replacements, GATEWAY: f"127.0.0.1:{place.gateway}"}.items():
        assert old in text, f"{file}: no {old}"
        text = text.replace(old, new)
    return text


def _nginx(place: Place) -> list[str]:
    certificate = place.certificate
    text = _adapted("nginx/tornado-gateway.conf", place, {
        "listen 443 ssl": f"listen 127.0.0.1:{place.port} ssl",
        "/etc/ssl/gateway.example.com.pem": str(certificate.chain),
        "/etc/ssl/gateway.example.com.key": str(certificate.key),
    })  # fmt: skip
    (place.folder / "tornado-gateway.conf").write_text(text, encoding="utf-8")
    (place.folder / "nginx.conf").write_text(_NGINX, encoding="utf-8")
    return ["nginx", "-p", f"{place.folder}/", "-c", "nginx.conf"]


def _haproxy(place: Place) -> list[str]:
    text = _adapted("haproxy/haproxy.cfg", place, {
        "bind :443 ssl": f"bind 127.0.0.1:{place.port} ssl",
        "/etc/haproxy/gateway.example.com.pem": str(place.certificate.both),
        "inter 2s": "inter 50ms",
    })  # fmt: skip
    (place.folder / "haproxy.cfg").write_text(text, encoding="utf-8")
    return ["haproxy", "-db", "-f", str(place.folder / "haproxy.cfg")]


def _caddy(place: Place) -> list[str]:
    certificate = place.certificate
    text = _adapted("caddy/Caddyfile", place, {
        f"{HOST} {{\n": f"https://{HOST}:{place.port} {{\n\ttls {certificate.chain} {certificate.key}\n",
        "health_interval 2s": "health_interval 50ms",
    })  # fmt: skip
    # Without a grace period, Caddy waits for the QUIC connection of a browser that has been ended.
    options = "{\n\tgrace_period 1s\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}\n"
    (place.folder / "Caddyfile").write_text(options + text, encoding="utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place.folder / "Caddyfile")]


@dataclass(frozen=True, slots=True)
class Entrance:
    """A kind of proxy.

    Attributes:
        prepare: writes the configuration; returns the command.
        checked: the command that checks the configuration, made from the command.
        asks_health: whether the proxy asks the gateway for /readyz.
    """

    prepare: Callable[[Place], list[str]]
    checked: Callable[[list[str]], list[str]]
    asks_health: bool = True

    def check(self, place: Place) -> str:
        """What the proxy says of its configuration; the proxy must be content."""
        command = self.checked(self.prepare(place))
        done = subprocess.run(
            _found(command), env=_home(place), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def run(self, place: Place) -> Iterator[None]:
        """Run the proxy."""
        command = self.prepare(place)
        with (place.folder / "log").open("wb") as log:
            process = subprocess.Popen(_found(command), env=_home(place), stdout=log, stderr=log)
            try:
                yield
            finally:
                process.terminate()
                process.wait(PATIENCE)


def _found(command: list[str]) -> list[str]:
    program = shutil.which(command[0], path=_PATH)
    assert program, f"{command[0]} is not installed"
    return [program, *command[1:]]


def _home(place: Place) -> dict[str, str]:
    return {"PATH": _PATH, "HOME": str(place.folder)}


ENTRANCES = {
    "nginx": Entrance(_nginx, lambda command: [*command, "-t"], asks_health=False),
    "haproxy": Entrance(_haproxy, lambda command: [*command, "-c"]),
    "caddy": Entrance(_caddy, lambda command: [command[0], "validate", *command[2:]]),
}


async def listens(port: int) -> None:
    """Wait until somebody listens on loopback."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            await asyncio.sleep(0.02)


def curl(place: Place, *arguments: str) -> list[str]:
    """A command that asks a proxy by the name HOST. Arguments are options, and targets, which begin with a slash."""
    urls = [f"https://{HOST}:{place.port}{each}" if each.startswith("/") else each for each in arguments]
    known = ["--cacert", str(place.certificate.authority), "--resolve", f"{HOST}:{place.port}:127.0.0.1"]
    return ["curl", "-sSN", "--path-as-is", "--max-time", str(PATIENCE), *known, *urls]
