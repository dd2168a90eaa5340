"""Which header fields are read, dropped, forwarded and added, in both directions.

A FieldTable sorts the fields of a message once: into fields that the gateway reads, and lines that are forwarded
unchanged, with order, case and repeats kept. The other functions write the gateway's own fields.

Claims of proxies in front (X-Forwarded-* and others) are removed here, and judged in forwarding.py.

Sources: RFC 9110 §7.6 (Connection, Via), RFC 9112 §6.1.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tornado_gateway.errors import LoopDetected
from tornado_gateway.policy.http.lists import members, tokens

Field = tuple[bytes, bytes]
KnownFields = Mapping[bytes, Sequence[bytes]]

MAX_LENGTH = 2**63  # a Content-Length of this many bytes or more is refused; many peers count in 63 bits

USES = 1024  # field names whose use a table remembers; clients and services send some 100 different names

_ZERO = ord("0")
_VIA = b"\r\nVia: "
_RECEIVED = (b"1.0 ", b"1.1 ")  # the received-protocol of Via (RFC 9110 §7.6.3), by minor version

# Connection options with a meaning of their own, which nominate no field.
_CONNECTION_WORDS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))

LONGEST_ID = 128  # characters of a request's id


class FieldTable:
    """The fields of one direction that the gateway reads, removes or protects.

    Args:
        read: names, in lower case, of fields that are read and forwarded.
        taken: names of fields that are read and removed: fields of one hop, and fields that the gateway writes anew.
        protected: names of fields that are forwarded, while names with underscores for hyphens are removed.
        prefixes: prefixes of names that are taken, too.
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
        self._taken = frozenset(taken)
        self._names = self._read.union(taken, protected)
        self._prefixes = prefixes
        self._use = functools.lru_cache(maxsize=USES)(self._use_of)

    def knows(self, name: bytes) -> bool:
        """Whether the table has a name, in lower case, with underscores read as hyphens.

        CGI servers turn X_Request_Id and X-Request-Id into the same variable (Traefik GHSA-5m6w-wvh7-57vm).
        """
        name = name.replace(b"_", b"-")
        return name in self._names or name.startswith(self._prefixes)

    def interpret(self, block: bytes) -> tuple[dict[bytes, list[bytes]], bytes]:
        """Sort field lines into fields that the gateway reads and lines that are forwarded.

        Lines of fields that Connection nominates are not forwarded (RFC 9110 §7.6.1).

        Forwarded lines keep their bytes. Each name is looked up in a dict: 3 µs for 10 lines, where a regular
        expression of all names took 10 µs.

        Args:
            block: valid field lines, each ended by CRLF.

        Returns:
            The values of the fields that are read, by lower-case name, and the lines to forward, each with its CRLF.

        >>> REQUEST_FIELDS.interpret(b"Host: a\\r\\nETag: 1\\r\\nCookie: b\\r\\nX_Request_Id: c\\r\\n")
        ({b'host': [b'a'], b'cookie': [b'b']}, b'ETag: 1\\r\\nCookie: b\\r\\n')
        """
        known_fields: dict[bytes, list[bytes]] = {}
        forwarded, use = [], self._use
        for line in block.splitlines(keepends=True):
            name, _, value = line.partition(b":")
            key, is_forwarded = use(name)
            if is_forwarded:
                forwarded.append(line)
            if key in known_fields:
                known_fields[key].append(value.strip(b" \t\r\n"))
            elif key:
                known_fields[key] = [value.strip(b" \t\r\n")]
        lines = b"".join(forwarded)
        return known_fields, without_nominated(lines, options(known_fields)) if b"connection" in known_fields else lines

    def _use_of(self, name: bytes) -> tuple[bytes, bool]:
        """What a field name means here: the key to read the field by, b"" for none; and whether the field is forwarded.

        A field whose name has underscores, and would be known with hyphens, is dropped unread.
        """
        name = name.lower()
        if name in self._read:
            return name, True
        if name in self._taken or name.startswith(self._prefixes):
            return name, False
        return b"", b"_" not in name or not self.knows(name)


# Claims of proxies beside the judged claims below; forwarded if the proxy is trusted. Some servers read the client's
# address, the path or the file to send from these fields (Rack::Sendfile CVE-2025-61780).
_CLAIMS = (
    b"cf-connecting-ip", b"client-ip", b"fastly-client-ip", b"forwarded", b"front-end-https", b"true-client-ip",
    b"x-accel-mapping", b"x-accel-redirect", b"x-client-ip", b"x-cluster-client-ip", b"x-real-ip", b"x-rewrite-url",
    b"x-scheme", b"x-sendfile", b"x-sendfile-type", b"x-url-scheme",
)  # fmt: skip
_CLAIM_PREFIXES = (b"x-forwarded-", b"x-original-")
_CERTIFICATE_PREFIX = b"client-cert"  # of the fields of RFC 9440, which the gateway alone may write
_JUDGED_CLAIMS = frozenset(
    (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-proto")
)

# Hop-by-hop fields: RFC 9110 §7.6.1 and §11.7, RFC 7540 §3.2.1, and two that are common without a standard.
_OF_ONE_HOP = (
    b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
)  # fmt: skip

REQUEST_FIELDS = FieldTable(
    read=(
        b"accept", b"access-control-request-headers", b"access-control-request-method", b"authorization",
        b"content-length", b"cookie", b"origin", b"sec-websocket-key", b"traceparent", b"tracestate",
    ),
    taken=(
        *_OF_ONE_HOP, *_JUDGED_CLAIMS, *_CLAIMS, b"expect", b"host", b"via", b"x-request-id",
        b"proxy",  # CGI servers turn Proxy into HTTP_PROXY, their own outgoing proxy (httpoxy, CVE-2016-5385)
        b"alt-used",  # names the gateway's host, not the upstream's (RFC 7838 §5)
    ),
    protected=(b"remote-addr", b"remote-user", b"x-user-id"),
    prefixes=(*_CLAIM_PREFIXES, _CERTIFICATE_PREFIX),
)  # fmt: skip

# Fields by which services name what a response is about, for purges; see caching/purge.py.
TAG_FIELDS = frozenset((b"cache-tag", b"surrogate-key", b"xkey"))

RESPONSE_FIELDS = FieldTable(
    read=(
        *TAG_FIELDS,
        b"content-length", b"content-location", b"content-type", b"date", b"location", b"retry-after",
        b"service-worker-allowed", b"set-cookie",
    ),
    taken=(
        *_OF_ONE_HOP, b"via", b"x-request-id",
        b"alt-svc",  # speaks of the service's origin; browsers would apply it to the gateway's (RFC 7838 §2.1)
    ),
)  # fmt: skip


# Trailers that would change framing, routing, trust or the meaning of the message if a recipient merged trailers into
# the header section (RFC 9110 §6.5.1). The names of both FieldTables are removed as well.
_NOT_IN_TRAILERS = frozenset((
    b"age", b"authentication-info", b"cache-control", b"content-disposition", b"content-encoding",
    b"content-location", b"content-range", b"expires", b"if-match", b"if-modified-since", b"if-none-match",
    b"if-range", b"if-unmodified-since", b"location", b"max-forwards", b"origin", b"pragma", b"range", b"set-cookie",
    b"vary", b"warning", b"www-authenticate",
))  # fmt: skip
_NO_TRAILER_PREFIXES = (b"accept-", b"access-control-", b"sec-")


def claim_lines(known_fields: KnownFields) -> bytes:
    """The lines of claims that forwarding.py does not judge."""
    return serialize([(name, value) for name, values in known_fields.items() if _is_claim(name) for value in values])


def _is_claim(name: bytes) -> bool:
    return name in _CLAIMS or (name.startswith(_CLAIM_PREFIXES) and name not in _JUDGED_CLAIMS)


def _keep(lines: bytes, is_kept: Callable[[bytes], bool]) -> bytes:
    """The lines whose lower-case names satisfy `is_kept`."""
    return b"".join([line for line in lines.splitlines(keepends=True) if is_kept(line.partition(b":")[0].lower())])


def options(known_fields: KnownFields) -> frozenset[bytes]:
    """The options of the Connection field, in lower case (RFC 9110 §7.6.1)."""
    values = known_fields.get(b"connection")
    return _split_options(b",".join(values)) if values else frozenset()


@functools.lru_cache(maxsize=256)
def _split_options(value: bytes) -> frozenset[bytes]:
    return frozenset(tokens([value]))


def without_nominated(forwarded_lines: bytes, connection: Collection[bytes]) -> bytes:
    """Drop the lines of fields that Connection nominates, but keep Content-Length (RFC 9110 §7.6.1).

    >>> without_nominated(b"X-Hop: 1\\r\\nContent-Length: 2\\r\\n", {b"x-hop", b"content-length"})
    b'Content-Length: 2\\r\\n'
    """
    names = nominated(frozenset(connection))
    return without(forwarded_lines, names) if names else forwarded_lines


@functools.lru_cache(maxsize=256)
def nominated(connection: frozenset[bytes]) -> frozenset[bytes]:
    """The names of fields that a Connection field's options nominate; Content-Length cannot be nominated."""
    return connection - _CONNECTION_WORDS - {b"content-length"}


def content_length(value: bytes) -> int | None:
    """The length in a Content-Length field of ASCII digits (RFC 9110 §8.6); None for MAX_LENGTH or more.

    >>> content_length(b"007"), content_length(b"9223372036854775808")
    (7, None)
    """
    digits = value.lstrip(b"0")  # int() refuses more than 4300 digits, leading zeros included
    length = int(digits or b"0") if len(digits) < 20 else MAX_LENGTH
    return length if length < MAX_LENGTH else None


def plain_length(forwarded_lines: bytes, value: bytes, length: int) -> bytes:
    """Rewrite Content-Length without leading zeros, since some parsers read a leading zero as octal.

    >>> plain_length(b"A: 1\\r\\nContent-Length: 010\\r\\n", b"010", 10)
    b'A: 1\\r\\nContent-Length: 10\\r\\n'
    """
    if len(value) == 1 or value[0] != _ZERO:
        return forwarded_lines
    return without(forwarded_lines, (b"content-length",)) + b"Content-Length: %d\r\n" % length


def without(forwarded_lines: bytes, names: Collection[bytes]) -> bytes:
    """The lines whose lower-case names are not in `names`."""
    return _keep(forwarded_lines, lambda name: name not in names)


def without_prefix(lines: bytes, prefix: bytes) -> bytes:
    """The lines whose lower-case names do not begin with `prefix`."""
    if prefix not in lines.lower():
        return lines
    return _keep(lines, lambda name: not name.startswith(prefix))


def pairs(lines: bytes) -> list[Field]:
    """Split field lines, each ended by CRLF, into pairs of name and value."""
    split = [line.partition(b":") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value.strip(b" \t")) for name, _, value in split]


def serialize(fields: Iterable[Field]) -> bytes:
    """Join fields into lines, each ended by CRLF."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def trailer_lines(trailers: Sequence[Field]) -> bytes:
    """The lines of the trailers that may be forwarded, in either direction (RFC 9110 §6.5.1).

    >>> trailer_lines([(b"X-Sum", b"7"), (b"Content_Length", b"9"), (b"X-Forwarded-For", b"6.6.6.6")])
    b'X-Sum: 7\\r\\n'
    """
    return serialize([each for each in trailers if _is_trailer(each[0].lower())])


def _is_trailer(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    means_something = plain in _NOT_IN_TRAILERS or plain.startswith(_NO_TRAILER_PREFIXES)
    return not means_something and not REQUEST_FIELDS.knows(plain) and not RESPONSE_FIELDS.knows(plain)


def accepts_trailers(known_fields: KnownFields) -> bool:
    """Whether the TE field of a request asks for trailers (RFC 9110 §10.1.4)."""
    return b"te" in known_fields and b"trailers" in tokens(known_fields[b"te"])


def upstream_fields(
    forwarded_lines: bytes,
    known_fields: KnownFields,
    forwarded: Iterable[bytes],
    request_id: bytes,
    minor: int,
    via: bytes,
) -> bytes:
    """The lines of a request to an upstream, without Host, Expect and Transfer-Encoding.

    Args:
        forwarded_lines, known_fields: see FieldTable.interpret().
        forwarded: the X-Forwarded-* lines, from forwarding.Origination.
        request_id: the value of X-Request-Id.
        minor: HTTP minor version of the client's request.
        via: this gateway's pseudonym.

    Raises:
        LoopDetected: Via already has this gateway's pseudonym.
    """
    received_by = b""
    if b"via" in known_fields:
        hops = members(known_fields[b"via"])
        if any(hop.split()[1:2] == [via] for hop in hops):
            raise LoopDetected
        received_by = b"".join([b"%b, " % hop for hop in hops])
    te = b""
    if b"te" in known_fields and accepts_trailers(known_fields):
        te = b"TE: trailers\r\nConnection: TE\r\n"  # RFC 9110 §10.1.4: TE needs a Connection option
    # A join takes two thirds of the instructions of a bytes format.
    own = (b"X-Request-Id: ", request_id, _VIA, received_by, _RECEIVED[minor], via, b"\r\n", te)
    return b"".join((forwarded_lines, *forwarded, *own))


def client_fields(
    forwarded_lines: bytes, known_fields: KnownFields, request_id: bytes, minor: int, via: bytes
) -> bytes:
    """The lines of a final response to the client, without Transfer-Encoding, Connection and Date.

    Arguments as for upstream_fields(); `minor` is the HTTP minor version of the upstream's response.
    """
    received_by = _received_by(known_fields[b"via"]) if b"via" in known_fields else b""
    return b"".join((forwarded_lines, b"x-request-id: ", request_id, _VIA, received_by, _RECEIVED[minor], via, b"\r\n"))


def via_line(values: Iterable[bytes], minor: int, pseudonym: bytes) -> bytes:
    """The line of Via in a response to the client.

    Args:
        values: of Via in the upstream's response.
        minor: HTTP minor version of the upstream's response.
        pseudonym: this gateway's name.

    >>> via_line((b"1.0 a",), 1, b"gw")
    b'Via: 1.0 a, 1.1 gw\\r\\n'
    """
    return b"".join((b"Via: ", _received_by(values), _RECEIVED[minor], pseudonym, b"\r\n"))


def _received_by(values: Iterable[bytes]) -> bytes:
    """The hops of Via before this gateway."""
    return b"".join([b"%b, " % hop for hop in members(values)])
