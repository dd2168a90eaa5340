"""Spans to a collector by OTLP/HTTP, in protobuf; opentelemetry-sdk and its exporter translate.

The libraries are optional. They are imported when a sink is made. The exporter also reads the variables
OTEL_EXPORTER_OTLP_* of the environment that the gateway has no variable for: certificates, compression and timeout.
"""

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

from tornado_gateway import __version__
from tornado_gateway.adapters.tracing import TracingConfig
from tornado_gateway.policy.spans import Span, SpanKind

LIBRARIES = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
PATH = "/v1/traces"  # OTLP 1.0, OTLP/HTTP request

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_SAMPLED = 1


def is_installed() -> bool:
    """Whether the libraries are there."""
    try:
        return all(importlib.util.find_spec(each) for each in ("opentelemetry.sdk.trace", _EXPORTER))
    except ModuleNotFoundError:  # a package that holds the module is missing
        return False


class OtlpSink:
    """A Sink for a collector.

    Raises:
        ImportError: the libraries are not installed.
    """

    def __init__(self, config: TracingConfig) -> None:
        self._api = importlib.import_module("opentelemetry.trace")
        self._sdk = importlib.import_module("opentelemetry.sdk.trace")
        self._kinds = {each: self._api.SpanKind[each.name] for each in SpanKind}
        self._failure = self._api.Status(self._api.StatusCode.ERROR)
        self._unset = self._api.Status(self._api.StatusCode.UNSET)
        resource = importlib.import_module("opentelemetry.sdk.resources").Resource
        self._resource = resource.create({"service.name": config.service, "service.version": __version__})
        scope = importlib.import_module("opentelemetry.sdk.util.instrumentation").InstrumentationScope
        self._scope = scope("tornado_gateway", __version__)
        self._complaints = _Complaints()
        exporter = importlib.import_module(_EXPORTER).OTLPSpanExporter
        self._exporter: Any = exporter(endpoint=config.endpoint.rstrip("/") + PATH, headers=dict(config.headers))

    def send(self, spans: Sequence[Span]) -> str:
        self._complaints.newest = ""
        result = self._exporter.export([self._translated(each) for each in spans])
        return "" if result.name == "SUCCESS" else self._complaints.newest or "unknown"

    def close(self) -> None:
        self._exporter.shutdown()
        self._complaints.close()

    def _translated(self, span: Span) -> Any:
        parent = self._context(span.trace_id, span.parent_id, is_remote=span.is_remote) if span.parent_id else None
        linked = self._context(span.trace_id, span.linked) if span.linked else None
        return self._sdk.ReadableSpan(
            span.name,
            self._context(span.trace_id, span.span_id),
            parent,
            self._resource,
            span.attributes,
            links=[self._api.Link(linked)] if linked else (),
            kind=self._kinds[span.kind],
            status=self._failure if span.is_error else self._unset,
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )

    def _context(self, trace_id: bytes, span_id: bytes, *, is_remote: bool = False) -> Any:
        flags = self._api.TraceFlags(_SAMPLED)
        return self._api.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags)


class _Complaints(logging.Handler):
    """The newest complaint of the exporter, which says why a send has failed. The exporter would else log each try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.newest = ""
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        self.newest = record.getMessage()
