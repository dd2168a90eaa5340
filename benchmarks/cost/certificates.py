"""The certificate that all proxies of a session serve: ECDSA with P-256, as most public certificates."""

from pathlib import Path
from typing import NamedTuple

import trustme


class Pair(NamedTuple):
    """Paths of files in PEM: the certificate with its chain, and its key."""

    certificate: str
    key: str


def make_pair(directory: Path) -> Pair:
    """Make a certificate for 127.0.0.1, of an authority that nobody trusts."""
    leaf = trustme.CA().issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return Pair(str(certificate), str(key))
