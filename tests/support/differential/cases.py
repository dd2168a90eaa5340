"""Generated input: requests, answers, event streams and WebSockets, valid and not.

A case depends on the seed and its number alone, so that one case can be repeated. The generator takes care that the
output does not depend on time: each wait of a script ends by something that the other side does.
"""

import base64
import hashlib
import hmac
import json
import random
import struct
from collections.abc import Callable

from tests.support.differential.scenes import (
    Answer,
    Asked,
    Case,
    ClientHears,
    Close,
    Delivered,
    Ends,
    Gets,
    HalfClose,
    Hears,
    HearsClose,
    Reset,
    Responses,
    Send,
    SendFrames,
    Step,
    Upgrade,
    Whole,
)

SECRET = "a secret of forty-eight characters or more, for HS384"

SERVICES = (b"svc", b"svc", b"svc", b"plain", b"pair", b"half", b"repeat", b"limited")
METHODS = (b"GET", b"GET", b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"PROPFIND", b"QUERY")
ODD_METHODS = (b"get", b"TRACE", b"CONNECT", b"BREW", b"M-SEARCH", b"G@T", b"X" * 40, b"!#$%&'*+-.^_`|~0Az")
PATHS = (
    b"", b"/", b"/x", b"/a/b/c", b"//evil.example/x", b"/%2e%2e/x", b"/a/../b", b"/../x", b"/a/..%2f..%2fb",
    b"/\\evil",
    b"/a%00b", b"/%zz", b"/\xc3\xa9", b"/a;b=c", b"/a|b", b"/a\"b", b"/a<b>", b"/a^b`{}", b"/" + b"long" * 100,
    b"?", b"?q", b"/?a=b&c=d%20e", b"/x?path=http://evil.example/", b"/x?a=../..", b"/x#frag", b"/a b", b"/.",
    b"/./x",
)  # fmt: skip
FIELDS = (
    b"Accept: */*", b"Accept-Encoding: gzip, br", b"Cookie: a=b; c=d", b"Cookie: second=1", b"X-User-Id: 7",
    b"If-None-Match: \"x\"", b"Range: bytes=0-1", b"X_Other: 1", b"X_Forwarded_For: 9.9.9.9", b"Remote_User: admin",
    b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 1.2.3.4, 5.6.7.8", b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: public.example", b"X-Forwarded-Port: 443", b"Forwarded: for=1.2.3.4;proto=https",
    b"X-Real-IP: 1.2.3.4", b"Via: 1.0 first", b"Via: 1.1 edge", b"TE: trailers", b"TE: gzip, trailers;q=0.5",
    b"Connection: close", b"Connection: keep-alive", b"Connection: x-hop, X-User-Id", b"X-Hop: 1",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic x", b"Proxy: http://evil", b"Upgrade: h2c",
    b"HTTP2-Settings: AAM", b"Trailer: X-Sum", b"X-Original-URL: /admin", b"traceparent: 00-0af7-b7ad-01",
    b"Empty:", b"Spaces:   a b  ", b"Tabs:\ta\t", b"High: \xff\xfe", b"Origin: http://page.example",
    b"Max-Forwards: 0",
    b"x-request-ID: mine", b"X-Request-Id: " + b"y" * 129, b"X-Request-Id: a b", b"Authorization: Basic eDp5",
    b"Long: " + b"v" * 5000, b"Alt-Used: evil", b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"Last-Event-ID: 41",
)  # fmt: skip
MALFORMED_FIELDS = (
    b"No colon", b": no name", b"Space : x", b" folded", b"Bad\x00Name: x", b"Nul: a\x00b", b"Bare: a\rb",
    b"Lf: a\nb",
    b"Content-Length: x", b"Content-Length: -1", b"Content-Length: 1, 2", b"Content-Length: +1",
    b"Content-Length: 0x1",
    b"Content-Length: 99999999999999999999", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Host: second.example", b"Expect: 200-maybe",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Name\xff: x", b"Huge: " + b"h" * 70_000, b"Content-Length:",
)  # fmt: skip
HOSTS = (
    b"gateway.example",
    b"gateway.example",
    b"public.example:8443",
    b"[::1]:80",
    b"",
    b"a b",
    b"evil/x",
    b"127.0.0.9",
)
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
ODD_STARTS = (
    b"GET /api/svc/x", b"GET  /api/svc/x HTTP/1.1", b"GET /api/svc/x HTTP/2.0", b"GET /api/svc/x HTTP/1.2", b"",
    b"\x16\x03\x01",
    b"GET http://evil.example/api/svc/x HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET api/svc HTTP/1.1",
    b"GET /api/svc/x http/1.1", b"PRI * HTTP/2.0", b"GET /api/svc/x HTTP/1.1 ", b" GET /api/svc/x HTTP/1.1",
    b"\r\n\r\n",
    b"GET https://gateway.example/api/svc/abs?x=1 HTTP/1.1", b"GET\t/api/svc/x\tHTTP/1.1", b"HTTP/1.1 200 OK",
)  # fmt: skip
OWN_PAGES = (
    b"/healthz", b"/readyz", b"/_pressure/", b"/admin", b"/admin/", b"/admin/none", b"/", b"/none", b"/api", b"/api/",
    b"/api/unknown/x", b"/sse/unknown/x", b"/ws/unknown", b"/apis/svc/x", b"/api//x", b"/ws", b"/sse",
    b"/favicon.ico",
    b"/admin/%2e%2e/etc", b"/healthz?x=1", b"/healthz/", b"/api/sv%63/x", b"/API/svc/x", b"/_pressures?x",
)  # fmt: skip
STATUSES = (
    b"200 OK", b"200 OK", b"200 OK", b"201 Created", b"206 Partial", b"301 Moved", b"302 Found", b"400 Bad",
    b"401 Unauthorized",
    b"404 Not Found", b"429 Slow", b"500 Broken", b"501 Not", b"503 Unavailable", b"599 Odd", b"299 I'm",
    b"204 No Content",
    b"304 Not Modified", b"205 Reset", b"200", b"200 ", b"999 Most", b"507 Full", b"421 Misdirected", b"426 Upgrade",
)  # fmt: skip
ANSWER_FIELDS = (
    b"Set-Cookie: a=b; Path=/", b"Set-Cookie: c=d", b"Alt-Svc: h3=\":443\"", b"Connection: X-Secret", b"X-Secret: 1",
    b"Connection: close", b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Authenticate: Basic",
    b"Server: odd/1",
    b"Via: 1.0 origin", b"x-request-id: theirs", b"ETag: \"x\"", b"Content-Type: text/plain",
    b"Content-Encoding: gzip",
    b"Location: http://svc.test/y", b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"Retry-After: 0", b"Upgrade: h2c",
    b"Trailer: X-Sum",
    b"X_Under: 1", b"Cache-Control: max-age=5", b"Proxy-Status: other; error=x", b"Empty:", b"High: \xff", b"TE: x",
    b"Vary: Accept", b"Strict-Transport-Security: max-age=1", b"Proxy-Connection: close", b"Age: 3",
    b"X-Accel-Redirect: /etc",
)  # fmt: skip
MALFORMED_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"HTTP/1.1 20 OK\r\n\r\n",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nHuge: " + b"h" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n", b"\x00\x01\x02",
    b"HTTP/1.1 200 OK\r\nContent",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok-and-more",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nBad trailer\r\n\r\n", b"",
)  # fmt: skip
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Drop\r\nX-Drop: 1\r\n\r\n",
)  # fmt: skip
EVENTS = (
    b"data: hello\n\n", b"id: 7\ndata: a\ndata: b\n\n", b": comment\n\n", b"event: x\r\ndata: crlf\r\n\r\n",
    b"retry: 10\n\n",
    b"data: \xc3\xa9\n\n", b"\xef\xbb\xbfdata: bom\n\n", b"id: 8\r\rdata: cr\r\r", b"data: {\"a\": 1}\n\n",
    b"data: [DONE]\n\n",
    b"event: error\ndata: {\"error\": {\"message\": \"broken\"}}\n\n", b"id\n\n", b"data: " + b"e" * 20_000 + b"\n\n",
)  # fmt: skip
# Ways of a client to leave; the last one alone counts where HALF_CLOSE says that FIN means nothing.
LEAVING: tuple[tuple[Step, ...], ...] = ((HalfClose(), Ends(0.3, expected=False), Close()), (Close(),), (Reset(),))
UNFINISHED_EVENTS = (b"data: unfinished", b"data: unfinished\n", b"id: 9\ndata: x\n", b"data: cr\r")
UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _unpadded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(claims: dict[str, object], algorithm: str = "HS256", secret: str = SECRET) -> bytes:
    """A JWT (RFC 7519) with an HMAC signature."""
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    head = _unpadded(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    signed = head + b"." + _unpadded(json.dumps(claims).encode())
    signature = hmac.new(secret.encode(), signed, hashes.get(algorithm, hashlib.sha256)).digest()
    return signed + b"." + (_unpadded(signature) if algorithm in hashes else b"")


FAR = 4_000_000_000  # seconds since 1970: the year 2096
CREDENTIALS = tuple(
    b"Authorization: " + value
    for value in (
        *[b"Bearer " + token({"sub": "ada", "exp": FAR, "scope": "read"})] * 8,
        b"bearer  " + token({"sub": "ada"}),
        b"Bearer " + token({"sub": "ada", "exp": FAR}, "HS384"),
        b"Bearer " + token({"sub": "ada", "exp": FAR}, "HS512"),
        b"Bearer " + token({"sub": 7, "aud": ["x"], "exp": FAR}),
        b"Bearer " + token({"exp": 1_000_000_000}),
        b"Bearer " + token({"nbf": FAR}),
        b"Bearer " + token({"exp": "soon"}),
        b"Bearer " + token({"exp": FAR}, secret="another secret of forty-eight characters or more"),
        b"Bearer " + token({"exp": FAR}, "none"),
        b"Bearer a.b.c",
        b"Bearer",
        b"Bearer " + b"x" * 9000,
        b"Basic eDp5",
        b"Bearer " + token({"exp": FAR}) + b"\r\nAuthorization: Bearer x",
    )
)


def frame(opcode: int, payload: bytes = b"", *, mask: bytes = b"", fin: bool = True, rsv: int = 0) -> bytes:
    """A WebSocket frame (RFC 6455 §5.2)."""
    first, masked, size = opcode | rsv << 4 | fin << 7, 0x80 if mask else 0, len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask:
        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    return head + mask + payload


def close_frame(code: int, reason: bytes = b"", *, mask: bytes = b"") -> bytes:
    return frame(8, struct.pack("!H", code) + reason, mask=mask)


class Generator:
    """Makes cases.

    Args:
        seed: of all randomness.
        tokens: whether most requests bear a token.
        fin_ends: whether a client that sends FIN counts as gone.
    """

    def __init__(self, seed: int, *, tokens: bool = False, fin_ends: bool = True) -> None:
        self._seed, self._tokens, self._fin_ends = seed, tokens, fin_ends

    def case(self, number: int) -> Case:
        return _Draw(random.Random(f"{self._seed}/{number}"), number, self._tokens, self._fin_ends).case()


class _Draw:
    """The making of one case."""

    def __init__(self, rng: random.Random, number: int, tokens: bool, fin_ends: bool) -> None:
        self.rng, self.number, self.tokens, self.fin_ends = rng, number, tokens, fin_ends

    def case(self) -> Case:
        kinds: dict[str, tuple[int, Callable[[], tuple[list[Step], list[Answer]]]]] = {
            "request": (30, self._request),
            "pipelined": (7, self._pipelined),
            "malformed": (12, self._malformed),
            "malformed answer": (9, self._malformed_answer),
            "own page": (8, self._own_page),
            "client leaves": (6, self._client_leaves),
            "upload": (8, self._upload),
            "event stream": (12, self._event_stream),
            "websocket": (14, self._websocket),
        }
        (kind,) = self.rng.choices(list(kinds), [weight for weight, _ in kinds.values()])
        client, answers = kinds[kind][1]()
        return Case(self.number, kind, tuple(client), tuple(answers))

    # ---------------------------------------------------------------- parts

    def chance(self, percent: float) -> bool:
        return self.rng.random() * 100 < percent

    def service(self) -> bytes:
        return b"down" if self.chance(3) else self.rng.choice(SERVICES)

    def leaving(self) -> tuple[Step, ...]:
        return self.rng.choice(LEAVING if self.fin_ends else LEAVING[-1:])

    def target(self, prefix: bytes = b"/api/") -> bytes:
        return prefix + self.service() + (self.rng.choice(PATHS) if self.chance(60) else b"/case-%d" % self.number)

    def fields(self, most: int = 5) -> list[bytes]:
        fields = self.rng.sample(FIELDS, self.rng.randint(0, most))
        if self.chance(80):
            fields.append(b"X-Request-Id: case-%d" % self.number)
        if self.tokens and self.chance(90):
            fields.append(self.rng.choice(CREDENTIALS))
        self.rng.shuffle(fields)
        return fields

    def host(self) -> list[bytes]:
        return [b"Host: " + (self.rng.choice(HOSTS) if self.chance(30) else HOSTS[0])]

    def head(self, start: bytes, fields: list[bytes]) -> bytes:
        lines = fields + (self.host() if self.chance(98) else [])
        if self.chance(30):
            self.rng.shuffle(lines)
        return b"\r\n".join([start, *lines]) + b"\r\n\r\n"

    def body(self) -> bytes:
        return self.rng.choice(
            (b"", b"x", b"hello" * 20, b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", self.rng.randbytes(3000))
        )

    def framed(self, body: bytes) -> tuple[list[bytes], bytes]:
        """Fields and bytes of a body, with a length or in chunks."""
        if self.chance(50):
            return [b"Content-Length: %d" % len(body)], body
        return [b"Transfer-Encoding: chunked"], self.chunks(body)

    def chunks(self, body: bytes) -> bytes:
        pieces = []
        while body:
            cut = self.rng.randint(1, len(body))
            extension = b";ext=1" if self.chance(10) else b""
            pieces.append(b"%x%b\r\n%b\r\n" % (cut, extension, body[:cut]))
            body = body[cut:]
        trailers = b"X-Sum: 1\r\n" + (b"Content-Length: 5\r\n" if self.chance(20) else b"") if self.chance(30) else b""
        return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"

    def sent(self, data: bytes) -> list[Step]:
        """The bytes, in one piece or several."""
        steps: list[Step] = []
        while self.chance(25) and len(data) > 1:
            cut = self.rng.randint(1, len(data) - 1)
            steps.append(Send(data[:cut]))
            data = data[cut:]
        return [*steps, Send(data)]

    def whole(self, data: bytes) -> list[Step]:
        """The bytes of a request; in one piece for a service that refuses at once, before the rest may have come."""
        return [Send(data)] if b"/down" in data.partition(b"\r\n")[0] else self.sent(data)

    def request(self, method: bytes = b"", prefix: bytes = b"/api/") -> tuple[bytes, bytes]:
        """A whole request, and its method."""
        method = method or self.rng.choice(ODD_METHODS if self.chance(5) else METHODS)
        fields, tail = self.fields(), b""
        if self.chance(90 if method in (b"POST", b"PUT", b"PATCH") else 8):
            lines, tail = self.framed(self.body())
            fields += lines
        start = b"%b %b %b" % (method, self.target(prefix), self.rng.choice(VERSIONS))
        return self.head(start, fields) + tail, method

    def answer(self, *, type_line: bytes = b"") -> Answer:
        """Any valid answer; now and then with interim ones before."""
        status = self.rng.choice(STATUSES)
        fields = self.rng.sample(ANSWER_FIELDS, self.rng.randint(0, 4)) + ([type_line] if type_line else [])
        interim = self.rng.choice(INTERIM) * self.rng.randint(1, 2) if self.chance(8) else b""
        body, keep = self.rng.choice((b"", b"ok", b"{}" * 50, self.rng.randbytes(5000), b"z" * 200_000)), True
        version = b"HTTP/1.0" if self.chance(4) else b"HTTP/1.1"
        if status[:3] == b"205":  # RFC 9110 §15.3.6: without content
            body = b""
        if self.chance(10):
            framing, tail, keep = [], body, False
        elif version == b"HTTP/1.0":
            framing, tail = [b"Content-Length: %d" % len(body)], body
        else:
            framing, tail = self.framed(body)
        if status[:3] in (b"204", b"304"):
            framing, tail, keep = [], b"", True
        head = b"\r\n".join([version + b" " + status, *fields, *framing]) + b"\r\n\r\n"
        whole = (Whole(), *self.sent(interim + head + tail))
        return Answer(whole, keep, to_head=(Whole(), Send(interim + head)))

    # ---------------------------------------------------------------- kinds

    def _request(self) -> tuple[list[Step], list[Answer]]:
        count = self.rng.choice((1, 1, 1, 2, 3))
        steps: list[Step] = []
        answers, methods = [], []
        for _ in range(count):
            data, method = self.request()
            methods.append(method)
            steps += [*self.whole(data), Responses(len(methods), tuple(methods))]
            answers.append(self.answer())
        return steps, answers

    def _pipelined(self) -> tuple[list[Step], list[Answer]]:
        requests = [self.request() for _ in range(self.rng.randint(2, 4))]
        data = b"".join(each for each, _ in requests)
        methods = tuple(method for _, method in requests)
        answers = [self.answer() for _ in requests]
        return [*self.whole(data), Responses(len(requests), methods)], answers

    def _malformed(self) -> tuple[list[Step], list[Answer]]:
        fields, tail = self.fields(3), b""
        start = b"%b %b HTTP/1.1" % (self.rng.choice(METHODS), self.target())
        if self.chance(40):
            start = self.rng.choice(ODD_STARTS)
        else:
            fields.insert(self.rng.randint(0, len(fields)), self.rng.choice(MALFORMED_FIELDS))
        if self.chance(20):
            fields.append(b"Transfer-Encoding: chunked")
            tail = self.rng.choice(
                (b"zz\r\n", b"5\r\nhelloX", b"5 \r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"0\r\nBad\r\n\r\n", b"5\nhello")
            )
        data = self.head(start, fields) + tail
        # A request that stays incomplete has no response: then the client's end shows what the gateway makes of it.
        end = [Responses(1, (start.split(b" ")[0],), patience=0.5, expected=False), HalfClose(), Ends()]
        # In one piece: which of several faults is found first depends on the pieces.
        return [Send(data), *end], [Answer((Whole(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))]

    def _malformed_answer(self) -> tuple[list[Step], list[Answer]]:
        data, method = self.request(self.rng.choice((b"GET", b"POST", b"DELETE", b"HEAD")))
        abrupt, answers = self.chance(30), []
        for _ in range(3):
            answer = self.rng.choice(MALFORMED_ANSWERS)
            # RST discards what the kernel has not sent: only an answer of one segment surely arrives before it.
            end = Reset() if abrupt and len(answer) < 1000 else Close()
            answers.append(Answer((Whole(), Send(answer), end), keep=False))
        return [*self.whole(data), Responses(1, (method,))], answers

    def _own_page(self) -> tuple[list[Step], list[Answer]]:
        method = self.rng.choice(METHODS) if self.chance(30) else b"GET"
        start = b"%b %b %b" % (method, self.rng.choice(OWN_PAGES), self.rng.choice(VERSIONS))
        fields = self.fields(2) + (list(UPGRADE) if b" /ws" in start and self.chance(50) else [])
        return [*self.sent(self.head(start, fields)), Responses(1, (method,))], [self.answer()]

    def _client_leaves(self) -> tuple[list[Step], list[Answer]]:
        method = self.rng.choice((b"GET", b"POST"))
        start = b"%b /%b/svc/case-%d HTTP/1.1" % (
            method,
            self.rng.choice((b"api", b"sse")) if method == b"GET" else b"api",
            self.number,
        )
        leave = self.leaving()
        head = self.head(
            start, [b"X-Request-Id: case-%d" % self.number, *([b"Content-Length: 10"] if method == b"POST" else [])]
        )
        begun = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
        silent: tuple[Step, ...] = (Ends(),)
        if method == b"GET" and self.chance(50):
            return [Send(head), Hears(b"hello"), *leave], [Answer((Send(begun), *silent), keep=False)]
        return [Send(head), Asked(), *leave], [Answer(silent, keep=False)]

    def _upload(self) -> tuple[list[Step], list[Answer]]:
        """A body with Expect, or one that is answered before its end, or one that does not come to its end."""
        body = self.rng.choice((b"hello", b"x" * 2000, b"y" * 150_000))
        framing, data = self.framed(body)
        start = b"%b /api/%b/case-%d HTTP/1.1" % (
            self.rng.choice((b"POST", b"PUT")),
            self.rng.choice(SERVICES),
            self.number,
        )
        expect = [b"Expect: 100-continue"] if self.chance(50) else []
        head = self.head(start, [*self.fields(2), *framing, *expect])
        way = self.rng.choice(("continue", "continue", "refused", "early", "cut", "large"))
        if way == "large":
            large = self.head(start, [b"Content-Length: 200000", *expect])
            return [Send(large), Responses(1, patience=0.3, expected=False), Close()], [Answer((Ends(),), keep=False)]
        if way == "continue":
            proceed = (Send(b"HTTP/1.1 100 Continue\r\n\r\n"),) if expect and self.chance(70) else ()
            answer = self.answer()
            return [
                Send(head),
                *([Hears(b"HTTP/1.1")] if expect and proceed else []),
                *self.sent(data),
                Responses(1),
            ], [Answer((*proceed, *answer.steps), answer.keep, answer.to_head)]
        refusal = Send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
        if way == "refused":
            return [Send(head), Hears(b"no!"), Send(data[:50]), HalfClose(), Ends()], [
                Answer((refusal, Ends()), keep=False)
            ]
        if way == "early":
            return [Send(head + data[:3]), Asked(), Responses(1), Close()], [Answer((refusal, Ends()), keep=False)]
        return [Send(head + data[:3]), Asked(), *self.leaving()], [Answer((Ends(),), keep=False)]

    def _event_stream(self) -> tuple[list[Step], list[Answer]]:
        prefix = b"/sse/" if self.chance(75) else b"/api/"
        method = b"GET" if self.chance(90) else self.rng.choice(METHODS)
        accept = [b"Accept: text/event-stream"] if self.chance(70) else []
        start = b"%b %b HTTP/1.1" % (method, self.target(prefix))
        client: list[Step] = [Send(self.head(start, [*self.fields(3), *accept]))]
        if self.chance(15) or method == b"HEAD":
            return [*client, Responses(1, (method,))], [self.answer()]
        events = [self.rng.choice(EVENTS) for _ in range(self.rng.randint(0, 5))]
        chunked = self.chance(60)
        fields = [b"Content-Type: text/event-stream" + (b"; charset=utf-8" if self.chance(30) else b"")]
        fields += self.rng.sample(ANSWER_FIELDS[:12], self.rng.randint(0, 2)) + (
            [b"Transfer-Encoding: chunked"] if chunked else []
        )
        steps: list[Step] = [Whole(), Send(b"\r\n".join([b"HTTP/1.1 200 OK", *fields]) + b"\r\n\r\n")]
        if self.chance(20):
            events.append(self.rng.choice(UNFINISHED_EVENTS))
        for number, event in enumerate(events):
            mark = b"mark-%d" % number
            data = event + (b"data: %b\n\n" % mark if self.chance(60) and event in EVENTS else b"")
            steps.append(Send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data))
            steps += [ClientHears(mark)] if data != event else []
        ending = self.rng.choice(("end", "end", "close", "reset", "client"))
        if ending == "client" and isinstance(steps[-1], ClientHears):
            leave = self.leaving()
            return [*client, Hears(steps[-1].mark), *leave], [Answer((*steps, Ends()), keep=False)]
        if ending == "end" and chunked:
            steps.append(Send(b"0\r\n\r\n"))
        if ending == "reset":
            last = b"data: mark-last\n\n"
            steps += [
                Send(b"%x\r\n%b\r\n" % (len(last), last) if chunked else last),
                ClientHears(b"mark-last"),
                Reset(),
            ]
        else:
            steps.append(Close())
        return [*client, Responses(1, (method,))], [Answer(tuple(steps), keep=False)]

    def _websocket(self) -> tuple[list[Step], list[Answer]]:
        fields = [*UPGRADE, *self.fields(2)]
        if self.chance(12):
            fields[self.rng.randint(0, 3)] = self.rng.choice(
                (b"Upgrade: h2c", b"Connection: close", b"Sec-WebSocket-Version: 8", b"X: y")
            )
        if self.chance(25):
            fields += [b"Sec-WebSocket-Protocol: chat, superchat"]
        if self.chance(25):
            fields += [b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]
        path = self.rng.choice(
            (b"/room", b"?path=/room", b"?path=/room?x=1&y=2", b"", b"?path=//evil.example/", b"?path=room")
        )
        start = b"GET /ws/%b%b HTTP/1.1" % (self.service(), path)
        head = self.head(start, fields)
        if self.chance(20):
            return [Send(head), Responses(1)], [self.answer()]
        accepted = self.rng.choice(
            (
                b"",
                b"",
                b"Sec-WebSocket-Protocol: chat\r\n",
                b"Set-Cookie: a=b\r\nX: y\r\n",
                b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
            )
        )
        talk, count, invalid = self._talk()
        heard, invalid_answer = self._answered_frames()
        if invalid or invalid_answer:  # the gateway ends the connection, nobody else
            client_end, upstream_end = self._follows(self._mask()), self._follows()
        else:
            client_end, upstream_end = self._endings()
        talks = [
            Send(head),
            Hears(b"\r\n\r\n"),
            SendFrames(talk + invalid),
            *([Gets(len(heard))] if not invalid else []),
        ]
        hears = [Upgrade(accepted), *([Gets(count)] if count else []), Send(heard), Send(invalid_answer)]
        # Both sides stay until all frames have arrived: the end of a connection may lose frames that are on the way.
        arrived = [] if invalid or invalid_answer else [Delivered(count)]
        received = [] if invalid or invalid_answer else [Delivered(len(heard))]
        return [*talks, *arrived, *client_end], [Answer((*hears, *received, *upstream_end), keep=False)]

    def _mask(self) -> bytes:
        return self.rng.randbytes(4)

    def _talk(self) -> tuple[bytes, int, bytes]:
        """Frames of the client, their length, and now and then an invalid frame behind them."""
        payload = self.rng.choice((b"", b"hi", b"a" * 126, b"b" * 70_000, self.rng.randbytes(300), "é".encode()))
        valid = [
            frame(1, b"text", mask=self._mask()), frame(2, payload, mask=self._mask()), frame(9,
    b"ping", mask=self._mask()),
            frame(10, b"pong", mask=self._mask()),
            frame(1, b"fra", mask=self._mask(), fin=False) + frame(9, b"", mask=self._mask()) + frame(0,
    b"gment", mask=self._mask()),
        ]  # fmt: skip
        invalid = [
            frame(1, b"unmasked"), frame(3, b"x", mask=self._mask()), frame(1, b"x", mask=self._mask(), rsv=4),
    b"\xff" * 14,
            frame(9, b"p" * 126, mask=self._mask()), frame(9, b"p", mask=self._mask(), fin=False), frame(0,
    b"x", mask=self._mask()),
            b"\x82\xff" + b"\x7f" * 8 + b"mask",
        ]  # fmt: skip
        talk = b"".join(self.rng.choices(valid, k=self.rng.randint(0, 3)))
        return talk, len(talk), self.rng.choice(invalid) if self.chance(15) else b""

    def _answered_frames(self) -> tuple[bytes, bytes]:
        """Frames of an upstream, and now and then an invalid one behind them."""
        valid = [
            frame(1, b"welcome"), frame(2, self.rng.randbytes(200)), frame(9, b"srv"), frame(10, b""),
            frame(1, b"a", fin=False) + frame(0, b"b"),
        ]  # fmt: skip
        invalid = (frame(1, b"masked", mask=b"abcd"), frame(7, b"x"), frame(1, b"x", rsv=2), b"\x89\x7e\x01\x00")
        return b"".join(self.rng.choices(valid, k=self.rng.randint(0, 3))), self.rng.choice(invalid) if self.chance(
            8
        ) else b""

    def _follows(self, mask: bytes = b"") -> list[Step]:
        """The end of a peer that did not begin the closing handshake."""
        return [HearsClose(), *([SendFrames(close_frame(1000, mask=mask))] if self.chance(60) else []), Close()]

    def _endings(self) -> tuple[list[Step], list[Step]]:
        """How a client and an upstream end a WebSocket: one of them begins, the other follows."""
        code, reason = (
            self.rng.choice((1000, 1001, 1011, 3000, 4321, 1005, 999)),
            self.rng.choice((b"", b"bye", b"r" * 123)),
        )
        if self.chance(50):
            mask = self._mask()
            goes: list[Step] = self.rng.choice(
                (
                    [SendFrames(close_frame(code, reason, mask=mask)), HearsClose(), Close()],
                    [SendFrames(frame(8, mask=mask)), HearsClose(), Close()],
                    [HalfClose(), Ends()],
                    [Reset()],
                    [Close()],
                )
            )
            return goes, self._follows()
        goes = self.rng.choice(
            (
                [Send(close_frame(code, reason)), HearsClose(), Close()],
                [Send(frame(8)), HearsClose(), Close()],
                [Close()],
                [Reset()],
            )
        )
        return self._follows(self._mask()), goes
