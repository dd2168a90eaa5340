"""The cookies of the gateway's own: their names, and how the names are kept from services.

    gw_<service>                 names the endpoint of a client's session with a service (policy/upstream/affinity.py)
    gateway_session              names an operator's session (policy/sessions.py), on http
    __Secure-gateway_session     the same on https: browsers take the name from https alone (RFC 6265bis §4.1.3.1), so
                                 that nobody on the way of an http page of the same host can plant a session

An operator's session never reaches an endpoint, and no endpoint sets a cookie of the gateway's own.

A cookie without a name is sent as its value alone (RFC 6265bis §5.8.3): `Set-Cookie: =gateway_session=x` comes back as
`Cookie: gateway_session=x`. So names are read behind a leading "=", too.
"""

from collections.abc import Callable, Iterable

STICKY_PREFIX = b"gw_"
MOST_VALUES = 8  # cookies of the name of a session that are looked at; a head has room for thousands
SESSION_PATH = "/admin"  # the Path of an operator's session

_SESSION, _SECURE_SESSION = b"gateway_session", b"__Secure-gateway_session"
_SESSIONS = frozenset((_SESSION, _SECURE_SESSION))
_BLANKS = b" \t"


def sticky_name(service: str) -> bytes:
    """The name of the cookie that binds a client to an endpoint of a service.

    >>> sticky_name("billing")
    b'gw_billing'
    """
    return STICKY_PREFIX + service.encode("ascii")


def service_of(name: bytes) -> bytes:
    """The service whose sticky cookie has a name; b"" for another name.

    >>> service_of(b"gw_billing"), service_of(b"sid")
    (b'billing', b'')
    """
    return name[len(STICKY_PREFIX) :] if name.startswith(STICKY_PREFIX) else b""


def is_session_name(name: bytes) -> bool:
    return name in _SESSIONS


def session_values(values: Iterable[bytes], *, is_secure: bool) -> list[bytes]:
    """What a request has as an operator's session: at most MOST_VALUES values, each once.

    A page of a service on the same host may add more cookies of the name, by a script.

    Args:
        values: of the Cookie fields.
        is_secure: whether the client used https.

    >>> session_values([b"a=1; gateway_session=x", b"gateway_session=y"], is_secure=False)
    [b'x', b'y']
    """
    wanted = _SECURE_SESSION if is_secure else _SESSION
    pairs = (each.partition(b"=") for value in values for each in value.split(b";"))
    found = dict.fromkeys(value.strip(_BLANKS) for name, _, value in pairs if name.strip(_BLANKS) == wanted)
    return list(found)[:MOST_VALUES]


def session_cookie(token: str, *, is_secure: bool) -> str:
    """The value of a Set-Cookie field that gives a browser a session; with the token "", one that takes it away.

    Without Expires and Max-Age the cookie ends with the browser; the gateway ends the session earlier.
    """
    name = (_SECURE_SESSION if is_secure else _SESSION).decode("ascii")
    secure, ended = "; Secure" if is_secure else "", "" if token else "; Max-Age=0"
    return f"{name}={token}; Path={SESSION_PATH}; HttpOnly; SameSite=Strict{secure}{ended}"


def without_session(lines: bytes) -> bytes:
    """Field lines of a request without the cookies of operators' sessions.

    >>> without_session(b"Cookie: a=1; gateway_session=x; b=2\\r\\nCookie: gateway_session=y\\r\\nETag: 1\\r\\n")
    b'Cookie: a=1; b=2\\r\\nETag: 1\\r\\n'
    """
    if _SESSION not in lines:
        return lines
    return b"".join(map(_without_session, lines.splitlines(keepends=True)))


def _without_session(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    if name.lower() != b"cookie" or _SESSION not in value:
        return line
    kept = [each for each in value.strip(b" \t\r\n").split(b";") if _name(each) not in _SESSIONS]
    return b"%b: %b\r\n" % (name, b";".join(kept).strip(_BLANKS)) if kept else b""


def without_own(lines: bytes, is_own: Callable[[bytes], bool]) -> bytes:
    """Field lines of a response without the Set-Cookie lines of names that are the gateway's own.

    >>> without_own(b"Set-Cookie: a=1\\r\\nset-cookie: gw_x=1; Path=/\\r\\n", lambda name: name == b"gw_x")
    b'Set-Cookie: a=1\\r\\n'
    """
    return b"".join([line for line in lines.splitlines(keepends=True) if not _sets(line, is_own)])


def _sets(line: bytes, is_own: Callable[[bytes], bool]) -> bool:
    field, _, value = line.partition(b":")
    return field.lower() == b"set-cookie" and is_own(_name(value.partition(b";")[0]))


def _name(pair: bytes) -> bytes:
    """The name of a cookie, as a later request shows the name."""
    return pair.strip(b" \t\r\n=").partition(b"=")[0].rstrip(_BLANKS)
