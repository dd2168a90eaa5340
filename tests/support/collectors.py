"""A collector of OTLP/HTTP on a real socket, which parses protobuf; and what its spans say."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.conftest import Running
from tests.support.journeys import Start
from tests.support.sockets import Message, Peer, reply
from tornado_gateway.adapters.tracing import Tracer

TAKEN = reply(b"200 OK", (b"Content-Type: application/x-protobuf",), b"")

SERVER, CLIENT, INTERNAL = 2, 3, 1  # kinds of spans in protobuf


@dataclass(frozen=True)
class Received:
    """A span as a collector has received the span.

    Attributes:
        trace_id, span_id, parent_id: in hexadecimal digits.
        links: span ids.
        is_error: whether the status is ERROR.
        resource: attributes of what has sent the span.
    """

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: Mapping[str, object]
    links: tuple[str, ...]
    is_error: bool
    resource: Mapping[str, object]


class Collector:
    """Answers each export with the given answers in turn, then with the last again.

    Attributes:
        messages: all requests.
    """

    def __init__(self, upstream: Start, *answers: bytes) -> None:
        self._answers = list(answers or (TAKEN,))
        self._server = upstream(self._serve)
        self.url = self._server.url

    @property
    def messages(self) -> list[Message]:
        return self._server.requests

    @property
    def spans(self) -> list[Received]:
        return [span for message in self.messages for span in spans_in(message.body)]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a gateway that records everything."""
        return {"TRACE_SAMPLE": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url}

    async def _serve(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])


def spans_in(body: bytes) -> list[Received]:
    """The spans of an ExportTraceServiceRequest."""
    service: Any = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    request = service.ExportTraceServiceRequest.FromString(body)
    return [
        Received(
            span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
            span.start_time_unix_nano, span.end_time_unix_nano, _values(span.attributes),
            tuple(link.span_id.hex() for link in span.links), span.status.code == 2, _values(each.resource.attributes),
        )
        for each in request.resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def _values(pairs: Any) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def tracer_of(running: Running) -> Tracer:
    tracer = running.app.gateway.tracer
    assert tracer
    return tracer


async def flushed(running: Running, collector: Collector) -> list[Received]:
    """The spans so far, by kind: of the server first. The gateway sends no more."""
    await tracer_of(running).close()
    return sorted(collector.spans, key=lambda span: (-(span.kind == SERVER), span.start))
