"""Basic credentials (RFC 7617): base64 of "name:password" in UTF-8."""

import base64
import binascii
import re

from tornado_gateway.policy.hashes import normal

MAX_CREDENTIAL = 1024  # bytes of base64; a longer credential is refused unread

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # RFC 5234 §B.1


def read_basic(credential: bytes) -> tuple[str, str] | None:
    """The name and the password; None for a credential that is none.

    Only the canonical form of base64 is read, so that a credential has one spelling. Name and password are brought
    into normalization form C.

    >>> read_basic(b"YWRhOm9wZW46c2VzYW1l"), read_basic(b"YWRh")
    (('ada', 'open:sesame'), None)
    """
    try:
        found = base64.b64decode(credential, validate=True) if len(credential) <= MAX_CREDENTIAL else b""
        name, colon, password = found.decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not colon or base64.b64encode(found) != credential or _CONTROL.search(name + password):
        return None
    return normal(name), normal(password)
