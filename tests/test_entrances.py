"""nginx, HAProxy and Caddy in front of the gateway, with the files of deploy/."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.conftest import Running, Serve
from tests.support.chromium import Tab, chromium, tab
from tests.support.entrances import ENTRANCES, HOST, Certificate, Place, curl, echo_service, listens
from tests.support.journeys import Start
from tests.support.ports import free_port
from tests.support.sockets import PATIENCE, Peer, eventually, reply
from tests.support.websockets import until

BEHIND = {"TRUSTED_PROXIES": "127.0.0.1"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT, END = b"9\r\ndata: 1\n\n\r\n", b"0\r\n\r\n"
STREAMS = 8  # of a page; over HTTP/1.1 a browser has six connections to a host

PAGE = f"""<!doctype html><script>
const streams = Array.from({{length: {STREAMS}}}, (_, number) => new EventSource("/sse/svc/events?" + number));
const opened = () => streams.filter(each => each.readyState === EventSource.OPEN).length;
</script>""".encode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


def place_of(folder: Path, gateway: int, certificate: Certificate) -> Place:
    return Place(folder, free_port(), gateway, certificate)


class Service:
    """Answers requests with what it got, and streams with an event for each `go`.

    Attributes:
        open: number of open event streams.
        go: to be set for the next event, which is also the last event.
    """

    def __init__(self) -> None:
        self.open = 0
        self.go = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target == b"/page":
                await peer.send(reply(fields=(b"Content-Type: text/html",), body=PAGE))
            elif request.target.startswith(b"/events"):
                await self._stream(peer)
            else:
                got = {name.decode().lower(): value.decode() for name, value in request.fields}
                await peer.send(reply(body=json.dumps({"target": request.target.decode(), **got}).encode()))

    async def _stream(self, peer: Peer) -> None:
        self.open += 1
        try:
            await peer.send(HEAD + EVENT)
            going, leaving = asyncio.ensure_future(self.go.wait()), asyncio.ensure_future(peer.ended())
            await asyncio.wait([going, leaving], return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if going.cancel():
                return
            await peer.send(EVENT + END)
        finally:
            self.open -= 1


async def said(command: list[str]) -> str:
    """What a command writes; the command must end well."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("name", ENTRANCES)
def test_the_file_is_valid(name: str, tmp_path: Path, certificate: Certificate) -> None:
    ENTRANCES[name].check(place_of(tmp_path, 1, certificate))


@pytest.mark.parametrize("name", ENTRANCES)
@pytest.mark.gen_test
async def test_requests_streams_and_sockets_pass(
    name: str, serve: Serve, upstream: Start, tmp_path: Path, certificate: Certificate
) -> None:
    service = Service()
    async with echo_service() as sockets:
        running = await serve({"svc": [upstream(service).url], "sockets": [sockets]}, **BEHIND)
        place = place_of(tmp_path, running.port, certificate)
        with ENTRANCES[name].run(place):
            await listens(place.port)
            if ENTRANCES[name].asks_health:
                await is_asked_for_health(running)
            await a_request_passes_byte_for_byte(place)
            await an_event_passes_at_once(place, service)
            await streams_share_a_connection(place, service)
            await a_websocket_passes(place)


async def is_asked_for_health(running: Running) -> None:
    """Wait until the proxy has asked three times: by then the proxy would know a gateway that is out."""
    durations = running.app.gateway.durations
    await eventually(lambda: sum(sum(of.counts) for key, of in durations if key[1:3] == ("/readyz", "200")) >= 3)


async def a_request_passes_byte_for_byte(place: Place) -> None:
    answer = await said(curl(place, "--http2", "-w", "\n%{http_version}", "/api/svc//a%2Fb;v=1/./c?x=%20&y"))
    body, version = answer.rsplit("\n", 1)
    got = json.loads(body)
    assert (version, got["target"]) == ("2", "//a%2Fb;v=1/./c?x=%20&y")
    forwarded = {key: got[f"x-forwarded-{key}"] for key in ("proto", "host", "port")}
    assert forwarded["proto"] == "https"
    assert forwarded["host"] in (HOST, f"{HOST}:{place.port}")
    assert forwarded["port"] == str(place.port)
    assert got["x-forwarded-for"].split(", ") == ["127.0.0.1", "127.0.0.1"]  # the client, and the proxy


async def an_event_passes_at_once(place: Place, service: Service) -> None:
    """The second event is sent when curl has got the first."""
    service.go.clear()
    command = curl(place, "--http2", "/sse/svc/events")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        await process.stdout.readuntil(b"data: 1\n\n")
        service.go.set()
        rest = await process.stdout.read()
    assert (await process.wait(), rest) == (0, b"data: 1\n\n")


async def streams_share_a_connection(place: Place, service: Service) -> None:
    """More streams at once than a browser has connections for, on a single connection of HTTP/2."""
    service.go.clear()
    urls = [f"/sse/svc/events?{number}" for number in range(STREAMS)]
    command = curl(place, "--http2", "-Z", "-w", "connections %{num_connects}\n", *urls)
    ending = asyncio.ensure_future(said(command))
    await eventually(lambda: service.open == STREAMS)
    service.go.set()
    lines = (await ending).splitlines()
    assert lines.count("data: 1") == 2 * STREAMS
    assert sum(int(line.split()[1]) for line in lines if line.startswith("connections")) == 1


async def a_websocket_passes(place: Place) -> None:
    context = ssl.create_default_context(cafile=place.certificate.authority)
    url = f"wss://{HOST}:{place.port}/ws/sockets/x"
    async with connect(url, host="127.0.0.1", port=place.port, ssl=context, proxy=None) as socket:
        await socket.send("hello")
        assert await asyncio.wait_for(socket.recv(), PATIENCE) == "hello"


@pytest.mark.gen_test
async def test_a_browser_has_more_event_streams_over_http_3_than_over_http_1(
    serve: Serve, upstream: Start, tmp_path: Path, certificate: Certificate
) -> None:
    service = Service()
    running = await serve({"svc": [upstream(service).url]}, **BEHIND)
    place = place_of(tmp_path, running.port, certificate)
    authority = f"{HOST}:{place.port}"
    options = (
        f"--host-resolver-rules=MAP {HOST} 127.0.0.1", f"--origin-to-force-quic-on={authority}",
        f"--ignore-certificate-errors-spki-list={certificate.pin}",
    )  # fmt: skip
    with ENTRANCES["caddy"].run(place), chromium(tmp_path / "profile", *options, quic=True) as devtools:
        await listens(place.port)
        assert (
            await asyncio.to_thread(visit, devtools, f"http://127.0.0.1:{running.port}/api/svc/page", 6) == "http/1.1"
        )
        await eventually(lambda: service.open == 0)
        assert await asyncio.to_thread(visit, devtools, f"https://{authority}/api/svc/page", STREAMS) == "h3"
        service.go.set()  # over HTTP/3, Caddy notices a stream that was closed only when the next event comes
        await eventually(lambda: service.open == 0)


def visit(devtools: str, url: str, streams: int) -> str:
    """Open PAGE, wait for open streams, and see that no further streams open; return the protocol of the page."""
    with tab(devtools, url) as connection:
        page = Tab(connection)
        until(lambda: page.value("typeof opened === 'function' && opened()") == streams, f"{streams} streams are open")
        assert page.value("opened()") == streams
        protocol = page.value("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        page.value("streams.forEach(each => each.close())")
        return str(protocol)
