"""Unsafe requests take stored answers away."""

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, ask, frozen, kept
from tests.support.endpoints import Gate
from tests.support.journeys import Start
from tests.support.sockets import Message, Peer, eventually, get, reply


def changing(status: bytes = b"204 No Content", *lines: bytes) -> Each:
    """A service that answers GET with a number, and everything else with a status."""

    def answer(request: Message, number: int) -> bytes:
        if request.method in (b"GET", b"HEAD"):
            return reply(fields=(FRESH,), body=b"answer %d" % number)
        return reply(status, lines, b"" if status.startswith(b"204") else b"ok")

    return Each(answer)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"UNHEARD-OF"])
@pytest.mark.gen_test
async def test_a_success_of_an_unsafe_method_invalidates_the_target(
    serve: Serve, upstream: Start, method: bytes
) -> None:
    running = await frozen(serve, {"svc": [upstream(changing(b"200 OK")).url]}, **ON)
    for host in (b"a", b"b"):
        await ask(running, host=host)
    await ask(running, path=PATH + b"/other")
    await ask(running, method=method, host=b"a")
    assert kept(running) == 1
    assert (await ask(running, host=b"b")).body == b"answer 5"


@pytest.mark.parametrize(
    ("method", "status"), [(b"PUT", b"409 Conflict"), (b"PUT", b"500 No"), (b"OPTIONS", b"200 OK")]
)
@pytest.mark.gen_test
async def test_an_error_and_a_safe_method_invalidate_nothing(
    serve: Serve, upstream: Start, method: bytes, status: bytes
) -> None:
    running = await frozen(serve, {"svc": [upstream(changing(status)).url]}, **ON)
    await ask(running)
    await ask(running, method=method)
    assert (await ask(running)).body == b"answer 1"


@pytest.mark.parametrize("name", [b"Location", b"Content-Location"])
@pytest.mark.gen_test
async def test_what_the_answer_names_is_invalidated_too(serve: Serve, upstream: Start, name: bytes) -> None:
    up = upstream(changing(b"201 Created", name + b": /base/x"))
    running = await frozen(serve, {"svc": [up.url + "/base"]}, **ON)
    await ask(running)
    await ask(running, path=b"/api/svc/collection", method=b"POST")
    assert (await ask(running)).body == b"answer 3"


@pytest.mark.gen_test
async def test_an_answer_from_before_the_change_is_not_stored_after_the_change(serve: Serve, upstream: Start) -> None:
    gate = Gate(reply(fields=(FRESH,), body=b"old"))

    async def script(peer: Peer) -> None:
        if len(up.peers) == 1:
            await gate(peer)
        else:
            await peer.request()
            await peer.send(reply())

    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    await ask(running, method=b"PUT")
    await gate.open()
    assert (await client.response()).body == b"old"
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_an_unsafe_request_without_the_cache_passes(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(changing(b"200 OK")).url]})
    assert (await ask(running, method=b"POST")).body == b"ok"


@pytest.mark.gen_test
async def test_a_failed_unsafe_request_is_answered(serve: Serve) -> None:
    running = await frozen(serve, {"svc": ["http://127.0.0.1:1"]}, **ON)
    assert (await ask(running, method=b"POST")).status == 502
