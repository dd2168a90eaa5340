"""The variables of traces: what is read, and what is refused with a reason."""

import importlib.util

import pytest

from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError, Invalid
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.trace_parsers import collector_headers, collector_url, trace_share
from tornado_gateway.config.variables import VARIABLES


def loaded(**variables: str) -> Settings:
    return load_settings({"UPSTREAMS": '{"a": ["http://b"]}', **variables})


@pytest.mark.parametrize(("text", "share"), [("0", 0.0), ("1", 1.0), ("0.01", 0.01), (".5", 0.5), ("1.0", 1.0)])
def test_shares(text: str, share: float) -> None:
    assert loaded(TRACE_SAMPLE=text).tracing.share == trace_share.parse(trace_share.text(share)) == share


@pytest.mark.parametrize("text", ["-1", "1.1", "2", "50%", "nan", "1e-3", "0,5", "٠", "1.00000000000"])
def test_no_shares(text: str) -> None:
    with pytest.raises(Invalid, match="is not a share"):
        trace_share.parse(text)


def test_without_the_variable_nothing_is_traced() -> None:
    assert loaded().tracing.share is None


def test_without_the_libraries_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"TRACE_SAMPLE.*opentelemetry-sdk and opentelemetry-exporter-otlp"):
        loaded(TRACE_SAMPLE="0.1")


@pytest.mark.parametrize("url", ["http://collector:4318", "https://otel.example/base", "http://[::1]:4318/"])
def test_collectors(url: str) -> None:
    assert collector_url.parse(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["collector:4318", "grpc://a", "http://", "http:///a", "http://a?b", "http://a#b", "http://a b", "http://ä"]
)
def test_no_collectors(url: str) -> None:
    with pytest.raises(Invalid, match="is not the URL of a collector"):
        collector_url.parse(url)


def test_a_password_stands_in_no_url() -> None:
    with pytest.raises(Invalid, match="OTEL_EXPORTER_OTLP_HEADERS is for credentials"):
        collector_url.parse("https://user:secret@a.example")


def test_headers_are_percent_encoded() -> None:
    headers = collector_headers.parse("Authorization=Bearer%20a%2Cb, x-tenant = one,")
    assert headers == (("authorization", "Bearer a,b"), ("x-tenant", "one"))
    assert collector_headers.parse(collector_headers.text(headers)) == headers


@pytest.mark.parametrize("text", ["a", "a b=c", "a=b%0d%0ac: d", "=b", "a=%00", "a=%E4"])
def test_no_headers(text: str) -> None:
    with pytest.raises(Invalid, match="is not a list of fields"):
        collector_headers.parse(text)


def test_headers_are_secret() -> None:
    settings = loaded(OTEL_EXPORTER_OTLP_HEADERS="authorization=geheim")
    (variable,) = (each for each in VARIABLES if each.name == "OTEL_EXPORTER_OTLP_HEADERS")
    assert "geheim" not in variable.text(settings)
    assert "geheim" not in repr(settings)
