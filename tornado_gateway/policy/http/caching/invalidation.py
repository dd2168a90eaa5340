"""Which stored responses an unsafe request invalidates (RFC 9111 §4.4).

The target is invalidated, and the paths that Location and Content-Location name, if these are paths of the same host.
A path counts as the endpoint wrote the path, and so only below the endpoint's base path.
"""

from collections.abc import Iterator

from tornado_gateway.policy.http.authority import parse_authority
from tornado_gateway.policy.http.headers import KnownFields
from tornado_gateway.policy.http.rewriting import Place

# RFC 9110 §9.2.1. Every other method may change something, methods that nobody knows included.
SAFE = (b"GET", b"HEAD", b"OPTIONS", b"TRACE")
_SCHEME_ENDS = b"://"


def invalidates(method: bytes, status: int) -> bool:
    """Whether a response to a request invalidates stored responses: a non-error status to an unsafe method."""
    return method not in SAFE and 200 <= status < 400


def targets(target: bytes, fields: KnownFields, place: Place) -> Iterator[bytes]:
    """The targets, behind the base path, whose stored responses are invalid.

    Args:
        target: of the request, behind the endpoint's base path.
        fields: of the response, as the endpoint wrote the fields.
        place: the endpoint that answered.
    """
    yield target
    for name in (b"location", b"content-location"):
        for value in fields.get(name, ()):
            named = _path_of(value, place)
            if named:
                yield named


def _path_of(reference: bytes, place: Place) -> bytes:
    """The target behind the base path that a reference names; b"" for a reference to elsewhere."""
    scheme, mark, rest = reference.partition(_SCHEME_ENDS)
    path = reference.partition(b"#")[0]
    if mark:
        authority, slash, behind = rest.partition(b"/")
        if scheme.lower() != place.scheme or not _is_same(scheme, authority, place.authority):
            return b""
        path = (slash + behind).partition(b"#")[0] or b"/"
    if not path.startswith(place.base_path + b"/") or path.startswith(b"//"):
        return b""
    return path[len(place.base_path) :]


def _is_same(scheme: bytes, one: bytes, other: bytes) -> bool:
    """Whether two authorities are the same (RFC 9111 §4.4 asks for the same origin)."""
    first, second = parse_authority(one.decode("latin-1")), parse_authority(other.decode("latin-1"))
    text = scheme.lower().decode("latin-1")
    return first is not None and second is not None and first.at(text) == second.at(text)
