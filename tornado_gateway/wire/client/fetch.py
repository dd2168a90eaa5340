"""AsyncHTTPClient.fetch() over the pooled connections: a request, and its HTTPResponse.

For health checks, which make a DirectRequest, and for Tornado code that shares the client. HTTPRequest works as Tornado
documents, except for HTTP proxies, network interfaces, address families and digest authentication, which raise
NotImplementedError. Fields added to the caller's fields: Host, the body's framing, Accept-Encoding (if decompressing),
Authorization and Expect (if asked for).

    respond ── _follow ── _fetch_once ──┬── _send_body    a task, if there is a body
                                        └── _collect ◄── _Incoming ◄── ClientExchange

The coroutine _collect() reads the response and runs the caller's callbacks in order. The upstream is paused while a
callback runs. So all callbacks have finished before fetch() returns, and an exception of a callback ends the exchange.
"""

import asyncio
import base64
import copy
import inspect
import io
import math
import re
import ssl
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, cast
from urllib.parse import unquote, urljoin, urlsplit

from tornado.httpclient import HTTPError, HTTPRequest, HTTPResponse, _RequestProxy
from tornado.httputil import HTTPHeaders, HTTPOutputError, encode_username_password
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.util import GzipDecompressor

from tornado_gateway.errors import GatewayError, OutOfSockets, UpstreamError, UpstreamReset, UpstreamTimeout
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.target import DEFAULT_PORTS, Origin, parse_base_url
from tornado_gateway.policy.upstream.retry import IDEMPOTENT
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead, check_fields, fields

MAX_BUFFERED_BODY = 100 * 1024 * 1024  # bytes; Tornado's default
GUNZIP_PIECE = 64 * 1024  # bytes decompressed at a time; Tornado's default
CONTINUE_AFTER = 1.0  # seconds to wait for a 100 before the body is sent without; the same as Go and curl
_REDIRECTS = (301, 302, 303, 307, 308)
_WITH_BODY = ("POST", "PUT", "PATCH")
_WITHOUT_BODY = ("GET", "HEAD", "TRACE")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_UNSUPPORTED = (
    "proxy_host", "proxy_port", "proxy_username", "proxy_password", "proxy_auth_mode", "network_interface",
    "prepare_curl_callback",
)  # fmt: skip


class DirectRequest(HTTPRequest):
    """A request to a given origin, on a connection of its own that is closed after the response.

    A URL cannot name every origin: the origin may be one address of a host, or a unix socket. Redirects are not
    followed, and the body is given as it comes.

    Args:
        target: path and query, sent byte for byte.
        most_of_body: once more bytes of the response's body have come, the rest is not awaited: fetch() returns.
        upgrades: whether a 101 is the response; otherwise a 101 is an error.
        options: see HTTPRequest.
    """

    def __init__(
        self,
        origin: Origin,
        target: bytes,
        *,
        most_of_body: float = math.inf,
        upgrades: bool = False,
        **options: Any,
    ) -> None:
        url = f"{origin.scheme}://{(origin.authority + target).decode('latin-1')}"
        super().__init__(url, follow_redirects=False, decompress_response=False, **options)
        self.origin, self.target = origin, target
        self.most_of_body, self.upgrades = most_of_body, upgrades


class OpenExchange(Protocol):
    """Prepares an exchange; see PooledHTTPClient.open()."""

    def __call__(
        self,
        origin: Origin,
        method: bytes,
        receiver: HeadReceiver,
        *,
        fresh: bool = False,
        alone: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> ClientExchange: ...


async def respond(open_: OpenExchange, request: HTTPRequest) -> HTTPResponse:
    """Do a request; return the response, or a response whose `error` is set.

    Args:
        open_: prepares exchanges.
        request: the request, wrapped by AsyncHTTPClient.fetch().
    """
    started, began = time.time(), time.monotonic()
    try:
        async with asyncio.timeout(request.request_timeout or None):
            response = await _follow(open_, request)
    except Exception as cause:
        error = _tornado_error(cause)
        response = HTTPResponse(request, error.code if isinstance(error, HTTPError) else 599, error=error)
    response.start_time, response.request_time = started, time.monotonic() - began
    return response


def _tornado_error(error: Exception) -> Exception:
    """The exception that Tornado's clients raise for an error; an exception of the caller's callback is unchanged."""
    if isinstance(error, UpstreamTimeout):
        known: Exception = HTTPTimeoutError(error.message)
    elif isinstance(error, UpstreamReset):
        known = HTTPStreamClosedError(error.message)
    elif isinstance(error, UpstreamError | OutOfSockets):
        known = HTTPError(599, error.message)
    elif isinstance(error, zlib.error):
        known = HTTPError(599, f"the response's body is not valid gzip: {error}")
    elif isinstance(error, TimeoutError):
        known = HTTPTimeoutError("Timeout during request")
    else:
        return error
    known.__cause__ = error
    return known


# ---------------------------------------------------------------- redirects


async def _follow(open_: OpenExchange, request: HTTPRequest) -> HTTPResponse:
    """Do a request, and follow redirects up to the request's max_redirects."""
    original = cast(_RequestProxy, request).request
    left = request.max_redirects or 0 if request.follow_redirects else 0
    while True:
        response = await _fetch_once(open_, request, follows=left > 0)
        if left <= 0 or not _leads_on(response.code, response.headers):
            break
        left -= 1
        request = _redirected(request, response)
    response.request = original
    return response


def _leads_on(status: int, headers: HTTPHeaders) -> bool:
    return status in _REDIRECTS and bool(headers.get("Location"))


def _redirected(request: HTTPRequest, response: HTTPResponse) -> HTTPRequest:
    """The request to make after a redirect (RFC 9110 §15.4), without credentials if the origin changes."""
    proxy = cast(_RequestProxy, request)
    following = copy.copy(proxy.request)
    # The bytes of Location are kept; HTTPHeaders has decoded the field as latin-1.
    location = response.headers["Location"].encode("latin-1").decode("utf-8", "surrogateescape")
    following.url = urljoin(request.url, location)
    following.headers = request.headers.copy()
    dropped = ["Host"]
    old, new = urlsplit(request.url), urlsplit(following.url)
    if old[:2] != new[:2]:
        dropped += ["Authorization", "Cookie"]
        following.auth_username = following.auth_password = None
        following.url = new._replace(netloc=new.netloc.rpartition("@")[2]).geturl()
    if (response.code == 303 and request.method != "HEAD") or (
        response.code in (301, 302) and request.method == "POST"
    ):
        following.method, following.body_producer = "GET", None
        following.body = cast(bytes, None)  # HTTPRequest without a body
        following.expect_100_continue = False
        dropped += ["Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding"]
    for name in dropped:
        following.headers.pop(name, None)
    return cast(HTTPRequest, _RequestProxy(following, proxy.defaults))


# ---------------------------------------------------------------- one request


async def _fetch_once(open_: OpenExchange, request: HTTPRequest, *, follows: bool) -> HTTPResponse:
    """Do a request, and repeat an idempotent request once if the server had closed the kept connection.

    Args:
        follows: whether a redirect will be followed, so that the caller does not see the redirect's body.
    """
    _check(request)
    direct = _direct(request)
    origin, target, userinfo = (direct.origin, direct.target, "") if direct else _locate(request.url)
    method, head = request.method.encode("ascii"), _head(request, origin, target, userinfo)
    tls = _tls_context(request, origin)
    fresh = False
    while True:
        incoming = _Incoming()
        exchange = open_(origin, method, incoming, fresh=fresh, alone=direct is not None, tls=tls)
        exchange.upgrades = direct is not None and direct.upgrades
        exchange.timeout = math.inf  # request_timeout bounds the whole request
        sending = _send(exchange, request, head, incoming)
        try:
            return await _collect(request, incoming, follows)
        except UpstreamReset:
            repeatable = method in IDEMPOTENT and request.body_producer is None
            if not exchange.reused or exchange.head or not repeatable:
                raise
            fresh = True
        finally:
            exchange.abort()
            if sending:
                sending.cancel()


def _direct(request: HTTPRequest) -> DirectRequest | None:
    """The caller's DirectRequest; None for any other request."""
    original = cast(_RequestProxy, request).request
    return original if isinstance(original, DirectRequest) else None


def _send(
    exchange: ClientExchange, request: HTTPRequest, head: bytes, incoming: "_Incoming"
) -> asyncio.Task[None] | None:
    has_body = bool(request.body) or request.body_producer is not None
    exchange.send(
        head,
        body=has_body,
        chunked=request.body_producer is not None and "Content-Length" not in request.headers,
        connect_timeout=request.connect_timeout or math.inf,
    )
    return asyncio.create_task(_send_body(exchange, request, incoming)) if has_body else None


async def _send_body(exchange: ClientExchange, request: HTTPRequest, incoming: "_Incoming") -> None:
    """Send the body, while _collect() may already read the response; an error is raised by _collect()."""
    length = _content_length(request)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)

    def write(chunk: bytes) -> asyncio.Future[None]:
        if length is not None and exchange.sent + len(chunk) > length:
            raise HTTPOutputError("Tried to write more data than Content-Length")
        return exchange.write(chunk) or ready

    try:
        if request.expect_100_continue and not await incoming.wants_body():
            return
        if request.body_producer is None:
            write(request.body)
        elif inspect.isawaitable(produced := request.body_producer(cast(Any, write))):
            await produced
        if length is not None and exchange.sent < length:
            raise HTTPOutputError("Tried to write less data than Content-Length")
        exchange.finish()
    except Exception as error:
        incoming.fail(error)


def _content_length(request: HTTPRequest) -> int | None:
    """The length that the body must have; None if chunked."""
    if request.body_producer is None:
        return len(request.body)
    announced = request.headers.get("Content-Length")
    return None if announced is None else int(announced)


async def _collect(request: HTTPRequest, incoming: "_Incoming", follows: bool) -> HTTPResponse:
    """Read the response and run the caller's callbacks."""
    head = await incoming.head()
    headers = HTTPHeaders()
    for name, value in fields(head.block):
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    direct = _direct(request)
    most = direct.most_of_body if direct else math.inf
    buffer, gunzip = io.BytesIO(), None
    take: Callable[[bytes], Awaitable[None] | None] = _drop
    if not (follows and _leads_on(head.status, headers)):
        if request.decompress_response and headers.get("Content-Encoding", "").lower() == "gzip":
            gunzip = GzipDecompressor()
            headers["X-Consumed-Content-Encoding"] = headers.pop("Content-Encoding")
        _tell_head(request, head, headers)
        take = request.streaming_callback or _keep_in(buffer, head, most)
    size = 0
    while size <= most and (chunk := await incoming.chunk()):
        size += len(chunk)
        for piece in _unpacked(gunzip, chunk):
            busy = take(piece)
            if inspect.isawaitable(busy):
                await busy
    if gunzip:
        gunzip.flush()  # raises if the stream was cut short
    return HTTPResponse(
        request,
        head.status,
        headers=headers,
        buffer=buffer,
        reason=head.reason.decode("latin-1") or None,
        effective_url=request.url,
    )


def _tell_head(request: HTTPRequest, head: ResponseHead, headers: HTTPHeaders) -> None:
    tell = request.header_callback
    if tell is None:
        return
    tell(f"HTTP/1.{head.minor} {head.status} {head.reason.decode('latin-1')}\r\n")
    for name, value in headers.get_all():
        tell(f"{name}: {value}\r\n")
    tell("\r\n")


def _drop(piece: bytes) -> None:
    """Ignore a piece of the body of a redirect that is followed."""


def _keep_in(buffer: io.BytesIO, head: ResponseHead, most: float) -> Callable[[bytes], None]:
    """A callback that keeps a body, of which at most so many bytes are awaited."""
    too_large = HTTPError(599, f"the response is larger than {MAX_BUFFERED_BODY} bytes")
    if head.body and head.length and min(head.length, most) > MAX_BUFFERED_BODY:
        raise too_large

    def keep(piece: bytes) -> None:
        if buffer.tell() + len(piece) > MAX_BUFFERED_BODY:
            raise too_large
        buffer.write(piece)

    return keep


def _unpacked(gunzip: GzipDecompressor | None, chunk: bytes) -> Iterator[bytes]:
    """A chunk, decompressed if gzip, in pieces of at most GUNZIP_PIECE bytes."""
    if gunzip is None:
        yield chunk
        return
    while chunk:
        piece = gunzip.decompress(chunk, GUNZIP_PIECE)
        if piece:
            yield piece
        chunk = gunzip.unconsumed_tail


# ---------------------------------------------------------------- the request


def _check(request: HTTPRequest) -> None:
    """Refuse unsupported options and ambiguous requests.

    Raises:
        NotImplementedError: the request uses an option that this client does not support.
        ValueError: the method is invalid, or the method and the body do not match by Tornado's rules.
    """
    refused = [name for name in _UNSUPPORTED if getattr(request, name)]
    if request.allow_ipv6 is False:
        refused.append("allow_ipv6=False")
    if request.auth_mode not in (None, "basic"):
        refused.append(f"auth_mode={request.auth_mode!r}")
    if isinstance(request.ssl_options, dict):
        refused.append("ssl_options that is not an ssl.SSLContext")
    if request.method == "CONNECT":
        refused.append("method CONNECT")
    if refused:
        raise NotImplementedError(f"not supported by this client: {', '.join(refused)}")
    if not _METHOD.fullmatch(request.method):
        raise ValueError("the method is not a token")
    _check_body(request)


def _check_body(request: HTTPRequest) -> None:
    body = cast("bytes | None", request.body)
    if body is not None and request.body_producer is not None:
        raise ValueError("Only one of body and body_producer may be given")
    has_body = body is not None or request.body_producer is not None
    if request.allow_nonstandard_methods:
        return
    if request.method in _WITH_BODY and not has_body:
        raise ValueError(f"Body must not be None for method {request.method}")
    if request.method in _WITHOUT_BODY and has_body:
        raise ValueError(f"Body must be None for method {request.method}")


def _locate(url: str) -> tuple[Origin, bytes, str]:
    """Split a URL into origin, request target (byte for byte) and user information."""
    if _FORBIDDEN.search(url):
        raise ValueError("the URL must not contain spaces or control characters")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("the URL must start with http:// or https://")
    userinfo, _, host = parts.netloc.rpartition("@")
    try:
        origin, _ = parse_base_url(f"{parts.scheme}://{host}")
    except ValueError as error:
        raise ValueError(f"the URL {error}") from None
    target = url[len(f"{parts.scheme}://{parts.netloc}") :].partition("#")[0]
    if not target.startswith("/"):
        target = "/" + target
    return origin, target.encode("utf-8", "surrogateescape"), userinfo


def _head(request: HTTPRequest, origin: Origin, target: bytes, userinfo: str) -> bytes:
    headers = request.headers.copy()
    host = headers.pop("Host", origin.authority.decode("ascii"))
    _frame(headers, request)
    if request.decompress_response:
        headers.setdefault("Accept-Encoding", "gzip")
    if request.user_agent:
        headers["User-Agent"] = request.user_agent
    if request.expect_100_continue and (request.body or request.body_producer):
        headers["Expect"] = "100-continue"
    if credentials := _credentials(request, userinfo):
        headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode("ascii")
    # HTTPHeaders writes "Websocket", and RFC 6455 §11.3 "WebSocket"
    named = [(name.replace("-Websocket-", "-WebSocket-"), value) for name, value in headers.get_all()]
    lines = [f"{name}: {value}\r\n" for name, value in (("Host", host), *named)]
    block = "".join(lines).encode("latin-1") + b"\r\n"
    check_fields(block)
    return b"%b %b HTTP/1.1\r\n%b" % (request.method.encode("ascii"), target, block)


def _frame(headers: HTTPHeaders, request: HTTPRequest) -> None:
    """Set Content-Length or Transfer-Encoding, never both: a server might read part of the body as a request."""
    headers.pop("Transfer-Encoding", None)
    body = cast("bytes | None", request.body)
    if request.body_producer is None:
        headers.pop("Content-Length", None)
        if body is not None or request.method in _WITH_BODY:
            headers["Content-Length"] = str(len(body or b""))
    elif "Content-Length" not in headers:
        headers["Transfer-Encoding"] = "chunked"
    elif not re.fullmatch("[0-9]+", headers["Content-Length"]):
        raise ValueError("Content-Length must be a number")


def _credentials(request: HTTPRequest, userinfo: str) -> bytes | None:
    if userinfo:
        name, _, password = userinfo.partition(":")
        return encode_username_password(unquote(name), unquote(password))
    if request.auth_username is not None:
        return encode_username_password(request.auth_username, request.auth_password or "")
    return None


def _tls_context(request: HTTPRequest, origin: Origin) -> ssl.SSLContext | None:
    """The TLS context of a request with TLS options of its own; None for the client's context."""
    if origin.scheme != "https":
        return None
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


# ---------------------------------------------------------------- the response


class _Incoming:
    """Receives a response, and keeps it for the coroutine that reads the response."""

    def __init__(self) -> None:
        self._head: ResponseHead | None = None
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._has_ended = False
        self._news = asyncio.Event()
        self._taken: asyncio.Future[None] | None = None  # done when all chunks have been read
        self._continue = asyncio.Event()  # a 100 or the final response has come

    # ---- for the reader

    async def head(self) -> ResponseHead:
        """Wait for the head of the final response.

        Raises:
            Exception: the error that ended the exchange or the sending of the body.
        """
        while self._head is None:
            await self._wait()
        return self._head

    async def chunk(self) -> bytes:
        """Wait for the next piece of the body, b"" at the end. Raises like head()."""
        while not self._chunks:
            if self._has_ended:
                return b""
            if self._taken:
                self._taken.set_result(None)
                self._taken = None
            await self._wait()
        return self._chunks.popleft()

    async def _wait(self) -> None:
        if self._error:
            raise self._error
        self._news.clear()
        await self._news.wait()

    async def wants_body(self) -> bool:
        """Wait for 100 (Continue), at most CONTINUE_AFTER (RFC 9110 §10.1.1); return whether to send the body."""
        try:
            async with asyncio.timeout(CONTINUE_AFTER):
                await self._continue.wait()
        except TimeoutError:
            pass
        return self._head is None

    # ---- HeadReceiver, BodyReceiver

    def on_interim(self, head: ResponseHead) -> None:
        if head.status == 100:
            self._continue.set()

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver:
        self._head = head
        self._continue.set()
        self._news.set()
        return self

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if not chunk:
            return None
        self._chunks.append(chunk)
        self._news.set()
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
        return self._taken

    def on_end(self, trailers: list[Field]) -> None:
        self._has_ended = True
        self._news.set()

    def on_failure(self, error: GatewayError) -> None:
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """Have the reader raise an error."""
        self._error = self._error or error
        self._news.set()
