"""Fields that tell endpoints about the principal: AUTH_CLAIM_HEADERS.

A client's own fields of these names are removed from every request, with and without a token: an endpoint may rely on
the fields. Names with underscores for hyphens are removed as well, because CGI servers read both alike.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tornado_gateway.policy.http.headers import serialize

_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")  # visible ASCII and space


class ClaimFields:
    """The fields, and the claim that each field has.

    Args:
        fields: pairs of claim and field name.
    """

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = tuple(fields)
        self._names = frozenset(name.lower().encode("ascii") for _, name in fields)

    def lines(self, lines: bytes, claims: Mapping[str, Any]) -> bytes:
        """Field lines of a request with the claims, and without the client's own fields.

        Args:
            lines: each ended by CRLF.
            claims: of the principal; {} for a client without a token.
        """
        kept = [line for line in lines.splitlines(keepends=True) if not self._is_claim(line)]
        said = [(name.encode("ascii"), value_of(claims[claim])) for claim, name in self._fields if claim in claims]
        return b"".join(kept) + serialize(said)

    def _is_claim(self, line: bytes) -> bool:
        return line.partition(b":")[0].lower().replace(b"_", b"-") in self._names


def value_of(claim: object) -> bytes:
    """A claim as a field value: text as is, a list of texts with spaces between, everything else as JSON.

    Bytes outside of visible ASCII, and "%", are percent-encoded (RFC 3986 §2.1), since a field value may hold no line
    break.

    >>> value_of("ada"), value_of(["a", "b"]), value_of(7), value_of("é%\\n")
    (b'ada', b'a b', b'7', b'%C3%A9%25%0A')
    """
    if isinstance(claim, list) and all(isinstance(each, str) for each in claim):
        claim = " ".join(claim)
    text = claim if isinstance(claim, str) else json.dumps(claim)
    return quote(text, safe=_PLAIN, errors="replace").encode("ascii")
