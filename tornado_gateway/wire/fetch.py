"""AsyncHTTPClient.fetch() over the pooled connections: one request, one HTTPResponse.

For what the gateway itself asks for (health checks, key sets) and for any Tornado code
that shares its client. It honours HTTPRequest as Tornado documents it, but for HTTP
proxies, network interfaces and digest authentication, which are refused by name. It invents no
field beside Host, Content-Length, Accept-Encoding (when it decompresses) and Authorization (when asked).
"""

import asyncio
import base64
import copy
import inspect
import io
import math
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from tornado.httpclient import HTTPError, HTTPRequest, HTTPResponse, _RequestProxy
from tornado.httputil import HTTPHeaders
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.util import GzipDecompressor

from tornado_gateway.errors import UpstreamError, UpstreamReset, UpstreamTimeout
from tornado_gateway.policy.headers import Field
from tornado_gateway.policy.target import Origin, parse_base_url
from tornado_gateway.wire.http1 import ResponseHead, fields

if TYPE_CHECKING:
    from tornado_gateway.wire.client import PooledHTTPClient

MAX_BUFFERED_BODY = 100 * 1024 * 1024  # bytes; Tornado's own default
_REDIRECTS = (301, 302, 303, 307, 308)
_BODY_METHODS = ("POST", "PUT", "PATCH")
_UNSUPPORTED = ("proxy_host", "proxy_port", "network_interface", "prepare_curl_callback")


async def respond(client: "PooledHTTPClient", request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
    """Carry out a request and call back with its response, or with one that holds the error."""
    started, began = time.time(), time.monotonic()
    try:
        response = await _within(request.request_timeout, _follow(client, request))
    except HTTPError as error:
        response = HTTPResponse(request, error.code, error=error)
    except UpstreamError as error:
        response = HTTPResponse(request, 599, error=_tornado_error(error))
    except Exception as error:  # what a caller's own callback raised is the caller's answer
        response = HTTPResponse(request, 599, error=error)
    response.start_time, response.request_time = started, time.monotonic() - began
    callback(response)


async def _within(seconds: float | None, work: Any) -> HTTPResponse:
    try:
        async with asyncio.timeout(seconds or None):
            result: HTTPResponse = await work
            return result
    except TimeoutError:
        raise HTTPTimeoutError("Timeout during request") from None


def _tornado_error(error: UpstreamError) -> HTTPError:
    if isinstance(error, UpstreamTimeout):
        return HTTPTimeoutError(error.message)
    if isinstance(error, UpstreamReset):
        return HTTPStreamClosedError(error.message)
    return HTTPError(599, error.message)


async def _follow(client: "PooledHTTPClient", request: HTTPRequest) -> HTTPResponse:
    """Fetch, and fetch again where a redirect leads, as often as the request allows."""
    left = request.max_redirects or 0
    while True:
        response = await _fetch_once(client, request)
        if not (request.follow_redirects and response.code in _REDIRECTS and response.headers.get("Location")):
            break
        if left <= 0:
            break
        left -= 1
        request = _redirected(request, response)
    return response


def _redirected(request: HTTPRequest, response: HTTPResponse) -> HTTPRequest:
    """The request to make after a redirect (RFC 9110 §15.4); credentials stay with their origin."""
    following = copy.copy(cast(_RequestProxy, request).request)
    following.url = urljoin(request.url, response.headers["Location"])
    following.headers = request.headers.copy()
    dropped = ["Host"]
    if urlsplit(request.url)[:2] != urlsplit(following.url)[:2]:
        dropped += ["Authorization", "Cookie"]
        following.auth_username = following.auth_password = None
    if (response.code == 303 and request.method != "HEAD") or (
        response.code in (301, 302) and request.method == "POST"
    ):
        following.method, following.body_producer = "GET", None
        following.body = cast(bytes, None)  # HTTPRequest's own way to say that there is none
        dropped += ["Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding"]
    for name in dropped:
        following.headers.pop(name, None)
    return cast(HTTPRequest, _RequestProxy(following, HTTPRequest._DEFAULTS))


async def _fetch_once(client: "PooledHTTPClient", request: HTTPRequest) -> HTTPResponse:
    origin, target, credentials = _locate(request)
    _check(request)
    method = request.method.encode("ascii")
    body = request.body
    head = _head(request, origin, target, credentials)
    for fresh in (False, True):
        collector = _Collector(request, client.loop)
        exchange = client.open(origin, method, collector, fresh=fresh, tls=_tls_context(request))
        exchange.timeout = math.inf  # request_timeout bounds it all
        chunked = request.body_producer is not None and "Content-Length" not in request.headers
        has_body = bool(body) or request.body_producer is not None
        exchange.send(head, body=has_body, chunked=chunked, connect_timeout=request.connect_timeout or None)
        try:
            if has_body:
                await _send_body(exchange, request, body, collector)
            return await collector.response
        except UpstreamReset:
            # A kept connection may have been ended by the server while the request was on its way.
            if not exchange.reused or exchange.head or request.body_producer or request.method in ("POST", "PATCH"):
                raise
        finally:
            exchange.abort()
    raise UpstreamReset


async def _send_body(exchange: Any, request: HTTPRequest, body: bytes | None, collector: "_Collector") -> None:
    def write(chunk: bytes) -> "asyncio.Future[None]":
        return cast("asyncio.Future[None]", exchange.write(chunk) or collector.ready)

    if request.body_producer is None:
        write(body or b"")
        exchange.finish()
        return
    producing: asyncio.Future[Any] = asyncio.ensure_future(
        cast("asyncio.Future[Any]", request.body_producer(cast(Any, write)))
    )
    waiting: list[asyncio.Future[Any]] = [producing, collector.response]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not producing.done():  # an early final response: the rest of the body is of no use
        producing.cancel()
        return
    producing.result()
    exchange.finish()


def _locate(request: HTTPRequest) -> tuple[Origin, bytes, str | None]:
    """Where the request goes, what it asks for there, and the credentials its URL holds."""
    parts = urlsplit(request.url)
    userinfo, _, host = parts.netloc.rpartition("@")
    try:
        origin, _ = parse_base_url(f"{parts.scheme}://{host}")
    except ValueError as error:
        raise ValueError(f"the URL {error}") from None
    query = request.url.partition("#")[0].partition("?")
    target = (parts.path or "/") + query[1] + query[2]
    if any(byte <= 0x20 or byte == 0x7F for byte in target.encode("utf-8")):
        raise ValueError("the URL must not contain spaces or control characters")
    return origin, target.encode("utf-8"), userinfo or None


def _check(request: HTTPRequest) -> None:
    for name in _UNSUPPORTED:
        if getattr(request, name) is not None:
            raise NotImplementedError(f"{name} is not supported by this client")
    if request.auth_mode not in (None, "basic"):
        raise NotImplementedError(f"auth_mode {request.auth_mode!r} is not supported by this client")
    if request.allow_nonstandard_methods:
        return
    has_body = request.body is not None or request.body_producer is not None
    if request.method in _BODY_METHODS and not has_body:
        raise ValueError(f"Body must not be None for method {request.method}")
    if request.method not in (*_BODY_METHODS, "DELETE", "OPTIONS") and has_body:
        raise ValueError(f"Body must be None for method {request.method}")


def _head(request: HTTPRequest, origin: Origin, target: bytes, credentials: str | None) -> bytes:
    headers = request.headers.copy()
    headers.setdefault("Host", origin.authority.decode("ascii"))
    if request.body_producer is not None:
        if "Content-Length" not in headers:
            headers["Transfer-Encoding"] = "chunked"
    elif request.body is not None:
        headers["Content-Length"] = str(len(request.body))
    if request.decompress_response:
        headers["Accept-Encoding"] = "gzip"
    if request.user_agent:
        headers["User-Agent"] = request.user_agent
    if request.auth_username is not None:
        credentials = f"{request.auth_username}:{request.auth_password or ''}"
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii")
    lines = [f"{name}: {value}" for name, value in headers.get_all()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header field must not contain a line break")
    return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (request.method.encode(), target, "\r\n".join(lines).encode("utf-8"))


def _tls_context(request: HTTPRequest) -> ssl.SSLContext | None:
    """A context of the request's own, if it asks for anything but the client's."""
    if isinstance(request.ssl_options, ssl.SSLContext):
        return request.ssl_options
    if request.validate_cert and not (request.ca_certs or request.client_cert):
        return None
    context = ssl.create_default_context(cafile=request.ca_certs)
    if not request.validate_cert:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if request.client_cert:
        context.load_cert_chain(request.client_cert, request.client_key)
    return context


class _Collector:
    """A Receiver that makes an HTTPResponse."""

    def __init__(self, request: HTTPRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.response: asyncio.Future[HTTPResponse] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ready.set_result(None)
        self._request = request
        self._head: ResponseHead | None = None
        self._headers = HTTPHeaders()
        self._buffer = io.BytesIO()
        self._gunzip: GzipDecompressor | None = None

    def on_interim(self, head: ResponseHead) -> None:
        pass

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        for name, value in fields(head.block):
            self._headers.add(name.decode("latin-1"), value.decode("latin-1"))
        if self._request.decompress_response and self._headers.get("Content-Encoding", "").lower() == "gzip":
            self._gunzip = GzipDecompressor()
            self._headers["X-Consumed-Content-Encoding"] = self._headers.pop("Content-Encoding")
        tell: Callable[[str], None] | None = cast(Any, self._request.header_callback)
        if tell:
            tell(f"HTTP/1.{head.minor} {head.status} {head.reason.decode('latin-1')}\r\n")
            for key, text in self._headers.get_all():
                tell(f"{key}: {text}\r\n")
            tell("\r\n")

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if not chunk:
            return None
        try:
            return self._take(self._gunzip.decompress(chunk) if self._gunzip else chunk)
        except Exception as error:
            self._fail(error)
            return None

    def _take(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if self._request.streaming_callback is None:
            if self._buffer.tell() + len(chunk) > MAX_BUFFERED_BODY:
                raise HTTPError(599, f"the response is larger than {MAX_BUFFERED_BODY} bytes")
            self._buffer.write(chunk)
            return None
        busy: Any = self._request.streaming_callback(chunk)
        return asyncio.ensure_future(busy) if inspect.isawaitable(busy) else None

    def on_end(self, trailers: list[Field]) -> None:
        if self._head is None or self.response.done():
            return
        response = HTTPResponse(
            self._request,
            self._head.status,
            headers=self._headers,
            buffer=self._buffer,
            reason=self._head.reason.decode("latin-1") or None,
            effective_url=self._request.url,
        )
        self.response.set_result(response)

    def on_failure(self, error: UpstreamError) -> None:
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.response.done():
            self.response.set_exception(error)
