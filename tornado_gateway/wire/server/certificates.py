"""The certificates of the TLS listeners: which one a client gets, and how they are replaced while the gateway runs.

    ClientHello ─► front ─► sni_callback ─► the context of the name, else of the first pair ─► certificate

OpenSSL seals session tickets with keys of the context that a connection begins with. So all connections begin with one
context, the front, which stays when the certificates are replaced: clients resume their sessions with whatever
certificate comes next. With client certificates the front is replaced, too, because a session tells no more than that
its certificate was valid once; and TLS 1.3 gives no tickets there, so that each connection proves its key anew.
"""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from tornado_gateway.policy.client_certificate import ClientCertificate
from tornado_gateway.wire.tls_files import CannotUse, load_pair, read

PROTOCOL = "http/1.1"  # the only one in ALPN (RFC 7301)


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """The files of the TLS listeners.

    Attributes:
        certificates: PEM files with a certificate and its chain each, the default first; () for no TLS.
        keys: PEM files with the private keys, in the same order; () if the keys stand beside their certificates.
        client_ca: PEM file of the authorities that clients' certificates must be signed by; None for none.
        needs_client: whether a client without a certificate is refused in the handshake.
    """

    certificates: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    client_ca: str | None = None
    needs_client: bool = True

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.certificates, self.keys or self.certificates, strict=True))


@dataclass(frozen=True, slots=True)
class Served:
    """A certificate that clients get.

    Attributes:
        file: where the certificate stands.
        names: host names in lower case, wildcards and addresses that the certificate is for.
        begins, ends: when the certificate is valid.
        context: the settings of TLS with the certificate.
    """

    file: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    context: ssl.SSLContext


class ServerSide(ssl.SSLObject):
    """OpenSSL's state of a connection.

    Attributes:
        server_name: the host that the client has asked for (SNI, RFC 6066 §3); None for none.
    """

    server_name: str | None = None


class Certificates:
    """What the TLS listeners show to clients.

    Args:
        served: at least one; the first is for names that no other is for.

    Attributes:
        front: the context that new connections begin with.
        served: see above.
    """

    def __init__(self, served: Sequence[Served]) -> None:
        self.served: Sequence[Served] = ()
        self.front = served[0].context
        self._by_name: Mapping[str, ssl.SSLContext] = {}
        self.use(served)

    def use(self, served: Sequence[Served]) -> None:
        """Show other certificates from the next handshake on; connections that are open keep what they have.

        Args:
            served: of load(), which has checked everything.
        """
        self.served = served
        self._by_name = {name: each.context for each in reversed(served) for name in each.names}
        first = served[0].context
        if first.verify_mode or self.front.verify_mode:
            self.front = first
        self.front.sni_callback = self._choose

    def find(self, name: str | None) -> Served:
        """The certificate for a host; the first if none is for the host."""
        context = self._find(name)
        return next(each for each in self.served if each.context is context)

    def _find(self, name: str | None) -> ssl.SSLContext:
        asked = (name or "").lower().removesuffix(".")
        found = self._by_name.get(asked) or self._by_name.get("*." + asked.partition(".")[2])
        return found or self.served[0].context

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, front: ssl.SSLContext) -> None:
        if isinstance(tls, ServerSide):
            tls.server_name = name
        chosen = self._find(name)
        if chosen is not front:
            tls.context = chosen


def load(config: TLSConfig) -> list[Served]:
    """Load and check every certificate of a config.

    Raises:
        CannotUse: a file cannot be read, or does not hold what it should hold.
    """
    return [_served(config, certificate, key) for certificate, key in config.pairs]


def _served(config: TLSConfig, certificate: str, key: str) -> Served:
    try:
        first = x509.load_pem_x509_certificates(read("TLS_CERT", certificate))[0]
    except ValueError:
        raise CannotUse("TLS_CERT", certificate, "does not hold a certificate in PEM") from None
    context = _context(config)
    load_pair(context, ("TLS_CERT", "TLS_KEY"), certificate, key)
    return Served(certificate, tuple(_names(first)), first.not_valid_before_utc, first.not_valid_after_utc, context)


def _context(config: TLSConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    context.sslobject_class = ServerSide
    if config.client_ca:
        try:
            context.load_verify_locations(cafile=config.client_ca)
        except (OSError, ValueError):
            raise CannotUse("TLS_CLIENT_CA", config.client_ca, "does not hold certificates in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED if config.needs_client else ssl.CERT_OPTIONAL
        context.num_tickets = 0
    return context


def _names(certificate: x509.Certificate) -> Iterator[str]:
    """The hosts that a certificate is for (RFC 6125 §6.4): clients look at no common name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in names.get_values_for_type(x509.DNSName):
        yield name.lower()
    for address in names.get_values_for_type(x509.IPAddress):
        yield str(address)


def client_certificate(tls: ServerSide) -> ClientCertificate | None:
    """What a client has proved in the handshake; None for a client without a certificate."""
    der = tls.getpeercert(binary_form=True)
    said: Mapping[str, Any] | None = tls.getpeercert()
    if not der or not said:
        return None
    chain: Sequence[bytes] = getattr(tls, "get_verified_chain", list)()  # since Python 3.13
    return ClientCertificate(
        der,
        tuple(chain[1:]),
        said,
        ssl.cert_time_to_seconds(said["notBefore"]),
        ssl.cert_time_to_seconds(said["notAfter"]),
        tls.server_name or "",
    )
