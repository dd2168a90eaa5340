"""The differential run: a seed repeats its input, views hide only what must differ, and a difference is found."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.differential.__main__ import Run, told
from tests.support.differential.cases import Generator, close_frame, frame, token
from tests.support.differential.framing import (
    final_responses,
    has_close_frame,
    is_refusal,
    partial_chunks,
    read_chunks,
    request_end,
)
from tests.support.differential.sameness import (
    changed_lines,
    compared,
    frames,
    log_view,
    messages,
    metrics_view,
    plain,
    scene_view,
    stats_view,
)
from tests.support.differential.scenes import Answer, Case, Heard, Reset, Scene, Send, Whole
from tests.support.differential.sides import PROFILES
from tornado_gateway.adapters.jwt_auth import TokenConfig, TokenVerifier
from tornado_gateway.config.load import load_settings

ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- framing


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"GET / HTTP/1.1\r\n", 0),
        (b"GET / HTTP/1.1\r\n\r\nrest", 18),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", 41),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 0),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx", 58),
    ],
)
def test_a_request_ends_where_its_framing_says(data: bytes, end: int) -> None:
    assert request_end(data) == end


def test_chunks_are_joined_with_their_trailers() -> None:
    chunks = read_chunks(b"2;x=1\r\nab\r\n1\r\nc\r\n0\r\nX: 1\r\n\r\nnext", 0)
    assert chunks
    assert (chunks.body, chunks.trailers, chunks.end) == (b"abc", b"X: 1\r\n\r\n", 28)


@pytest.mark.parametrize("data", [b"", b"2\r\nab", b"2\r\nabX\r\n", b"zz\r\n", b"0\r\nX: 1\r\n", b"0\r\n"])
def test_a_chunked_body_that_is_not_whole_is_none(data: bytes) -> None:
    assert read_chunks(data, 0) is None


def test_of_a_body_that_was_cut_off_the_data_counts_not_the_chunks() -> None:
    assert partial_chunks(b"1\r\na\r\n2\r\nbc\r\n", 0) == partial_chunks(b"3\r\nabc\r\n", 0) == b"abc|"


def test_final_responses_are_counted_by_their_framing() -> None:
    data = (
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        b"HTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end"
    )
    assert final_responses(data, [b"GET"], ended=False) == 2
    assert final_responses(data, [b"GET"], ended=True) == 3
    assert final_responses(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [b"HEAD"], ended=False) == 1
    assert final_responses(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", [b"GET"], ended=True) == 0


def test_a_close_frame_is_found_behind_other_frames() -> None:
    handshake = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    others = frame(1, b"\x88" * 200) + frame(2, b"x" * 70_000, mask=b"mask")
    assert not has_close_frame(handshake + others)
    assert has_close_frame(handshake + others + close_frame(1000))
    assert not is_refusal(handshake)
    assert is_refusal(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")


# ---------------------------------------------------------------- input


def test_a_case_depends_on_the_seed_and_its_number_alone() -> None:
    assert [told(Generator(1).case(number)) for number in range(50)] == [
        told(Generator(1).case(number)) for number in range(50)
    ]
    assert told(Generator(1).case(7)) != told(Generator(2).case(7))


def test_all_kinds_of_input_are_generated() -> None:
    cases = [Generator(5).case(number) for number in range(600)]
    assert len({case.kind for case in cases}) == 9
    sent = b"".join(step.data for case in cases for step in case.client if isinstance(step, Send))
    answered = b"".join(
        step.data for case in cases for answer in case.answers for step in answer.steps if isinstance(step, Send)
    )
    for part in (b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Upgrade: websocket", b"/unknown/", b"/sse/"):
        assert part in sent, part
    for part in (b"HTTP/1.1 103", b"HTTP/1.1 204", b"Set-Cookie", b"Alt-Svc", b"X-Sum: 1", b"text/event-stream"):
        assert part in answered, part


def test_tokens_are_real() -> None:
    secret = PROFILES["tokens"]["JWT_SECRET"]
    assert TokenVerifier(TokenConfig(secrets=(secret,))).verify(token({"sub": "ada", "exp": 4_000_000_000}))


def test_an_answer_to_head_has_no_body() -> None:
    answer = Answer((Send(b"head and body"),), to_head=(Send(b"head"),))
    assert answer.steps_for(b"HEAD / HTTP/1.1") == (Send(b"head"),)
    assert answer.steps_for(b"GET / HTTP/1.1") == (Send(b"head and body"),)


@pytest.mark.parametrize("name", PROFILES)
def test_the_settings_of_a_profile_are_valid(name: str) -> None:
    assert load_settings({**PROFILES[name], "UPSTREAMS": '{"a": ["http://a"], "down": ["http://b"]}'})


# ---------------------------------------------------------------- comparison


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("x-request-id: 84d9987968cbb33a61eedd2fdd55dc11", "x-request-id: <id>"),
        ("x-request-id: case-7", "x-request-id: case-7"),
        ("Date: Tue, 01 Dec 2026 12:54:12 GMT", "Date: <date>"),
        ("Date: Mon, 01 Jan 2024 00:00:00 GMT", "Date: Mon, 01 Jan 2024 00:00:00 GMT"),
        ("http://127.0.0.2:9", "http://127.0.0.1:9"),
        ("Host: pair-2.test:80", "Host: pair-#.test:80"),
        ("Set-Cookie: gw_svc=svX6p6jUNYpT1XEW; Path=/", "Set-Cookie: gw_svc=<session>; Path=/"),
        ("retry: 3465", "retry: <ms>"),
        ("retry: 10", "retry: 10"),
    ],
)
def test_only_what_must_differ_is_replaced(text: str, view: str) -> None:
    assert plain(text) == view


def test_boundaries_of_chunks_do_not_count_and_bytes_do() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    one, two = head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", head + b"3\r\nabc\r\n0\r\n\r\n"
    assert messages(one) == messages(two)
    assert messages(one) != messages(head + b"3\r\nabd\r\n0\r\n\r\n")
    assert messages(two) != messages(head + b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n")
    assert messages(two) != messages(head + b"3\r\nabc\r\n")


def test_masks_do_not_count_and_payloads_do() -> None:
    assert frames(frame(1, b"hi", mask=b"abcd")) == frames(frame(1, b"hi", mask=b"efgh"))
    assert frames(frame(1, b"hi", mask=b"abcd")) != frames(frame(1, b"ho", mask=b"abcd"))
    assert frames(frame(1, b"hi", mask=b"abcd")) != frames(frame(1, b"hi"))
    assert frames(frame(1, b"hi") + b"\x81\x05x") != frames(frame(1, b"hi"))


def test_a_scene_shows_every_byte_and_end() -> None:
    scene = Scene(Case(1, "request", (), ()))
    scene.client = Heard(bytearray(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), end="rst", late=["ends"])
    scene.asked = [Heard(bytearray(b"GET / HTTP/1.1\r\n\r\n"))]
    assert scene_view(scene) == [
        "client: HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n",
        "client: body ok",
        "client: late ends",
        "client: end rst",
        "upstream 0: GET / HTTP/1.1\\r\\n\\r\\n",
        "upstream 0: body ",
    ]


def test_lines_of_a_log_are_compared_without_times() -> None:
    line = '{"time":"%s","path":"%s","totalMs":%s,"bytesOut":7,"message":"took %s ms"}'
    assert log_view(line % ("a", "/x", "1.5", "12")) == log_view(line % ("b", "/x", "2.5", "9.5"))
    assert log_view(line % ("a", "/x", "1.5", "12")) != log_view(line % ("a", "/y", "1.5", "12"))
    assert log_view("Traceback") != log_view("")


def test_figures_are_compared_without_times_and_by_service() -> None:
    endpoints = b'{"url": "http://pair-1.test", "n": %d}, {"url": "http://pair-2.test", "n": %d}'
    stats = b'{"nowMs": %d, "services": {"pair": {"upstreamDetails": [' + endpoints + b"]}}}"
    assert stats_view(stats % (1, 2, 3)) == stats_view(stats % (9, 4, 1))
    assert stats_view(stats % (1, 2, 3)) != stats_view(stats % (1, 2, 4))
    samples = b'a{endpoint="http://pair-1.test"} %d\na{endpoint="http://pair-2.test"} %d\na_sum 0.%d\n'
    metrics = b"# HELP a %b\n# TYPE a counter\n" + samples
    assert metrics_view(metrics % (b"x", 1, 2, 5)) == metrics_view(metrics % (b"y", 2, 1, 6))
    assert metrics_view(metrics % (b"x", 1, 2, 5)) != metrics_view(metrics % (b"x", 1, 3, 5))


def test_differences_are_told_by_side() -> None:
    assert compared(["a", "b", "b"], ["b", "c"]) == ["- a", "- b", "+ c"]
    assert changed_lines(["a", "b"], ["a", "b"]) == []
    assert changed_lines(["a", "b"], ["b", "a"]) == ["order: - ['a', 'b']", "order: + ['b', 'a']"]


# ---------------------------------------------------------------- whole runs


def run(new: Path, cases: int, seed: int) -> tuple[int, list[str]]:
    """Compare this gateway with a new one; the number of differences, and the report."""
    said: list[str] = []
    comparison = Run(ROOT, new, seed, said.append)
    asyncio.run(comparison.profile("defaults", range(cases)))
    return comparison.differences, said


def test_a_gateway_does_not_differ_from_itself() -> None:
    seed = random.randrange(1 << 32)
    differences, said = run(ROOT, 120, seed)
    assert differences == 0, f"seed {seed}:\n" + "\n".join(said)


def test_a_gateway_that_differs_is_found(tmp_path: Path) -> None:
    other = tmp_path / "tornado_gateway"
    other.mkdir()
    (other / "__main__.py").write_text(
        f"import os, runpy, sys\nos.environ['VIA_NAME'] = 'other'\nsys.path.insert(0, {str(ROOT)!r})\n"
        "del sys.modules['tornado_gateway']\nrunpy.run_module('tornado_gateway', run_name='__main__', alter_sys=True)\n"
    )
    (other / "__init__.py").write_text("")
    differences, said = run(tmp_path, 10, seed=1)
    assert differences > 0
    assert any("other" in line for line in said)


def test_the_steps_of_a_case_are_told() -> None:
    case = Case(3, "request", (Send(b"GET\xff"),), (Answer((Whole(), Reset())),))
    assert told(case) == ["  client: 'GET\\xff'", "  upstream 0: Whole()", "  upstream 0: Reset()"]
