"""SSE_PEEK_MS: a stream whose first event is an error is replaced; a slow stream is not."""

import asyncio
from collections.abc import Callable

import pytest

from tests.conftest import Running, Serve
from tests.support.event_streams import let_pass
from tests.support.journeys import Start, ask, capture
from tests.support.sockets import Peer, Script, eventually, get
from tornado_gateway.handlers.peek import MAX_PEEK

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
GOOD = b"data: good\n\n"
ERROR = b'data: {"error": {"message": "overloaded"}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def says(*steps: bytes, then: str = "wait") -> Script:
    """A script: read a request, send the steps, each in a read of its own, then wait, close or reset."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for step in steps:
            await peer.send(step)
            await asyncio.sleep(0.01)
        if then == "wait":
            await peer.ended()
        elif then == "reset":
            peer.reset()

    return script


Pair = Callable[[Script], "asyncio.Future[Running]"]


async def pair(serve: Serve, upstream: Start, first: Script, **variables: str) -> Running:
    """A gateway whose first endpoint plays a script and whose second is good."""
    urls = [upstream(first).url, upstream(says(HEAD, chunk(GOOD), END)).url]
    variables = {"SSE_PEEK_MS": "2000", "BALANCER": "round_robin"} | variables
    return await serve({"svc": urls}, **variables)


FAILING = {
    "an-error-in-json": says(HEAD, chunk(ERROR)),
    "an-error-event": says(HEAD, chunk(b"event: error\ndata: x\n\n")),
    "an-error-cut-in-two": says(HEAD, chunk(ERROR[:9]), chunk(ERROR[9:])),
    "a-reset": says(HEAD, then="reset"),
    "an-end-in-the-middle": says(HEAD, chunk(b"data: hal"), then="close"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("first", FAILING.values(), ids=FAILING)
async def test_a_stream_that_begins_with_an_error_is_replaced(serve: Serve, upstream: Start, first: Script) -> None:
    running = await pair(serve, upstream, first)
    lines = capture(running)
    answer = await ask(running, get(b"/sse/svc/events"))
    assert (answer.status, answer.body, answer.complete) == (200, GOOD, True)
    assert running.errors == 1
    await eventually(lambda: [(line["status"], line["attempts"]) for line in lines()] == [(200, 2)])


@pytest.mark.gen_test
async def test_a_slow_stream_is_not_replaced(serve: Serve, upstream: Start) -> None:
    released = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        await asyncio.wait_for(released.wait(), 5)
        await peer.send(chunk(ERROR) + END)

    running = await pair(serve, upstream, slow, SSE_PEEK_MS="30")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    head = await client.head()
    assert head.status == 200  # it came although no event had
    released.set()
    await client.body(head)
    assert (head.body, running.errors) == (ERROR, 0)


@pytest.mark.gen_test
async def test_a_good_first_event_is_not_held_back(serve: Serve, upstream: Start) -> None:
    running = await pair(serve, upstream, says(HEAD, chunk(b"data: 1\n"), chunk(b"\n")), SSE_PEEK_MS="60000")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    assert (await client.head()).status == 200
    assert await client.until(b"data: 1\n\n\r\n")


@pytest.mark.gen_test
@pytest.mark.parametrize("then", ["close", "end"])
async def test_without_another_endpoint_a_failure_is_passed_on(serve: Serve, upstream: Start, then: str) -> None:
    steps = (HEAD, chunk(ERROR), END) if then == "end" else (HEAD, chunk(ERROR))
    running = await serve({"svc": [upstream(says(*steps, then="close")).url]}, SSE_PEEK_MS="2000")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    assert (await client.head()).status == 200
    assert await client.until(ERROR)


@pytest.mark.gen_test
async def test_when_all_endpoints_begin_with_an_error_the_last_one_is_passed_on(serve: Serve, upstream: Start) -> None:
    urls = [upstream(says(HEAD, chunk(ERROR), END)).url for _ in range(2)]
    running = await serve({"svc": urls}, SSE_PEEK_MS="2000")
    answer = await ask(running, get(b"/sse/svc/events"))
    assert (answer.status, answer.body, answer.complete) == (200, ERROR, True)
    assert running.errors == 1


@pytest.mark.gen_test
async def test_an_empty_stream_is_an_empty_stream(serve: Serve, upstream: Start) -> None:
    running = await pair(serve, upstream, says(HEAD, END))
    answer = await ask(running, get(b"/sse/svc/events"))
    assert (answer.status, answer.body, answer.complete, running.errors) == (200, b"", True, 0)


@pytest.mark.gen_test
async def test_a_huge_first_event_is_not_waited_for(serve: Serve, upstream: Start) -> None:
    running = await pair(serve, upstream, says(HEAD, chunk(b"data: " + b"x" * MAX_PEEK)), SSE_PEEK_MS="60000")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    assert (await client.head()).status == 200


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_its_stream_is_looked_at_ends_it(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(says(HEAD)).url for _ in range(2)]}, SSE_PEEK_MS="50")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    await eventually(lambda: running.inflight == 1)
    client.close()
    await eventually(lambda: running.inflight == 0)
    assert running.errors == 0


@pytest.mark.parametrize(("later", "errors"), [(250, 0), (350, 1)])
@pytest.mark.gen_test
async def test_a_stream_that_is_looked_at_has_the_time_of_a_stream(
    serve: Serve, upstream: Start, later: float, errors: int
) -> None:
    running = await pair(serve, upstream, says(HEAD), SSE_PEEK_MS="600000")
    client = await running.client()
    await client.send(get(b"/sse/svc/events"))
    await eventually(lambda: [each for each in running.app.gateway.client.active if each._exchange.head])  # type: ignore[union-attr]
    let_pass(running, later)  # the head's time, 30 s, is over; between two events there are 300 s
    assert running.errors == errors
    assert not errors or await client.until(GOOD)  # the other endpoint's
    client.close()
    await eventually(lambda: running.inflight == 0)


# ---------------------------------------------------------------- answers to what may be repeated

MODEL = (b"Accept: application/json", b"Content-Type: application/json")  # as model clients ask for streams, too


async def of_models(serve: Serve, upstream: Start, first: Script, **options: object) -> Running:
    """A gateway whose first endpoint plays a script and whose second is good."""
    urls = [upstream(first).url, upstream(says(HEAD, chunk(GOOD), END)).url]
    return await serve({"svc": {"endpoints": urls, "balancer": "round_robin", "ssePeekMs": 2000, **options}})


@pytest.mark.parametrize("declared", [["POST"], "POST,PATCH", "all"])
@pytest.mark.parametrize("first", FAILING.values(), ids=FAILING)
@pytest.mark.gen_test
async def test_a_stream_in_answer_to_a_post_that_may_be_repeated_is_replaced(
    serve: Serve, upstream: Start, first: Script, declared: object
) -> None:
    running = await of_models(serve, upstream, first, repeatable=declared)
    answer = await ask(running, get(b"/api/svc/chat", *MODEL, method=b"POST", body=b'{"stream": true}'))
    assert (answer.status, answer.body, answer.complete) == (200, GOOD, True)
    assert running.errors == 1


@pytest.mark.parametrize(("options", "body"), [({}, b"{}"), ({"repeatable": ["PATCH"]}, b"{}"),
                                               ({"repeatable": "all"}, b"x" * 500_000)])  # fmt: skip
@pytest.mark.gen_test
async def test_a_post_that_may_not_be_repeated_or_is_too_long_to_be_keeps_its_error(
    serve: Serve, upstream: Start, options: dict[str, object], body: bytes
) -> None:
    running = await of_models(serve, upstream, says(HEAD, chunk(ERROR), END), **options)
    answer = await ask(running, get(b"/api/svc/chat", *MODEL, method=b"POST", body=body))
    assert (answer.status, answer.body) == (200, ERROR)


@pytest.mark.parametrize("declared", ["", "POST"])
@pytest.mark.gen_test
async def test_a_post_that_may_be_repeated_is_sent_again_when_its_connection_breaks(
    serve: Serve, upstream: Start, declared: str
) -> None:
    running = await of_models(serve, upstream, says(then="reset"), repeatable=declared)
    answer = await ask(running, get(b"/api/svc/chat", *MODEL, method=b"POST", body=b"{}"))
    assert answer.status == (200 if declared else 502)


@pytest.mark.gen_test
async def test_a_get_may_be_repeated_whatever_it_accepts(serve: Serve, upstream: Start) -> None:
    running = await of_models(serve, upstream, says(HEAD, chunk(ERROR)))
    assert (await ask(running, get(b"/api/svc/chat", b"Accept: */*"))).body == GOOD
