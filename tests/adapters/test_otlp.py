"""The way to a collector: what is sent, what a refusal is called, and what an exporter complains about."""

import asyncio
import importlib.util
import logging
from dataclasses import replace

import pytest

from tests.policy.test_spans import TOLD
from tests.support.collectors import CLIENT, SERVER, Collector
from tests.support.journeys import Start
from tests.support.sockets import eventually, reply
from tornado_gateway.adapters.otlp import OtlpSink, is_installed
from tornado_gateway.adapters.tracing import TracingConfig
from tornado_gateway.policy.spans import spans_of

SPANS = [*spans_of(TOLD)]


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test
async def test_spans_arrive(upstream: Start) -> None:
    collector = Collector(upstream)
    config = TracingConfig(1.0, f"{collector.url}/base/", (("authorization", "Bearer x"),), "edge")
    sink = OtlpSink(config)
    assert await asyncio.to_thread(sink.send, SPANS) == ""
    (message,) = collector.messages
    assert (message.target, message.get(b"authorization")) == (b"/base/v1/traces", b"Bearer x")
    server, call = collector.spans
    assert (server.name, server.kind, call.kind) == (SPANS[0].name, SERVER, CLIENT)
    assert (server.trace_id, server.span_id, server.parent_id) == (
        TOLD.context.trace_id.decode(), TOLD.context.span_id.decode(), TOLD.context.parent_id.decode(),
    )  # fmt: skip
    assert (server.start, server.end, server.attributes) == (SPANS[0].start, SPANS[0].end, SPANS[0].attributes)
    assert (call.parent_id, server.resource["service.name"]) == (server.span_id, "edge")
    sink.close()


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test
async def test_a_linked_span_and_an_error(upstream: Start) -> None:
    collector = Collector(upstream)
    sink = OtlpSink(TracingConfig(1.0, collector.url))
    told = replace(TOLD, of_stream={"gateway.stream.kind": "sse"}, stream_id=b"3" * 16, opened=1.0)
    spans = [*spans_of(told), *spans_of(replace(TOLD, status=502, has_failed=True, calls=()))]
    assert await asyncio.to_thread(sink.send, spans) == ""
    stream, failed = collector.spans
    assert (stream.links, stream.is_error) == ((TOLD.calls[0].span_id.decode(),), False)
    assert (failed.links, failed.is_error) == ((), True)
    sink.close()


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test
async def test_a_refusal_is_told_and_the_exporter_logs_nothing(upstream: Start) -> None:
    collector = Collector(upstream, reply(b"401 Unauthorized", (), b""))
    sink = OtlpSink(TracingConfig(1.0, collector.url))
    logged, handler = [], logging.Handler()
    handler.emit = logged.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    assert "401" in await asyncio.to_thread(sink.send, SPANS)
    logging.getLogger().removeHandler(handler)
    assert logged == []
    sink.close()
    assert logging.getLogger("opentelemetry").handlers == []


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test
async def test_a_close_ends_a_wait_for_the_next_try(upstream: Start) -> None:
    collector = Collector(upstream, reply(b"503 Busy", (b"Retry-After: 9",), b""))
    sink = OtlpSink(TracingConfig(1.0, collector.url))
    sending = asyncio.create_task(asyncio.to_thread(sink.send, SPANS))
    await eventually(lambda: collector.messages)
    sink.close()
    assert await sending != ""


def test_a_missing_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()

    def missing(_: str) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert not is_installed()
