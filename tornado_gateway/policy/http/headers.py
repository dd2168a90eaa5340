"""Which header fields are read, dropped, passed on and added, in both directions.

The fields of a message are sorted once, by a FieldTable, into what the gateway reads
and what passes untouched; order, case and
repeats of what passes are kept. The rest of the module writes the lines that are
the gateway's own.

What proxies in front claim of a request is taken out here, and judged in forwarding.py.

Sources: RFC 9110 §7.6 (Connection, Via), RFC 9112 §6.1.
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tornado_gateway.errors import LoopDetected
from tornado_gateway.policy.http.lists import members, tokens

Field = tuple[bytes, bytes]
Named = Mapping[bytes, Sequence[bytes]]

MAX_LENGTH = 2**63  # bytes of a body from which on a Content-Length is refused; many peers count in 63 bits

_ZERO = ord("0")

# Connection options that say something about the connection and name no field to drop.
_CONNECTION_WORDS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))

_UNDERSCORE_IN_NAME = re.compile(rb"\n[^:\n_]*_")

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")


class FieldTable:
    """The fields of one direction that mean something to the gateway.

    Args:
        read: names, in lower case, of fields that are read and passed on where they stand.
        taken: names of fields that are read and not passed on: they belong to one hop, or the
            gateway writes its own.
        protected: names of fields that just pass, but must not be imitated.
        prefixes: beginnings of names that are taken, too.
    """

    def __init__(
        self,
        *,
        read: Collection[bytes],
        taken: Collection[bytes],
        protected: Collection[bytes] = (),
        prefixes: tuple[bytes, ...] = (),
    ) -> None:
        self._read = frozenset(read)
        self._names = self._read.union(taken, protected)
        self._prefixes = prefixes
        exact = [name for name in sorted(self._read.union(taken)) if not name.startswith(prefixes)]
        # "\n" first: the search then leaps from line to line instead of trying every byte.
        self._line = re.compile(rb"\n(%b):([^\n]*)\r(?=\n)" % _any_of(exact, prefixes))

    def knows(self, name: bytes) -> bool:
        """Whether a name in lower case, or one that a CGI server cannot tell from it, means something here.

        Such a server makes X_Request_Id and X-Request-Id the same variable (Traefik GHSA-5m6w-wvh7-57vm).
        """
        name = name.replace(b"_", b"-")
        return name in self._names or name.startswith(self._prefixes)

    def interpret(self, block: bytes) -> tuple[dict[bytes, list[bytes]], bytes]:
        """Sort field lines into those the gateway reads, by lower-case name, and those that pass.

        What passes is cut out of the block, not made anew: it leaves as it came. One search for the
        table's names costs half of what looking at each line does (measured: 2 µs for 9 lines).

        Args:
            block: valid field lines, each with its CRLF, behind the LF of the line before.

        Returns:
            The values of the fields that are read, and the lines that pass, each with its CRLF.

        >>> REQUEST_FIELDS.interpret(b"\\nHost: a\\r\\nETag: 1\\r\\nCookie: b\\r\\nX_Request_Id: c\\r\\n")
        ({b'host': [b'a']}, b'ETag: 1\\r\\nCookie: b\\r\\n')
        """
        named: dict[bytes, list[bytes]] = {}
        parts, at = [], 1
        lower = block.lower()
        for line in self._line.finditer(lower):
            name = line[1]
            start, end = line.span(2)
            value = block[start:end].strip(b" \t")
            if name in named:
                named[name].append(value)
            else:
                named[name] = [value]
            if name not in self._read:
                parts.append(block[at : line.start() + 1])
                at = end + 2
        parts.append(block[at:])
        passing = b"".join(parts)
        if b"_" in lower and _UNDERSCORE_IN_NAME.search(lower):
            passing = _keep(passing, self._is_no_alias)
        return named, passing

    def _is_no_alias(self, name: bytes) -> bool:
        return b"_" not in name or not self.knows(name)


def _any_of(names: Sequence[bytes], prefixes: Sequence[bytes]) -> bytes:
    """A pattern for names and prefixes, sorted by their first letters: a line is compared with few of them."""
    alternatives = [re.escape(name) for name in names] + [re.escape(prefix) + rb"[^:\n]*" for prefix in prefixes]
    firsts = sorted({each[:1] for each in alternatives})
    groups = [b"|".join([each[1:] for each in alternatives if each[:1] == first]) for first in firsts]
    return b"|".join([b"%b(?:%b)" % group for group in zip(firsts, groups, strict=True)])


# What proxies say of a request beside X-Forwarded-For, -Proto, -Host and -Port: passed on from trusted ones. Some
# servers take a client's address, the path or the file to send from them (Rack::Sendfile CVE-2025-61780).
_CLAIMS = (
    b"cf-connecting-ip", b"client-ip", b"fastly-client-ip", b"forwarded", b"front-end-https", b"true-client-ip",
    b"x-accel-mapping", b"x-accel-redirect", b"x-client-ip", b"x-cluster-client-ip", b"x-real-ip", b"x-rewrite-url",
    b"x-scheme", b"x-sendfile", b"x-sendfile-type", b"x-url-scheme",
)  # fmt: skip
_CLAIM_PREFIXES = (b"x-forwarded-", b"x-original-")
_JUDGED_CLAIMS = frozenset((b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"))

# Of one hop: RFC 9110 §7.6.1 and §11.7, RFC 7540 §3.2.1, and two that became common without a standard.
_OF_ONE_HOP = (
    b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
)  # fmt: skip

REQUEST_FIELDS = FieldTable(
    read=(b"accept", b"content-length"),
    taken=(
        *_OF_ONE_HOP, *_JUDGED_CLAIMS, *_CLAIMS, b"expect", b"host", b"via", b"x-request-id",
        b"proxy",  # CGI servers make HTTP_PROXY of it, by which they then send requests (httpoxy, CVE-2016-5385)
        b"alt-used",  # the alternative of this gateway's origin that the client uses (RFC 7838 §5)
    ),
    protected=(b"authorization", b"cookie", b"remote-addr", b"remote-user", b"x-user-id"),
    prefixes=_CLAIM_PREFIXES,
)  # fmt: skip

RESPONSE_FIELDS = FieldTable(
    read=(b"content-length", b"content-type", b"date", b"retry-after"),
    taken=(
        *_OF_ONE_HOP, b"via", b"x-request-id",
        b"alt-svc",  # of the service's own origin: browsers would take it for this gateway's (RFC 7838 §2.1)
    ),
)  # fmt: skip


# Trailers that would change framing, routing, trust, or what the message means, if anybody merged them into the
# header section (RFC 9110 §6.5.1); beside those that mean something to the gateway, in either direction.
_NOT_IN_TRAILERS = frozenset((
    b"age", b"authentication-info", b"cache-control", b"content-disposition", b"content-encoding",
    b"content-location", b"content-range", b"expires", b"if-match", b"if-modified-since", b"if-none-match",
    b"if-range", b"if-unmodified-since", b"location", b"max-forwards", b"origin", b"pragma", b"range", b"set-cookie",
    b"vary", b"warning", b"www-authenticate",
))  # fmt: skip
_NO_TRAILER_PREFIXES = (b"accept-", b"access-control-", b"sec-")


def claim_lines(named: Named) -> bytes:
    """What proxies claim of a request beside what forwarding.py judges, as they said it."""
    return serialize([(name, value) for name, values in named.items() if _is_claim(name) for value in values])


def _is_claim(name: bytes) -> bool:
    return name in _CLAIMS or (name.startswith(_CLAIM_PREFIXES) and name not in _JUDGED_CLAIMS)


def _keep(lines: bytes, is_kept: Callable[[bytes], bool]) -> bytes:
    """The lines whose names, in lower case, are kept."""
    return b"".join([line for line in lines.splitlines(keepends=True) if is_kept(line.partition(b":")[0].lower())])


def options(named: Named) -> frozenset[bytes]:
    """The options of the Connection field, in lower case (RFC 9110 §7.6.1)."""
    values = named.get(b"connection")
    return _split_options(b",".join(values)) if values else frozenset()


@functools.lru_cache(maxsize=256)
def _split_options(value: bytes) -> frozenset[bytes]:
    return frozenset(tokens([value]))


def without_nominated(passing: bytes, connection: Collection[bytes]) -> bytes:
    """Drop the fields that Connection nominates, but not those that frame the message (RFC 9110 §7.6.1).

    >>> without_nominated(b"X-Hop: 1\\r\\nContent-Length: 2\\r\\n", {b"x-hop", b"content-length"})
    b'Content-Length: 2\\r\\n'
    """
    names = nominated(frozenset(connection))
    return without(passing, names) if names else passing


@functools.lru_cache(maxsize=256)
def nominated(connection: frozenset[bytes]) -> frozenset[bytes]:
    """The names of fields and trailers that belong to one hop, of a Connection field's options."""
    return connection - _CONNECTION_WORDS - {b"content-length"}


def content_length(value: bytes) -> int | None:
    """What a Content-Length of digits alone says (RFC 9110 §8.6); None from MAX_LENGTH on.

    >>> content_length(b"007"), content_length(b"9223372036854775808")
    (7, None)
    """
    digits = value.lstrip(b"0")  # int() refuses more than 4300 digits, also if most are zeros
    length = int(digits or b"0") if len(digits) < 20 else MAX_LENGTH
    return length if length < MAX_LENGTH else None


def plain_length(passing: bytes, value: bytes, length: int) -> bytes:
    """The lines with Content-Length in its shortest form: some parsers would take a leading zero for octal.

    >>> plain_length(b"A: 1\\r\\nContent-Length: 010\\r\\n", b"010", 10)
    b'A: 1\\r\\nContent-Length: 10\\r\\n'
    """
    if len(value) == 1 or value[0] != _ZERO:
        return passing
    return without(passing, (b"content-length",)) + b"Content-Length: %d\r\n" % length


def without(passing: bytes, names: Collection[bytes]) -> bytes:
    """The lines whose names, in lower case, are not among these."""
    return _keep(passing, lambda name: name not in names)


def pairs(lines: bytes) -> list[Field]:
    """Field lines, each with its CRLF, as pairs of name and value."""
    split = [line.partition(b":") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value.strip(b" \t")) for name, _, value in split]


def serialize(fields: Iterable[Field]) -> bytes:
    """Field lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def request_id(named: Named, generate: Callable[[], bytes]) -> bytes:
    """The client's x-request-id if there is one of 1 to 128 visible ASCII characters, else a new one.

    >>> request_id({b"x-request-id": [b"abc"]}, lambda: b"new"), request_id({b"x-request-id": [b"a b"]}, lambda: b"new")
    (b'abc', b'new')
    """
    given = named.get(b"x-request-id", ())
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return generate()


def trailer_lines(trailers: Sequence[Field]) -> bytes:
    """The trailers that may be passed on, as lines; by one rule for both directions.

    >>> trailer_lines([(b"X-Sum", b"7"), (b"Content_Length", b"9"), (b"X-Forwarded-For", b"6.6.6.6")])
    b'X-Sum: 7\\r\\n'
    """
    return serialize([each for each in trailers if _is_trailer(each[0].lower())])


def _is_trailer(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    means_something = plain in _NOT_IN_TRAILERS or plain.startswith(_NO_TRAILER_PREFIXES)
    return not means_something and not REQUEST_FIELDS.knows(plain) and not RESPONSE_FIELDS.knows(plain)


def accepts_trailers(named: Named) -> bool:
    """Whether the sender of a request asked for trailers (RFC 9110 §10.1.4)."""
    return b"te" in named and b"trailers" in tokens(named[b"te"])


def upstream_fields(passing: bytes, named: Named, forwarded: bytes, request_id: bytes, minor: int, via: bytes) -> bytes:
    """The lines of a request to an upstream, but for Host, Expect and Transfer-Encoding.

    Args:
        forwarded: the X-Forwarded-* lines, from forwarding.Origination.
        minor: of the version the request came in.
        via: this gateway's pseudonym.

    Raises:
        LoopDetected: the request has been here before.
    """
    received_by = b""
    if b"via" in named:
        hops = members(named[b"via"])
        if any(hop.split()[1:2] == [via] for hop in hops):
            raise LoopDetected
        received_by = b"".join([b"%b, " % hop for hop in hops])
    if b"connection" in named:
        passing = without_nominated(passing, options(named))
    own = b"%bX-Request-Id: %b\r\nVia: %b1.%d %b\r\n" % (forwarded, request_id, received_by, minor, via)
    if b"te" in named and accepts_trailers(named):
        own += b"TE: trailers\r\nConnection: TE\r\n"  # RFC 9110 §10.1.4: TE goes with a Connection option
    return passing + own


def interim_fields(passing: bytes, named: Named) -> bytes:
    """The lines of a 1xx response to the client.

    A 1xx response has no content, so Content-Length has no place in it (RFC 9110 §8.6).

    >>> interim_fields(b"Link: </a>\\r\\nX-Hop: 1\\r\\nContent-Length: 0\\r\\n", {b"connection": [b"X-Hop"]})
    b'Link: </a>\\r\\n'
    """
    return without(passing, options(named) | {b"content-length"})


def client_fields(passing: bytes, named: Named, request_id: bytes, minor: int, via: bytes) -> bytes:
    """The lines of a response to the client, but for Transfer-Encoding, Connection and Date."""
    if b"connection" in named:
        passing = without_nominated(passing, options(named))
    received_by = b"".join([b"%b, " % hop for hop in members(named[b"via"])]) if b"via" in named else b""
    return b"%bx-request-id: %b\r\nVia: %b1.%d %b\r\n" % (passing, request_id, received_by, minor, via)
