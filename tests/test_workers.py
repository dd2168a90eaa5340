"""Several workers, as processes: signals, crashes, even connections, and take-overs."""

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import jwt

from tests.support.crews import Crew, await_, connections, crew, state_of
from tests.support.restarts import Load, listens, service


def status(port: int, path: str = "/healthz") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_connections_are_even_and_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with crew(folder=tmp_path, SHUTDOWN_TIMEOUT_MS="2000") as gateway, contextlib.ExitStack() as clients:
        first, second = gateway.workers
        for _ in range(100):
            clients.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        await_(lambda: sum(connections(each, gateway.port) for each in (first, second)) == 100)
        assert 45 <= connections(first, gateway.port) <= 55
        gateway.send(signal.SIGUSR1)
        gateway.hears("SIGUSR1 is ignored")
        os.kill(first, signal.SIGINT)  # as a terminal does, to all processes
        os.kill(first, signal.SIGKILL)
        assert [status(gateway.port) for _ in range(5)] == [200] * 5
        gateway.hears(f"worker 1 (process {first}) has ended with signal SIGKILL; another starts")
        gateway.is_ready()
        assert second in gateway.workers and first not in gateway.workers
        for _ in range(40):  # are the newcomer's
            clients.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        (newcomer,) = set(gateway.workers) - {second}
        await_(lambda: connections(newcomer, gateway.port) > 20)
        os.kill(second, signal.SIGTERM)  # drains, and another starts
        clients.close()
        gateway.hears(f"worker 2 (process {second}) has stopped; another starts")
        gateway.is_ready()
        assert gateway.end() == 0


def test_the_end_of_the_supervisor_is_the_end_of_all(tmp_path: Path) -> None:
    with crew(folder=tmp_path) as gateway:
        workers = gateway.workers
        gateway.popen.kill()
        gateway.popen.wait(30)
        await_(lambda: all(state_of(each) in ("", "Z") for each in workers))
        # A killed process keeps its sockets until its last thread has ended, and counts as ended with its first.
        await_(lambda: is_free(gateway.port))


def test_a_gateway_that_cannot_start_ends_with_3(tmp_path: Path) -> None:
    with crew(folder=tmp_path) as gateway:
        taken = Crew(folder=tmp_path, PORT=str(gateway.port))
        assert (taken.popen.wait(30), "Address already in use" in taken.log) == (3, True)
        gateway.send(signal.SIGTERM)
        gateway.send(signal.SIGTERM)  # ends at once
        assert gateway.popen.wait(30) in (0, 1)


def test_nothing_is_lost_while_a_crew_takes_over_from_a_crew(tmp_path: Path) -> None:
    async def run() -> Load:
        async with service() as upstream:
            variables = {
                "UPSTREAMS": json.dumps({"svc": [f"http://127.0.0.1:{upstream}"]}), "DRAIN_SPREAD_MS": "500",
                "TAKEOVER_SOCKET": f"{tmp_path}/own/s", "SHUTDOWN_TIMEOUT_MS": "4000",
            }  # fmt: skip
            with crew(folder=tmp_path, **variables) as old:
                await listens(old.port)
                async with Load(old.port, rate=60, kept=20, streams=2) as load:
                    new = Crew("--takeover", folder=tmp_path, workers=3, **variables | {"PORT": str(old.port)})
                    code = await asyncio.to_thread(old.popen.wait, 30)
                assert (code, "another process has taken over" in old.log) == (0, True)
                assert len(new.workers) == 3
                assert new.end() == 0
                return load

    tally = asyncio.run(run()).tally
    assert not tally.lost, str(tally)


def ask(port: int, method: str, path: str, body: str = "", **fields: str) -> http.client.HTTPResponse:
    """An answer on a connection of its own, so that another worker may answer than before; its text is `text`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, {each.replace("_", "-"): value for each, value in fields.items()})
        response = connection.getresponse()
        response.text = response.read().decode()  # type: ignore[attr-defined]
        return response


def test_every_worker_answers_for_the_whole_and_acts_for_the_whole(tmp_path: Path) -> None:
    secret = "k" * 32
    claims = {"sub": "ada", "jti": "a1", "iat": int(time.time()), "exp": int(time.time()) + 900}
    token = jwt.encode(claims, secret)
    variables = {"JWT_SECRET": secret, "AUTH_REQUIRED": "true", "METRICS_AUTH": "true", "ADMIN_SCOPE": ""}
    bearer = {"Authorization": f"Bearer {token}"}
    with crew(folder=tmp_path, **variables) as gateway, contextlib.ExitStack() as clients:
        port, url = gateway.port, "http://127.0.0.1:1"
        clients.enter_context(socket.create_connection(("127.0.0.1", port)))  # the next goes to the other worker

        def crew_figures() -> list[str]:
            text = ask(port, "GET", "/metrics", **bearer).text  # type: ignore[attr-defined]
            return re.findall(r"^gateway_worker\S+ \S+$", text, re.M)

        def count() -> float:
            text = ask(port, "GET", "/metrics", **bearer).text  # type: ignore[attr-defined]
            return sum(map(float, re.findall(r'route="/api/<service>/\*"[^}]*} (\d+\.\d+)$', total(text), re.M)))

        for _ in range(10):
            assert ask(port, "GET", "/api/svc/x", **bearer).status in (502, 503)
        assert [count() for _ in range(4)] == [10.0] * 4
        order = json.dumps({"service": "svc", "endpoint": url, "weight": 7})
        assert ask(port, "POST", "/admin/api/weight", order, **bearer).status == 200
        os.kill(gateway.workers[0], signal.SIGKILL)
        gateway.hears("another starts")
        gateway.is_ready()
        assert count() == 10.0
        assert sorted(crew_figures()) == [
            "gateway_worker_crashes_total 1.0",
            'gateway_workers{state="answering"} 2.0', 'gateway_workers{state="wanted"} 2.0',
        ]  # fmt: skip

        form = {"Content_Type": "application/x-www-form-urlencoded"}
        login = ask(port, "POST", "/admin/login", f"credential={token}", **form)
        assert login.status == 303
        session = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
        for _ in range(6):
            shown = json.loads(ask(port, "GET", "/admin/api/services", **session).text)  # type: ignore[attr-defined]
            assert shown["services"][0]["endpoints"][0]["weight"] == 7
        order = json.dumps({"jti": "a1"})
        assert ask(port, "POST", "/admin/api/revocations", order, **bearer).status == 201
        assert {ask(port, "GET", "/admin/api/services", **each).status for each in [session, bearer] * 4} == {401}
        told = [ask(port, "POST", "/admin/login", "credential=guess", **form).status for _ in range(12)]
        assert (told.count(429), set(told[:8])) == (2, {401}), told
        assert gateway.end() == 0


class Pinned:
    """A client of one worker."""

    def __init__(self, gateway: Crew, worker: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
        self._connection.sock = gateway.connect_to(worker)

    def begin(self, method: str, path: str, body: str = "", **fields: str) -> http.client.HTTPResponse:
        """The head of an answer."""
        given = {each.replace("_", "-"): value for each, value in fields.items()}
        self._connection.request(method, path, body or None, given)
        return self._connection.getresponse()

    def ask(self, method: str, path: str, body: str = "", **fields: str) -> tuple[int, str]:
        """The status and the body of an answer."""
        answer = self.begin(method, path, body, **fields)
        return answer.status, answer.read().decode()

    def close(self) -> None:
        self._connection.close()


def test_limits_tickets_and_stored_responses_of_one_worker_count_in_another(tmp_path: Path) -> None:
    asked: list[str] = []

    class Service(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            if "text/event-stream" in self.headers.get("Accept", ""):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"data: 1\n\n")
                self.close_connection = True
                ended.wait(20)
                return
            self.send_response(200)
            self.send_header("Cache-Control", "public, max-age=600")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    secret = "k" * 32
    token = jwt.encode({"sub": "ada", "exp": int(time.time()) + 900}, secret)
    variables = {
        "JWT_SECRET": secret, "AUTH_TOKEN_SOURCES": "header,ticket", "AUTH_REQUIRED": "true", "ADMIN_SCOPE": "",
        "RATE_LIMITS": "14/h;key=principal", "MAX_STREAMS_PER_CLIENT": "1", "CACHE_ENABLED": "true",
    }  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    ended = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as service, contextlib.ExitStack() as stack:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        stack.callback(service.shutdown)
        stack.callback(ended.set)
        variables["UPSTREAMS"] = json.dumps({"svc": [f"http://127.0.0.1:{service.server_address[1]}"]})
        gateway = stack.enter_context(crew(folder=tmp_path, **variables))
        first, second = [Pinned(gateway, each) for each in gateway.workers]
        stack.callback(first.close)
        stack.callback(second.close)

        # A ticket is good once, in whatever worker.
        def ticket() -> str:
            text: str = json.loads(first.ask("POST", "/auth/ticket", '{"service": "svc"}', **bearer)[1])["ticket"]
            return text

        events = Pinned(gateway, gateway.workers[1])
        shown = ticket()
        stream = events.begin("GET", f"/sse/svc/x?ticket={shown}", Accept="text/event-stream")
        assert stream.status == 200
        assert first.ask("GET", f"/sse/svc/x?ticket={shown}", Accept="text/event-stream")[0] == 401
        # One stream of the client is open, in the second worker.
        assert first.ask("GET", f"/sse/svc/x?ticket={ticket()}", Accept="text/event-stream")[0] == 429
        events.close()
        ended.set()

        # A purge reaches both caches.
        def both() -> list[tuple[int, str]]:
            return [each.ask("GET", "/api/svc/cached", **bearer) for each in (first, second)]

        asked.clear()
        assert both() + both() == [(200, "ok")] * 4
        assert asked == ["/cached"] * 2  # each worker has a cache of its own
        order = json.dumps({"service": "svc", "url": "/cached"})
        purged = json.loads(first.ask("POST", "/admin/api/cache/purge", order, **bearer)[1])
        assert purged["responses"] == 2
        # The limit counts both workers: the tickets above are requests, too.
        told = [each.ask("GET", "/api/svc/cached", **bearer)[0] for each in (first, second) * 10]
        assert (told[0], told[-2:]) == (200, [429, 429])
        assert told.count(200) <= 14 - 4 - 2
        assert gateway.end() == 0


def test_each_endpoint_is_checked_by_one_worker_and_what_a_worker_learns_all_know(tmp_path: Path) -> None:
    checked: list[tuple[str, int | None]] = []  # path, and id of the worker
    sick = threading.Event()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/health"):
                checked.append((self.path, gateway.worker_at(self.client_address[1], self.server.server_port)))
            self.send_response(503 if sick.is_set() else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as service, contextlib.ExitStack() as stack:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        stack.callback(service.shutdown)
        url = f"http://127.0.0.1:{service.server_address[1]}"
        checks = {"healthCheck": "http", "healthPath": "/health", "healthIntervalMs": 200}
        checks |= {"healthDownIntervalMs": 100, "healthFall": 2}
        services = {
            "svc": {"endpoints": [f"{url}/{each}" for each in range(4)], **checks},
            "bad": ["http://127.0.0.1:1"],
        }
        variables = {"UPSTREAMS": json.dumps(services), "READY_REQUIRES": "svc", "BREAKER_FAILURES": "3"}
        gateway = stack.enter_context(crew(folder=tmp_path, **variables))
        first, second = [Pinned(gateway, each) for each in gateway.workers]
        stack.callback(first.close)
        stack.callback(second.close)
        await_(lambda: len({path for path, _ in checked}) == 4)
        checked.clear()  # of the start, when one worker may not know the other yet
        await_(lambda: len(checked) >= 12)
        assert len({path for path, _ in checked}) == len(set(checked)) == 4, checked
        assert {worker for _, worker in checked} <= set(gateway.workers)
        sick.set()
        await_(lambda: [each.ask("GET", "/readyz")[0] for each in (first, second)] == [503, 503])
        sick.clear()
        await_(lambda: [each.ask("GET", "/readyz")[0] for each in (first, second)] == [200, 200])
        # Requests of the first worker open a breaker, and the second knows.
        for _ in range(3):
            assert first.ask("GET", "/api/bad/x")[0] == 502

        def breaker() -> str:
            told = json.loads(second.ask("GET", "/admin/api/services")[1])["services"]
            (found,) = [each["endpoints"][0]["breaker"] for each in told if each["service"] == "bad"]
            return str(found)

        await_(lambda: breaker() == "open")
        assert gateway.end() == 0


def total(text: str) -> str:
    return "\n".join(
        line for line in text.splitlines() if line.startswith("gateway_http_request_duration_seconds_count")
    )


KILLS = int(os.environ.get("KILLS", "1"))


def test_totals_never_go_back_while_workers_are_killed_under_load(tmp_path: Path) -> None:
    """`tests/long workers` kills more workers, and shows what became of the requests."""

    async def run() -> Load:
        async with service() as upstream:
            upstreams = json.dumps({"svc": [f"http://127.0.0.1:{upstream}"]})
            with crew(folder=tmp_path, UPSTREAMS=upstreams, SHUTDOWN_TIMEOUT_MS="2000") as gateway:
                shown = [0.0]
                async with Load(gateway.port, rate=50, kept=10, streams=1) as load:
                    for _ in range(KILLS):
                        shown.append(await asyncio.to_thread(requests, gateway.port))
                        os.kill(gateway.workers[0], signal.SIGKILL)
                        for _ in range(3):
                            shown.append(await asyncio.to_thread(requests, gateway.port))
                        await asyncio.to_thread(gateway.is_ready)
                assert shown == sorted(shown) and shown[-1] > 0
                assert gateway.end() == 0
                return load

    tally = asyncio.run(run()).tally
    sys.stdout.write(f"{KILLS} kills: {tally}\n")
    assert not [each for each in tally.lost if each.endswith(("ConnectionRefusedError", "TimeoutError"))], str(tally)


def requests(port: int) -> float:
    """The number of requests that /metrics shows."""
    try:
        text = ask(port, "GET", "/metrics").text  # type: ignore[attr-defined]
    except (ConnectionError, http.client.HTTPException):  # of the worker that was killed
        return requests(port)
    return sum(map(float, re.findall(r" (\d+\.\d+)$", total(text), re.MULTILINE)))
