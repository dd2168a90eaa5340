"""How the variables of traces are written: TRACE_SAMPLE, and those that OpenTelemetry has named."""

import re
from urllib.parse import quote, unquote, urlsplit

from tornado_gateway.adapters.otlp import LIBRARIES, is_installed
from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import Invalid

_SHARE = re.compile(r"0|1|[01]?\.[0-9]{1,9}|1\.0{1,9}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_VALUE = re.compile(r"[\t -~]*")  # RFC 9110 §5.5, without obs-text
_SHARES = "0 to 1, such as 0.01"
_COLLECTORS = "a base URL such as http://127.0.0.1:4318"
_HEADERS = "name=value,name=value with %-encoded values"

Headers = tuple[tuple[str, str], ...]


def _parse_share(text: str) -> float:
    share = float(text) if _SHARE.fullmatch(text) else -1.0
    if not 0 <= share <= 1:
        raise Invalid("is not a share", _SHARES)
    if not is_installed():
        raise Invalid(f"needs {LIBRARIES}, libraries of requirements-extras.txt that are not installed", "unset")
    return share


def _share_text(share: float) -> str:
    return f"{share:.9f}".rstrip("0").rstrip(".")


def _parse_collector(text: str) -> str:
    parts = urlsplit(text)
    is_plain = text.isascii() and text.isprintable() and " " not in text and not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise Invalid("is not the URL of a collector", _COLLECTORS)
    if "@" in parts.netloc:  # /admin would show the password
        raise Invalid("has a name or a password; OTEL_EXPORTER_OTLP_HEADERS is for credentials", _COLLECTORS)
    return text.rstrip("/")


def _parse_headers(text: str) -> Headers:
    """Names and values, as W3C Baggage writes these (OpenTelemetry, OTLP exporter configuration)."""
    found = []
    for item in filter(str.strip, text.split(",")):
        name, mark, value = item.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not mark or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Invalid("is not a list of fields", _HEADERS)
        found.append((name, value))
    return tuple(found)


def _headers_text(headers: Headers) -> str:
    return ",".join(f"{name}={quote(value)}" for name, value in headers)


trace_share = Syntax(_parse_share, _share_text)
collector_url = Syntax(_parse_collector)
collector_headers = Syntax(_parse_headers, _headers_text)
