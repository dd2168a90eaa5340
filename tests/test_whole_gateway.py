"""Two workers, as processes: what is made in one is read from the other, whichever worker a client meets."""

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt

from tests.support.credentials import BASIC_USERS, PASSWORD, credential
from tests.support.crews import Crew, await_, crew
from tests.support.openapi import complaints
from tests.support.restarts import ROOT
from tests.test_documents import code, documents, rows
from tests.test_workers import Pinned

PAGE = documents()["docs/overload.md"]
DOCUMENT = json.loads((ROOT / "tornado_gateway/handlers/pages/openapi.json").read_text("utf-8"))


class Both:
    """A gateway of two workers, and a client of each."""

    def __init__(self, gateway: Crew, clients: list[Pinned]) -> None:
        self.gateway, self.clients = gateway, clients

    def said(self, worker: int, path: str) -> Any:
        """What a worker says, as JSON."""
        status, text = self.clients[worker].ask("GET", path)
        assert status == 200, text
        return as_documented(path, "get", json.loads(text))

    def order(self, worker: int, path: str, **said: object) -> Any:
        """The answer of a worker to an order."""
        status, text = self.clients[worker].ask("POST", path, json.dumps(said))
        assert status == 200, text
        return as_documented(path, "post", json.loads(text))


def as_documented(target: str, method: str, said: Any) -> Any:
    """What a page says, if that is as the OpenAPI document has it."""
    page = DOCUMENT["paths"].get(target.partition("?")[0])
    if page:
        (schema,) = [each["schema"] for each in page[method]["responses"]["200"]["content"].values()]
        assert list(complaints(DOCUMENT, schema, said)) == []
    return said


@contextmanager
def both(folder: Path, **variables: str) -> Iterator[Both]:
    with crew(folder=folder, **variables) as gateway, contextlib.ExitStack() as stack:
        clients = [Pinned(gateway, each) for each in gateway.workers]
        for each in clients:
            stack.callback(each.close)
        yield Both(gateway, clients)


def counted(answered: int, ready: int, status: str = "ready") -> dict[str, Any]:
    return {"status": status, "workers": {"of": 2, "answered": answered, "ready": ready}}


def test_readiness_counts_the_workers_and_waits_for_none_that_hangs(tmp_path: Path) -> None:
    with both(tmp_path) as pair:
        for worker in (0, 1):
            await_(lambda worker=worker: pair.said(worker, "/readyz") == counted(2, 2))  # type: ignore[misc]
        os.kill(pair.gateway.workers[1], signal.SIGSTOP)
        await_(lambda: pair.said(0, "/readyz") == counted(1, 1))
        os.kill(pair.gateway.workers[1], signal.SIGCONT)
        await_(lambda: pair.said(0, "/readyz") == counted(2, 2))
        pair.gateway.send(signal.SIGSTOP)  # nobody can tell of the other worker
        await_(lambda: pair.said(0, "/readyz") == counted(1, 1))
        assert pair.said(0, "/_pressure")["workers"]["answered"] == 1
        pair.gateway.send(signal.SIGCONT)


def test_a_worker_that_leaves_alone_is_no_reason_to_go_elsewhere_and_a_gateway_that_drains_is(tmp_path: Path) -> None:
    with crew(folder=tmp_path, SHUTDOWN_DELAY_MS="60000", SHUTDOWN_TIMEOUT_MS="100") as gateway:
        first, second = gateway.workers

        def said(worker: int) -> tuple[int, Any]:
            """On a new connection: who drains closes each connection."""
            with contextlib.closing(Pinned(gateway, worker)) as client:
                status, text = client.ask("GET", "/readyz")
            return status, json.loads(text)

        os.kill(second, signal.SIGTERM)
        for worker in (first, second):
            await_(lambda worker=worker: said(worker) == (200, counted(2, 1)))  # type: ignore[misc]
        gateway.send(signal.SIGTERM)  # the whole gateway drains
        gateway.hears("stopping 2 workers")
        for worker in (first, second):
            await_(lambda worker=worker: said(worker) == (503, counted(2, 0, "draining")))  # type: ignore[misc]


class Slow(http.server.BaseHTTPRequestHandler):
    """A service that answers when the test has ended."""

    ended = threading.Event()

    def do_GET(self) -> None:
        self.ended.wait(20)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def slow_service() -> Iterator[str]:
    """The URL of a service whose answers do not come."""
    Slow.ended.clear()
    with served(Slow) as url:
        try:
            yield url
        finally:
            Slow.ended.set()


@contextmanager
def served(service: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a service."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def waiting(gateway: Crew, worker: int, path: str = "/api/svc/x") -> socket.socket:
    """A request of a worker that the service does not answer."""
    client = gateway.connect_to(worker)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    return client


def test_pressure_adds_the_figures_of_all_workers_and_each_worker_sheds_by_its_own(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        upstreams = json.dumps({"svc": [stack.enter_context(slow_service())]})
        pair = stack.enter_context(both(tmp_path, UPSTREAMS=upstreams, MAX_IN_FLIGHT_TOTAL="4"))
        first, second = pair.gateway.workers
        for worker in (first, second, second):
            stack.enter_context(waiting(pair.gateway, worker))

        def said(worker: int) -> Any:
            return json.loads(pair.clients[worker].ask("GET", "/_pressure?heap")[1])

        await_(lambda: said(0)["active"]["requests"] == said(1)["active"]["requests"] == 3)
        assert [pair.clients[each].ask("GET", "/_pressure")[0] for each in (0, 1)] == [200, 503]
        for worker, (status, shedding) in enumerate([("ok", 0), ("overloaded", 4)]):
            found = said(worker)
            assert (found["status"], len(found["shedding"])) == (status, shedding)
            assert (found["workers"]["of"], found["workers"]["answered"]) == (2, 2)
            each = found["workers"]["each"]
            assert [(one["worker"], one["status"], one["active"]["requests"]) for one in each] == [
                (1, "ok", 1), (2, "overloaded", 2),
            ]  # fmt: skip
            assert found["rssBytes"] == sum(one["rssBytes"] for one in each)
            assert set(each[0]) - {"worker"} == set(found) - {"workers"}
            assert set(code(rows(PAGE, "workers")[0][0])) == {"workers"}


def test_services_have_the_requests_of_all_workers_and_so_has_the_answer_to_an_act(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(slow_service())
        pair = stack.enter_context(both(tmp_path, UPSTREAMS=json.dumps({"svc": [url]})))
        for worker in pair.gateway.workers:
            stack.enter_context(waiting(pair.gateway, worker))

        def endpoint(worker: int) -> Any:
            return pair.said(worker, "/admin/api/services")["services"][0]["endpoints"][0]

        for worker in (0, 1):
            await_(lambda worker=worker: endpoint(worker)["requests"] == 2)  # type: ignore[misc]
        told = pair.order(0, "/admin/api/weight", service="svc", endpoint=url, weight=3)
        assert (told["service"], told["weight"], told["requests"]) == ("svc", 3, 2)
        assert told == {"service": "svc", **endpoint(1)}
        pair.order(1, "/admin/api/breaker", service="svc", endpoint=url, act="open")
        assert [endpoint(each)["breaker"] for each in (0, 1)] == ["open", "open"]


def test_requests_of_one_worker_are_in_the_list_and_the_dashboard_of_the_other(tmp_path: Path) -> None:
    with both(tmp_path) as pair, contextlib.closing(Pinned(pair.gateway, pair.gateway.workers[1])) as viewer:
        for path in ("/api/svc/first", "/api/svc/second"):
            for client in pair.clients:
                assert client.ask("GET", path)[0] == 502
        for worker in (0, 1):
            found = pair.said(worker, "/admin/api/requests?rank=failed&limit=3")
            assert found["matching"] == 4
            ids = [each["id"] for each in found["requests"]]
            assert (len(ids), ids) == (3, sorted(ids, reverse=True))
            assert {each["id"] % 2 for each in found["requests"]} == {0, 1}  # of both workers
        events = viewer.begin("GET", "/admin/events")
        whole = next_of(events, "whole")
        at = whole["columns"]["requests"].index("path")
        assert sorted(each[at] for each in whole["requests"]) == ["/api/svc/first"] * 2 + ["/api/svc/second"] * 2
        pair.order(0, "/admin/api/weight", service="svc", endpoint="http://127.0.0.1:1", weight=3)
        pair.clients[0].ask("GET", "/api/svc/third")
        requests, texts = list[str](), list[str]()
        while not (requests and texts):
            change = next_of(events, "change")
            requests += [each[at] for each in change["requests"]]
            texts += [each["text"] for each in change["events"] if "(gave weight 3" in each["text"]]
        assert (requests, len(texts)) == (["/api/svc/third"], 1)


def next_of(events: http.client.HTTPResponse, name: str) -> Any:
    """The data of the next event of a name."""
    while events.readline().decode().strip() != f"event: {name}":
        assert not events.closed
    return json.loads(events.readline().decode().removeprefix("data: "))


class Cacheable(http.server.BaseHTTPRequestHandler):
    """A service whose answers may be kept."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Cache-Control", "public, max-age=600")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def test_the_page_of_the_cache_has_what_all_workers_keep(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        upstreams = json.dumps({"svc": [stack.enter_context(served(Cacheable))]})
        pair = stack.enter_context(both(tmp_path, UPSTREAMS=upstreams, CACHE_ENABLED="true"))
        for worker, path in [(0, "a"), (0, "a"), (1, "a"), (1, "a"), (1, "a"), (1, "b")]:
            assert pair.clients[worker].ask("GET", f"/api/svc/{path}") == (200, "ok")
        for worker in (0, 1):
            said = pair.said(worker, "/admin/api/cache")
            assert (said["looks"], said["hits"], said["responses"]) == (6, 3, 3)
            assert [(each["url"], each["hits"]) for each in said["hottest"]] == [("/a", 3), ("/b", 0)]
        assert pair.order(0, "/admin/api/cache/purge", service="svc", prefix="/")["responses"] == 3
        said = pair.said(1, "/admin/api/cache")
        assert (said["purges"], said["purgedResponses"], said["responses"]) == (1, 3, 0)


def test_who_meets_a_limit_in_one_worker_is_shown_by_the_dashboard_of_each(tmp_path: Path) -> None:
    limited = json.dumps({"svc": {"endpoints": ["http://127.0.0.1:1"], "rateLimits": "1/h"}})
    with both(tmp_path, UPSTREAMS=limited) as pair:
        assert pair.clients[0].ask("GET", "/api/svc/x")[0] == 502
        assert [each.ask("GET", "/api/svc/x")[0] for each in pair.clients for _ in range(2)] == [429] * 4
        for worker in pair.gateway.workers:
            with contextlib.closing(Pinned(pair.gateway, worker)) as viewer:
                events = viewer.begin("GET", "/admin/events")
                assert refusals_of(events) == [("client 127.0.0.1", 4)]


def refusals_of(events: http.client.HTTPResponse) -> list[tuple[str, int]]:
    """Who meets limits, and how often, once that is no more than half a second old."""
    found = next_of(events, "whole")["refused"]
    while sum(count for *_, count in found) < 4:
        found = next_of(events, "change")["refused"]
    return [(who, count) for _, who, count in found]


def test_requests_in_flight_of_a_client_count_in_all_workers_until_a_worker_ends(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        upstreams = json.dumps({"svc": [stack.enter_context(slow_service())]})
        pair = stack.enter_context(both(tmp_path, UPSTREAMS=upstreams, MAX_IN_FLIGHT_PER_CLIENT="2"))
        first, second = pair.gateway.workers

        def in_flight() -> int:
            found: int = pair.said(0, "/_pressure")["active"]["requests"]
            return found

        for worker in (first, second):
            stack.enter_context(waiting(pair.gateway, worker))
        await_(lambda: in_flight() == 2)
        assert [each.ask("GET", "/api/svc/x")[0] for each in pair.clients] == [429, 429]
        os.kill(second, signal.SIGKILL)
        pair.gateway.hears("another starts")
        stack.enter_context(waiting(pair.gateway, first))  # is admitted
        await_(lambda: in_flight() == 2)
        assert pair.clients[0].ask("GET", "/api/svc/x")[0] == 429


SECRET = "k" * 32
AUTH = {"JWT_SECRET": SECRET, "AUTH_REQUIRED": "true", "ADMIN_SCOPE": ""}


def token(jti: str) -> str:
    now = int(time.time())
    return jwt.encode({"sub": "ada", "jti": jti, "iat": now, "exp": now + 900}, SECRET)


def log_in(client: Pinned, credential: str) -> tuple[int, str]:
    """The status of a log-in, and the Cookie of the session."""
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = client.begin("POST", "/admin/login", f"credential={credential}", **form)
    answer.read()
    return answer.status, answer.headers.get("Set-Cookie", "").partition(";")[0]


def test_a_session_and_a_revocation_of_one_worker_count_in_the_other(tmp_path: Path) -> None:
    with both(tmp_path, **AUTH) as pair:
        first, second = pair.clients

        def status(client: Pinned, **credential: str) -> int:
            return client.ask("GET", "/admin/api/services", **credential)[0]

        begun, cookie = log_in(first, token("a1"))
        assert (begun, status(second, Cookie=cookie), status(first, Cookie=cookie)) == (303, 200, 200)
        bearer = f"Bearer {token('a2')}"
        same = f"http://127.0.0.1:{pair.gateway.port}"
        assert second.ask("POST", "/admin/logout", Cookie=cookie, Origin=same)[0] == 303
        assert [status(each, Cookie=cookie) for each in pair.clients] == [401, 401]
        assert [status(each, Authorization=bearer) for each in pair.clients] == [200, 200]
        said = json.dumps({"jti": "a2"})
        assert second.ask("POST", "/admin/api/revocations", said, Authorization=bearer)[0] == 201
        assert [status(each, Authorization=bearer) for each in pair.clients] == [401, 401]
        other = f"Bearer {token('a3')}"
        (revoked,) = json.loads(first.ask("GET", "/admin/api/revocations", Authorization=other)[1])["revocations"]
        assert first.ask("DELETE", f"/admin/api/revocations/{revoked['id']}", Authorization=other)[0] == 200
        assert [status(each, Authorization=bearer) for each in pair.clients] == [200, 200]


def test_log_ins_that_fail_in_one_worker_count_in_the_other(tmp_path: Path) -> None:
    with both(tmp_path, **AUTH) as pair:
        told = [log_in(client, "guess")[0] for client in pair.clients for _ in range(6)]
        assert told == [401] * 10 + [429] * 2
        assert [log_in(client, "guess")[0] for client in pair.clients] == [429, 429]


def test_passwords_that_are_wrong_in_one_worker_count_in_the_other(tmp_path: Path) -> None:
    with both(tmp_path, AUTH_REQUIRED="true", BASIC_USERS=BASIC_USERS) as pair:

        def status(worker: int, password: str) -> int:
            given = credential("ada", password).decode()
            return pair.clients[worker].ask("GET", "/api/svc/x", Authorization=f"Basic {given}")[0]

        assert [status(worker, f"wrong {number}") for worker in (0, 1) for number in range(5)] == [401] * 10
        for worker in (0, 1):
            await_(lambda worker=worker: status(worker, PASSWORD) == 429)  # type: ignore[misc]


def test_a_log_level_reaches_all_workers_their_supervisor_and_later_workers(tmp_path: Path) -> None:
    with both(tmp_path) as pair:
        pair.order(0, "/admin/api/log-level", level="error")
        assert pair.said(1, "/admin/api/log-level") == {"level": "error"}
        before = pair.gateway.workers
        os.kill(before[1], signal.SIGKILL)
        pair.gateway.hears("another starts")
        await_(lambda: len(set(pair.gateway.workers) - set(before)) == 1)
        (newcomer,) = set(pair.gateway.workers) - set(before)
        with contextlib.closing(Pinned(pair.gateway, newcomer)) as late:
            assert late.ask("GET", "/admin/api/log-level") == (200, '{"level": "error"}\n')
        assert pair.gateway.log.count("accepts connections") == 2  # the supervisor's line of the newcomer is no error
