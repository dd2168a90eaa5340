"""`ctl` against a running gateway: what each command shows and does, exit codes, and the commands of the document."""

import asyncio
import json
import logging
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Origin
from tests.support.caching import ask as cached
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask
from tests.support.operators import AUTH, bearer, log_in, token
from tests.support.sockets import eventually, get
from tornado_gateway.ctl import commands
from tornado_gateway.ctl.commands import DONE, REFUSED, UNREACHABLE, USAGE

URLS = ["http://10.0.0.7:9000", "http://10.0.0.8:9000"]
DOCUMENT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")
STRICT = {"GATEWAY_ENV": "production", "JWT_SECRET": AUTH["JWT_SECRET"]}


class Told(NamedTuple):
    """What a command has written, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ctl = Callable[..., Awaitable[Told]]


@pytest.fixture
def ctl(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ctl:
    """Run a command in a thread beside the gateway."""

    async def run(*arguments: str, is_terminal: bool = False, **variables: str) -> Told:
        capfd.readouterr()
        environment = {"CTL_SOCKET": str(tmp_path / "own" / "ctl.sock")} | variables

        def carry_out() -> int:
            try:
                return commands.main(arguments, environment, is_terminal=is_terminal)
            except SystemExit as end:  # of argparse
                assert isinstance(end.code, int)
                return end.code

        code = await asyncio.to_thread(carry_out)
        return Told(code, *capfd.readouterr())

    return run


@pytest.fixture
def level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


async def started(serve: Serve, tmp_path: Path, services: dict[str, Any], **variables: str) -> Running:
    return await serve(services, CTL_SOCKET=str(tmp_path / "own" / "ctl.sock"), **(STRICT | variables))


def weights(running: Running) -> list[int]:
    return [each.weight for each in running.app.gateway.services[b"billing"].endpoints]


@pytest.mark.gen_test
async def test_endpoints_are_drained_weighted_and_broken(
    serve: Serve, tmp_path: Path, ctl: Ctl, caplog: pytest.LogCaptureFixture
) -> None:
    running = await started(serve, tmp_path, {"billing": URLS})
    with caplog.at_level(logging.INFO, "tornado_gateway.audit"):
        assert (await ctl("drain", "billing", URLS[0])).json["state"] == "drained"
    assert caplog.messages == [
        f'POST /admin/api/drain by "control socket": 200 (drained, before with weight 1, {URLS[0]} of billing)'
    ]
    assert weights(running) == [0, 1]
    assert (await ctl("undrain", "billing", "0.7")).code == DONE
    assert (await ctl("weight", "billing", "0.7", "5")).json["weight"] == 5
    assert weights(running) == [5, 1]
    assert (await ctl("breaker", "billing", "0.7", "open", "--for-ms", "9000")).json["breakerOpenForMs"] == 9000
    assert (await ctl("breaker", "billing", "0.7", "reset")).json["breaker"] == "closed"


@pytest.mark.gen_test
async def test_a_terminal_gets_tables(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    await started(serve, tmp_path, {"billing": URLS}, SLOW_START_MS="0")
    told = await ctl("services", is_terminal=True)
    head, *rows = told.out.splitlines()
    assert head.split()[:5] == ["service", "endpoint", "state", "weight", "breaker"]
    assert [row.split()[:5] for row in rows] == [["billing", url, "up", "1", "closed"] for url in URLS]
    assert json.loads((await ctl("--json", "services", is_terminal=True)).out)["services"]
    assert (await ctl("top", "--once", is_terminal=True)).out.splitlines()[1].split()[:3] == ["billing", "2", "2"]
    assert (await ctl("top")).json["billing"]["upstreams"] == 2
    assert (await ctl("stats")).json["services"]["billing"]["upstreams"] == 2
    assert (await ctl("streams", is_terminal=True)).out.startswith("id  kind")


@pytest.mark.gen_test
async def test_streams_are_listed_and_closed(serve: Serve, upstream: Start, tmp_path: Path, ctl: Ctl) -> None:
    source = Source()
    up = upstream(source)
    running = await started(serve, tmp_path, {"billing": [up.url]})
    streams = running.app.gateway.streams
    for _ in range(3):
        await Listener.ask(running, get(b"/sse/billing/x", bearer()))
    await eventually(lambda: len(streams.open) == 3)
    assert [each["id"] for each in (await ctl("streams", "--text", "ADA", "--limit", "2")).json["streams"]] == [1, 2]
    told = await ctl("streams", "--limit", "2", is_terminal=True)
    assert told.out.splitlines()[-1] == "3 streams in all; the next page: --after 2"
    assert (await ctl("close", "2", is_terminal=True)).out == "1 stream ends over 0 s\n"
    await eventually(lambda: len(streams.open) == 2)
    told = await ctl("close", "--service", "billing", "--endpoint", up.url[-4:], "--over-ms", "40")
    assert told.json == {"closing": 2, "overMs": 40}
    await eventually(lambda: not streams.open)
    assert (await ctl("close", "--service", "billing")).json == {"closing": 0, "overMs": 0}


@pytest.mark.gen_test
async def test_credentials_in_use_are_listed_and_revoked(
    serve: Serve, upstream: Start, tmp_path: Path, ctl: Ctl
) -> None:
    running = await started(serve, tmp_path, {"billing": [upstream(Source()).url]})
    streams = running.app.gateway.streams
    await log_in(running, token(sub="root", iat=0))
    for jti in "78":
        await Listener.ask(running, get(b"/sse/billing/x", bearer(jti=jti)))
    await eventually(lambda: len(streams.open) == 2)
    assert [each["jti"] for each in (await ctl("sessions", "--text", "ADA")).json["credentials"]] == ["7", "8"]
    head, first, second, total = (await ctl("sessions", "--limit", "2", is_terminal=True)).out.splitlines()
    assert head.split()[:3] == ["principal", "jti", "sessions"]
    assert (first.split()[0], first.split()[-4:]) == ("id|root", ["0", "s", "0", "0"])
    assert (second.split()[0], second.split()[-3:], total) == ("id|ada", ["–", "1", "0"], "3 credentials in all")
    told = await ctl("revoke", "jti", "7", "--for-ms", "60000", is_terminal=True)
    assert (told.code, told.out.startswith("jti 7 is revoked until ")) == (DONE, True)
    await eventually(lambda: len(streams.open) == 1)
    id_ = told.out.split()[-1]
    assert (await ctl("revocations", is_terminal=True)).out.splitlines()[1].split()[:3] == [id_, "jti", "7"]
    assert (await ctl("lift", id_, is_terminal=True)).out == "jti 7 is not revoked any more\n"
    told = await ctl("lift", id_)
    assert (told.code, told.err) == (REFUSED, "ctl: 404: no revocation has this id\n")
    assert (await ctl("revocations")).json["total"] == 0


@pytest.mark.gen_test
async def test_responses_are_listed_and_purged(serve: Serve, upstream: Start, tmp_path: Path, ctl: Ctl) -> None:
    up = upstream(Origin(FRESH, b"Cache-Tag: t"))
    running = await started(serve, tmp_path, {"svc": [up.url]}, **ON, AUTH_REQUIRED="false")
    for path in (b"/a", b"/b/c", b"/b/d", b"/a"):
        await cached(running, path=PATH + path)
    head, first, *_, last = (await ctl("cache", is_terminal=True)).out.splitlines()
    assert head.split()[:3] == ["service", "url", "hits"]
    assert first.split()[:3] == ["svc", "/x/a", "1"]
    assert last.startswith("1 hits of 4 looks; 3 responses, ")
    told = await ctl("purge", "svc", "--prefix", "/x/b/", "--soft", is_terminal=True)
    assert told.out.startswith("2 responses, ") and told.out.endswith(" bytes: made stale\n")
    assert (await ctl("purge", "svc", "--target", "/x/a", is_terminal=True)).out.startswith("1 response, ")
    assert (await ctl("purge", "--tag", "t", "--tag", "u")).json["responses"] == 2
    told = await ctl("purge", "svc")
    assert (told.code, told.err) == (REFUSED, "ctl: 400: either url or prefix, with service, or tags must be given\n")


@pytest.mark.gen_test
async def test_a_tail_tells_what_changes_until_the_gateway_stops(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": URLS}, SLOW_START_MS="0")
    observer, service = running.app.gateway.observer, running.app.gateway.services[b"billing"]
    following = asyncio.ensure_future(ctl("tail"))
    await eventually(lambda: observer._viewers)
    service.drain(service.endpoints[0], running.app.gateway.now())
    await observer.look(tells=True)
    observer.close()
    said = json.loads((await following).out)
    assert said["text"] == f"billing {URLS[0]} is drained"


@pytest.mark.parametrize(
    ("options", "services"),
    [
        (["--requests"], ["billing", "mail", ""]),
        (["--failed"], ["billing", "mail"]),
        (["--requests", "--service", "mail"], ["mail"]),
    ],
)
@pytest.mark.gen_test
async def test_a_tail_tells_the_requests_that_are_wanted(
    serve: Serve, tmp_path: Path, ctl: Ctl, options: list[str], services: list[str]
) -> None:
    running = await started(serve, tmp_path, {"billing": ["http://127.0.0.1:1"], "mail": ["http://127.0.0.1:1"]})
    observer = running.app.gateway.observer
    following = asyncio.ensure_future(ctl("tail", *options))
    await eventually(lambda: observer._viewers)
    for target in (b"/api/billing/a?b=1", b"/api/mail/a", b"/api/nothing/a"):
        await ask(running, get(target, bearer()))
    await observer.look(tells=True)
    observer.close()
    assert [json.loads(line)["service"] for line in (await following).out.splitlines()] == services


@pytest.mark.gen_test
async def test_a_request_is_a_line_of_a_terminal(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": ["http://127.0.0.1:1"]}, LOG_QUERY="true")
    observer = running.app.gateway.observer
    following = asyncio.ensure_future(ctl("tail", "--requests", is_terminal=True))
    await eventually(lambda: observer._viewers)
    await ask(running, get(b"/api/billing/a?b=1", bearer(), b"x-request-id: mine"))
    await observer.look(tells=True)
    observer.close()
    line = (await following).out
    assert " 502 GET /api/billing/a?b=1 -> billing http://127.0.0.1:1 (connect_failed) " in line
    assert line.endswith(" 127.0.0.1 id|ada mine\n")


@pytest.mark.gen_test
async def test_the_newest_requests_are_listed(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": ["http://127.0.0.1:1"]})
    await ask(running, get(b"/api/billing/a", bearer()))
    assert (await ctl("requests", "--rank", "failed", "--service", "billing")).json["matching"] == 1
    told = await ctl("requests", is_terminal=True)
    assert told.out.splitlines()[1].split()[1:6] == ["failed", "502", "connect_failed", "GET", "/api/billing/a"]


@pytest.mark.usefixtures("level")
@pytest.mark.gen_test
async def test_the_log_level_is_told_and_changed(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    await started(serve, tmp_path, {"billing": URLS})
    assert (await ctl("log-level", "warn")).json == {"level": "warn"}
    assert (await ctl("log-level", is_terminal=True)).out == "warn\n"


@pytest.mark.gen_test
async def test_a_url_needs_a_token_with_the_scope(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": URLS}, ADMIN_SCOPE="admin")
    place = ("--url", f"http://127.0.0.1:{running.port}")
    told = await ctl(*place, "drain", "billing", "0.7")
    assert (told.code, told.out, told.err.startswith("ctl: 401: ")) == (REFUSED, "", True)
    told = await ctl(*place, "drain", "billing", "0.7", GATEWAY_TOKEN=token(scope="read"))
    assert (told.code, told.err.startswith("ctl: 403: ")) == (REFUSED, True)
    assert weights(running) == [1, 1]
    assert (await ctl(*place, "drain", "billing", "0.7", GATEWAY_TOKEN=token(scope="admin"))).code == DONE
    assert weights(running) == [0, 1]


@pytest.mark.gen_test
async def test_a_gateway_that_is_read_only_refuses(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": URLS}, ADMIN_READ_ONLY="true")
    told = await ctl("drain", "billing", "0.7")
    assert (told.code, told.err) == (REFUSED, "ctl: 405: ADMIN_READ_ONLY is true: no page changes something\n")
    assert ((await ctl("services")).code, weights(running)) == (DONE, [1, 1])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["drain", "mail", "x"], "ctl: there is no service mail\n"),
        (["drain", "billing", "10.0.0"], f"ctl: 10.0.0 means 2 endpoints of billing; there are {', '.join(URLS)}\n"),
        (["drain", "billing", "10.9"], f"ctl: 10.9 is no endpoint of billing; there are {', '.join(URLS)}\n"),
        (["close"], "ctl: give the ids of streams, or --service with --endpoint if wanted\n"),
        (["close", "1", "--service", "a"], "ctl: give the ids of streams, or --service with --endpoint if wanted\n"),
        (["--url", "ftp://a", "services"],
         "ctl: --url is ftp://a, and must be like http://127.0.0.1:8080, without path and password\n"),
        (["weight", "billing", "0.7", "many"], None),
        (["fly"], None),
        ([], None),
    ],
    ids=range(9),
)  # fmt: skip
@pytest.mark.gen_test
async def test_wrong_usage_is_told(
    serve: Serve, tmp_path: Path, ctl: Ctl, arguments: list[str], complaint: str | None
) -> None:
    await started(serve, tmp_path, {"billing": URLS})
    told = await ctl(*arguments)
    assert (told.code, told.out) == (USAGE, "")
    assert told.err == complaint if complaint else "usage:" in told.err


@pytest.mark.gen_test
async def test_a_gateway_that_is_away_is_told_without_a_traceback(ctl: Ctl, tmp_path: Path) -> None:
    told = await ctl("services")
    path = tmp_path / "own" / "ctl.sock"
    assert (told.code, told.out, told.err) == (UNREACHABLE, "", f"ctl: {path}: No such file or directory\n")
    assert (await ctl("--url", "http://127.0.0.1:1", "services")).code == UNREACHABLE
    told = await ctl("services", CTL_SOCKET="")
    assert (told.code, told.err.startswith("ctl: set CTL_SOCKET")) == (USAGE, True)


@pytest.mark.gen_test
async def test_the_socket_serves_pages_for_operators_alone(serve: Serve, tmp_path: Path) -> None:
    running = await started(serve, tmp_path, {"billing": URLS})
    assert (await ask(running, get(b"/admin/api/services"))).status == 401
    reader, writer = await asyncio.open_unix_connection(tmp_path / "own" / "ctl.sock")
    for path, status in ((b"/admin/api/services", b"200"), (b"/api/billing/x", b"404"), (b"/readyz", b"200")):
        writer.write(get(path))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ", 2)[1] == status
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()


@pytest.mark.usefixtures("level")
@pytest.mark.gen_test
async def test_the_commands_of_the_page_work(serve: Serve, tmp_path: Path, ctl: Ctl) -> None:
    running = await started(serve, tmp_path, {"billing": URLS})
    marked = DOCUMENT.partition("<!-- ctl -->\n")[2].partition("<!-- /ctl -->")[0]
    lines = [shlex.split(line) for line in marked.splitlines()[1:-1]]
    assert len(lines) == 22 and lines[-1][-1] == "tail"
    for line in lines[:-1]:
        told = await ctl(*line[4:])
        assert (line[:4], told.code, told.err) == (["python", "-m", "tornado_gateway", "ctl"], DONE, ""), line
        json.loads(told.out)
    assert weights(running) == [3, 1]
