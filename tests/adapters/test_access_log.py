"""The access log: content of lines, and that neither a slow nor a dead reader disturbs the event loop."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sockets import eventually
from tornado_gateway.adapters.access_log import (
    HIDING,
    LONGEST_REMEMBERED,
    AccessLog,
    AccessRecord,
    Format,
    Refusal,
    json_line,
    text_line,
)
from tornado_gateway.policy.http.address import NO_ADDRESS, Address, of_peer, parse
from tornado_gateway.policy.http.redaction import Redaction

AT = "2026-01-02T03:04:05.678Z"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def record(**changes: Any) -> AccessRecord:
    values: dict[str, Any] = {
        "request_id": b"abc", "method": b"GET", "target": b"/api/svc/x?secret", "service": "svc", "endpoint": "http://10.0.0.1",
        "status": 200, "reason": "", "attempts": 1, "bytes_in": 3, "bytes_out": 5, "head_seconds": 0.0012,
        "seconds": 0.0034, "client": of_peer("127.0.0.1"),
    }  # fmt: skip
    return AccessRecord(**(values | changes))


def test_a_json_line_names_everything_once() -> None:
    assert json.loads(json_line(record(), AT)) == {
        "time": AT, "level": "info", "type": "access", "requestId": "abc", "traceId": "", "method": "GET",
        "path": "/api/svc/x",
        "service": "svc", "endpoint": "http://10.0.0.1", "status": 200, "reason": "", "attempts": 1, "bytesIn": 3,
        "bytesOut": 5, "headMs": 1.2, "totalMs": 3.4, "client": "127.0.0.1",
    }  # fmt: skip


def refusal(**changes: Any) -> Refusal:
    values: dict[str, Any] = {
        "request_id": b"abc", "method": b"GET", "target": b"/api/svc/x?page=2&token=secret", "status": 503,
        "reason": "shed", "bytes_out": 300, "client": of_peer("127.0.0.1"),
        "parents": (f"00-{TRACE}-00f067aa0ba902b7-01".encode(),),
    }  # fmt: skip
    return Refusal(**(values | changes))


def test_the_line_of_a_refusal_has_every_member_though_parts_are_remembered() -> None:
    for bytes_out, client in ((300, "127.0.0.1"), (310, "127.0.0.1"), (300, "192.0.2.1")):
        its = refusal(bytes_out=bytes_out, client=of_peer(client), parents=())
        assert json.loads(json_line(its, AT)) == {
            "time": AT, "level": "info", "type": "access", "requestId": "abc", "traceId": "", "method": "GET",
            "path": "/api/svc/x", "service": "", "endpoint": "", "status": 503, "reason": "shed", "attempts": 0,
            "bytesIn": 0, "bytesOut": bytes_out, "headMs": None, "totalMs": 0.0, "client": client,
        }  # fmt: skip


CHANGES: list[dict[str, Any]] = [
    {}, {"request_id": b'a"\\'}, {"request_id": TOKEN.encode()}, {"method": b"POST"}, {"target": b"/" + b"a" * 8000},
    {"target": b"/" + TOKEN.encode()}, {"status": 429}, {"reason": "limited"}, {"bytes_out": 0},
    {"client": of_peer("192.0.2.1")}, {"parents": ()},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change), "nothing"))
@pytest.mark.parametrize("line", [json_line, text_line])
@pytest.mark.parametrize("redaction", [Redaction(), Redaction(shows_query=True)], ids=["no query", "query"])
def test_a_refusal_has_the_line_of_the_same_record_with_all_members(
    line: Format, change: dict[str, Any], redaction: Redaction
) -> None:
    its = refusal(**change)
    assert line(its, AT, redaction) == line(its.whole, AT, redaction)
    assert line(its, AT, redaction) != line(refusal(status=418), AT, redaction)


def test_long_paths_are_told_whole() -> None:
    for length in (LONGEST_REMEMBERED - 1, LONGEST_REMEMBERED, 8000):
        assert json.loads(json_line(record(target=b"/" + b"a" * length), AT))["path"] == "/" + "a" * length


def test_a_line_has_the_trace_of_a_valid_traceparent() -> None:
    for parents, trace in ([f"00-{TRACE}-00f067aa0ba902b7-01"], TRACE), (["00-1-2-3"], ""), ([], ""):
        line = json_line(record(parents=[each.encode() for each in parents]), AT)
        assert json.loads(line)["traceId"] == trace


def test_the_beginning_of_a_stream_is_a_line_of_another_type() -> None:
    opened = record(is_open=True)
    assert json.loads(json_line(opened, AT))["type"] == "stream_open"
    assert " opened " in text_line(opened, AT)
    assert "opened" not in text_line(record(), AT)


def test_a_slow_request_is_a_warning() -> None:
    assert json.loads(json_line(record(is_slow=True), AT))["level"] == "warn"
    assert " slow " in text_line(record(is_slow=True), AT)
    assert "slow" not in text_line(record(), AT)


def test_a_request_without_a_response_head_has_no_time_to_it() -> None:
    assert json.loads(json_line(record(head_seconds=None), AT))["headMs"] is None


@pytest.mark.parametrize("hostile", ['a"b', "a\\b", "a\nb", "\x00", "é", "\x85\u2028", "</script>"])
@pytest.mark.parametrize("field", ["request_id", "method", "target", "service", "endpoint"])
def test_nothing_in_a_request_breaks_out_of_its_line(field: str, hostile: str) -> None:
    of_client = field in ("request_id", "method", "target")
    text = hostile.encode().decode("latin-1") if of_client else hostile
    its = record(**{field: hostile.encode() if of_client else hostile})
    line = json_line(its, AT)
    assert line.count("\n") == 1
    assert text in json.loads(line).values()
    assert text_line(its, AT).count("\n") == 1


@pytest.mark.parametrize("line", [json_line, text_line])
@pytest.mark.parametrize("field", ["request_id", "method", "target", "service", "endpoint", "reason"])
def test_no_line_has_a_signed_token(field: str, line: Format) -> None:
    of_client = field in ("request_id", "method", "target")
    value: Any = f"/a/{TOKEN}/b".encode() if of_client else f"/a/{TOKEN}/b"
    written = line(record(**{field: value}), AT, Redaction(shows_query=True))
    assert "eyJ" not in written
    assert "c2lnbmF0dXJl" not in written
    assert "/a/***" in written


def test_a_line_has_the_query_if_asked_for_without_the_values_of_secrets() -> None:
    its, redaction = record(target=b'/a?page=2&token=abc"&q=%22'), Redaction(shows_query=True)
    assert json.loads(json_line(its, AT, redaction))["query"] == "page=2&token=***&q=%22"
    assert "query" not in json.loads(json_line(its, AT))
    assert " /a?page=2&token=***&q=%22 " in text_line(its, AT, redaction)
    assert "page" not in text_line(its, AT)
    assert json.loads(json_line(record(target=b"/a"), AT, redaction))["query"] == ""


@pytest.mark.gen_test
async def test_fields_are_hidden_by_name() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, json_line, redaction=Redaction(frozenset(HIDING)))
    log.add(record(parents=[f"00-{TRACE}-00f067aa0ba902b7-01".encode()]))
    log.close()
    said = json.loads(stream.getvalue())
    plain = json.loads(json_line(record(), AT))
    hidden = dict.fromkeys(("client", "endpoint", "path", "requestId"), "***")
    assert said == plain | hidden | {"time": said["time"]}


OF_CLIENT = st.binary(max_size=40)
ANY_TEXT = st.text(st.characters(), max_size=20)


@settings(deadline=None)
@given(
    of_client=st.fixed_dictionaries(dict.fromkeys(("request_id", "method", "target"), OF_CLIENT)),
    ours=st.fixed_dictionaries(dict.fromkeys(("service", "endpoint", "reason"), ANY_TEXT)),
    node=st.one_of(OF_CLIENT, st.ip_addresses().map(lambda address: str(address).encode())),
    close_code=st.none() | st.integers(1000, 4999),
)
def test_any_record_is_one_line_that_says_what_the_record_does(
    of_client: dict[str, bytes], ours: dict[str, str], node: bytes, close_code: int | None
) -> None:
    its = record(**of_client, **ours, client=parse(node) or NO_ADDRESS, close_code=close_code)
    line = json_line(its, AT)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    said = json.loads(line)
    assert (said["requestId"], said["method"]) == (its.request_id.decode("latin-1"), its.method.decode("latin-1"))
    assert said["path"] == its.target.partition(b"?")[0].decode("latin-1")
    assert {name: said[name] for name in ours} == ours
    assert said["client"] == its.client.text
    text = text_line(its, AT)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.isascii()


def test_an_address_that_was_not_parsed_is_quoted_too() -> None:
    forged = 'fe80::1%x"}\n{"level":"error'
    line = json_line(record(client=Address(forged, forged, None)), AT)
    assert line.count("\n") == 1
    assert json.loads(line)["client"] == forged


def test_a_text_line_shows_what_a_person_looks_for() -> None:
    line = text_line(record(status=502, reason="connect_failed", attempts=2), AT)
    for part in ("03:04:05.678", "502", "GET", "/api/svc/x", "svc", "http://10.0.0.1", "connect_failed", "x2", "abc"):
        assert part in line


def test_a_websockets_line_says_how_it_closed_and_what_it_carried() -> None:
    changes = {"status": 101, "close_code": 4404, "messages_in": 7, "messages_out": 9}
    said = json.loads(json_line(record(**changes), AT))
    plain = json.loads(json_line(record(status=101), AT))
    assert said == plain | {"closeCode": 4404, "messagesIn": 7, "messagesOut": 9}
    assert not plain.keys() & {"closeCode", "messagesIn", "messagesOut"}
    assert "closed 4404" in text_line(record(**changes), AT)
    assert "closed" not in text_line(record(status=101), AT)


def test_a_websocket_that_carried_nothing_still_says_so() -> None:
    said = json.loads(json_line(record(status=101, close_code=1006), AT))
    assert (said["closeCode"], said["messagesIn"], said["messagesOut"]) == (1006, 0, 0)


@pytest.mark.gen_test
async def test_lines_are_written_in_order_and_batched() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, json_line)
    for number in range(100):
        log.add(record(bytes_in=number))
    assert stream.getvalue() == b""
    await eventually(lambda: stream.getvalue().count(b"\n") == 100)
    log.close()
    assert [json.loads(line)["bytesIn"] for line in stream.getvalue().splitlines()] == list(range(100))


@pytest.mark.gen_test
async def test_closing_writes_the_remaining_lines() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, json_line)
    log.add(record())
    log.close()
    assert stream.getvalue().count(b"\n") == 1


@pytest.mark.gen_test
async def test_the_clock_of_lines_is_utc_with_milliseconds() -> None:
    log = AccessLog(io.BytesIO(), json_line)
    stamps = [log._stamp(at) for at in (1767323045.678, 1767323045.9999, 1767323046.0, 0.0)]
    log.close()
    assert stamps == [AT, "2026-01-02T03:04:05.999Z", "2026-01-02T03:04:06.000Z", "1970-01-01T00:00:00.000Z"]
