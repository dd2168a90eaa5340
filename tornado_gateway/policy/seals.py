"""Seals of what stands in a store that others may write to: HMAC-SHA256, of a name and of the content.

The name keeps what was sealed at its place: nobody without the secret can move a content to another name.
"""

import hmac

SEAL = 32  # bytes


def sealed(secret: bytes, name: str, content: bytes) -> bytes:
    """A content, and its seal behind."""
    return content + _seal_of(secret, name, content)


def unsealed(secret: bytes, name: str, entry: bytes) -> bytes | None:
    """The content of an entry; None if nobody with the secret has sealed the entry under the name.

    >>> unsealed(b"secret", "name", sealed(b"secret", "name", b"content"))
    b'content'
    """
    content, seal = entry[:-SEAL], entry[-SEAL:]
    return content if hmac.compare_digest(seal, _seal_of(secret, name, content)) else None


def _seal_of(secret: bytes, name: str, content: bytes) -> bytes:
    return hmac.digest(secret, name.encode("ascii") + b"\n" + content, "sha256")
