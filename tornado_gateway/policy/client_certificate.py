"""A client's certificate: the principal that the certificate describes, and what services learn.

Services get the fields of RFC 9440, which hold the certificate as DER in Base64, a byte sequence of RFC 8941 §3.3.5.
The gateway has checked the chain and the possession of the key in the handshake; what the names mean is for services.

A certificate is proved for one connection and one host. A request on the connection for another host gets a 421 (RFC
9110 §15.5.20), because clients reuse a connection for every host that the server's certificate is for (RFC 9113
§9.1.1), and the other host might have asked for another certificate.
"""

import functools
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tornado_gateway.errors import Misdirected
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.http.authority import parse_authority
from tornado_gateway.policy.principal import Principal

# The short names of RFC 4514 §3 and of RFC 4519, by OpenSSL's long names. Others keep the long name.
_SHORT = {
    "commonName": "CN", "countryName": "C", "domainComponent": "DC", "localityName": "L", "organizationName": "O",
    "organizationalUnitName": "OU", "stateOrProvinceName": "ST", "streetAddress": "STREET", "userId": "UID",
}  # fmt: skip
_SPECIAL = frozenset('",+;<>\\=')
_ALTERNATIVES = ("URI", "DNS", "email", "IP Address")  # kinds of subjectAltName that stand for an empty subject

Said = Mapping[str, Any]


@dataclass(frozen=True)
class ClientCertificate:
    """What a client has proved in the handshake.

    Attributes:
        der: the certificate.
        chain: the authorities between the certificate and the trusted one, and the trusted one; () if unknown.
        said: the parts of the certificate, as ssl.SSLSocket.getpeercert() gives.
        begins, ends: seconds since 1970 between which the certificate is valid.
        host: what the client asked for in the handshake (SNI), in any case; "" for none.
    """

    der: bytes
    chain: Sequence[bytes]
    said: Said
    begins: float
    ends: float
    host: str

    @functools.cached_property
    def principal(self) -> Principal:
        """The principal. A revocation names the certificate by the claim "jti": the SHA-256 of the DER, in hexadecimal.

        The claim "cnf" is that of a token bound to the certificate (RFC 8705 §3.1).
        """
        digest = sha256(self.der)
        name = f"{Kind.MTLS.value}:{subject_of(self.said)}"
        claims = {
            "sub": name,
            "jti": digest.hexdigest(),
            "iat": self.begins,
            "exp": self.ends,
            "cnf": {"x5t#S256": urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")},
        }
        return Principal(name, name, claims, frozenset(), self.ends)

    @functools.cached_property
    def lines(self) -> bytes:
        """The fields for services (RFC 9440 §2)."""
        lines = b"Client-Cert: %b\r\n" % _sequence(self.der)
        if self.chain:
            lines += b"Client-Cert-Chain: %b\r\n" % b", ".join(map(_sequence, self.chain))
        return lines

    def check_host(self, authority: bytes) -> None:
        """
        Args:
            authority: of a request on the connection.

        Raises:
            Misdirected: the request is for another host than the handshake.
        """
        if self.host and authority != self._host and not self._is_for(authority):
            raise Misdirected

    @functools.cached_property
    def _host(self) -> bytes:
        return self.host.encode("ascii", "replace")

    def _is_for(self, authority: bytes) -> bool:
        asked = parse_authority(authority.decode("latin-1"))
        return asked is not None and asked.host.removesuffix(".") == self.host.lower().removesuffix(".")


def _sequence(der: bytes) -> bytes:
    return b":%b:" % b64encode(der)


def subject_of(said: Said) -> str:
    """The subject as RFC 4514 writes a distinguished name, the most special part first; else an alternative name.

    Signs that could end a part or the name are escaped, and "|", which stands between the parts of other names of
    principals.

    >>> subject_of({"subject": ((("countryName", "AT"),), (("commonName", "pump 7, \\"hall\\""),))})
    'CN=pump 7\\\\, \\\\"hall\\\\",C=AT'
    >>> subject_of({"subject": (), "subjectAltName": (("DNS", "a.test"), ("URI", "spiffe://a.test/pump"))})
    'URI=spiffe://a.test/pump'
    """
    parts = ["+".join(_parts(each)) for each in reversed(said.get("subject", ()))]
    if parts:
        return ",".join(parts)
    names = said.get("subjectAltName", ())
    return next((f"{kind}={_escaped(name)}" for wanted in _ALTERNATIVES for kind, name in names if kind == wanted), "")


def _parts(relative: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in relative:
        yield f"{_SHORT.get(name, name)}={_escaped(value)}"


def _escaped(value: str) -> str:
    text = "".join(map(_escaped_sign, value))
    if text[:1] in (" ", "#"):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(value) > 1 else text


def _escaped_sign(sign: str) -> str:
    if sign in _SPECIAL:
        return f"\\{sign}"
    if sign == "|" or not sign.isprintable():
        return "".join(f"\\{each:02X}" for each in sign.encode("utf-8", "surrogatepass"))
    return sign
