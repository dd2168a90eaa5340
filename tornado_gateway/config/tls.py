"""The files of TLS: what is wrong with the files, which have changed, and which certificates end soon."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256

from tornado_gateway.config.documents import member
from tornado_gateway.config.problems import ConfigurationError, Problem, shown
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.wire.client.connect import PAIR
from tornado_gateway.wire.server.certificates import Served, load
from tornado_gateway.wire.tls_files import CannotUse, load_pair, read

SOON = timedelta(days=14)  # before the end of a certificate: ACME clients renew 30 days before

Digests = Mapping[tuple[str, str], bytes]  # of the content of files, by variable and path

_ALLOWED = {
    "TLS_CERT": "a PEM file with a certificate and its chain",
    "TLS_KEY": "a PEM file with the private key of the certificate",
    "TLS_CLIENT_CA": "a PEM file with certificates of authorities",
    "UPSTREAM_TLS_CERT": "a PEM file with a certificate and its chain",
    "UPSTREAM_TLS_KEY": "a PEM file with the private key of the certificate",
}
# The members of the object "tls" of a service.
_SHORT = {"UPSTREAM_TLS_CA_FILE": "ca", "UPSTREAM_TLS_CERT": "certificate", "UPSTREAM_TLS_KEY": "key"}


def load_certificates(settings: Settings) -> list[Served]:
    """The certificates of the TLS listeners; [] without TLS.

    Raises:
        ConfigurationError: a file is missing, or does not hold what it should hold.
    """
    try:
        return load(settings.listen.tls)
    except CannotUse as error:
        problem = Problem(error.variable, shown(error.file), str(error), _ALLOWED[error.variable])
        raise ConfigurationError((problem,)) from None


def check_tls(settings: Settings) -> Iterator[Problem]:
    """What does not fit together in the variables of TLS."""
    tls, wanted = settings.listen.tls, any(each.tls for each in settings.listen.listeners)
    if tls.keys and len(tls.keys) != len(tls.certificates):
        reason = f"has {len(tls.keys)} files, and TLS_CERT has {len(tls.certificates)}"
        yield Problem("TLS_KEY", "", reason, "the key of each certificate, in the same order")
    if wanted and not tls.certificates:
        yield Problem("TLS_CERT", "", "is not set, but LISTEN has tls", _ALLOWED["TLS_CERT"])
    if settings.admin_listen.tls and not tls.certificates:
        yield Problem("TLS_CERT", "", "is not set, but ADMIN_TLS is true", _ALLOWED["TLS_CERT"])
    if any(each.proxied and not each.path for each in settings.listen.listeners) and not settings.forwarding.trusted:
        reason = "is not set, but LISTEN has proxyProtocol"
        yield Problem("TRUSTED_PROXIES", "", reason, "networks of the proxies that connect")


def check_upstream_tls(settings: Settings) -> Iterator[Problem]:
    """What is wrong with the certificates that endpoints are shown."""
    seen: set[tuple[str | None, str | None]] = set()
    for name, tls in [
        ("", settings.service.connection.tls),
        *((each.name, each.service.connection.tls) for each in settings.services),
    ]:
        pair = tls.certificate, tls.key
        try:
            if pair not in seen:
                seen.add(pair)
                _check_pair(tls)
        except CannotUse as error:
            yield Problem(_place(name, error.variable), shown(error.file), str(error), _ALLOWED[error.variable])


def _place(service: str, variable: str) -> str:
    """The member of a service's object that stands for a variable; the variable itself for service ""."""
    return f"UPSTREAMS{member(service)}.tls.{_SHORT[variable]}" if service else variable


def _check_pair(tls: UpstreamTLSConfig) -> None:
    """
    Raises:
        CannotUse: the files do not fit.
    """
    if tls.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load_pair(context, PAIR, tls.certificate, tls.key or tls.certificate)
    elif tls.key:
        raise CannotUse("UPSTREAM_TLS_KEY", tls.key, "is set without a certificate")


def warnings_of(served: list[Served], now: datetime) -> Iterator[str]:
    """Warnings about certificates that clients will refuse, a sentence each."""
    for each in served:
        if each.ends <= now:
            yield f"TLS_CERT: {each.file} has expired on {each.ends:%Y-%m-%d}: clients refuse the certificate"
        elif each.ends - now < SOON:
            yield f"TLS_CERT: {each.file} expires on {each.ends:%Y-%m-%d}"
        if each.begins > now:
            yield f"TLS_CERT: {each.file} is not valid before {each.begins:%Y-%m-%d}: clients refuse the certificate"
        if not each.names:
            yield f"TLS_CERT: {each.file} has no subjectAltName: clients refuse the certificate"


def digests_of(settings: Settings) -> Digests:
    """The digests of the files of TLS, whose content may change while no variable does."""
    found = {}
    for variable, file in _files_of(settings):
        with suppress(CannotUse):  # whether the file must be there is decided above
            found[variable, file] = sha256(read(variable, file)).digest()
    return found


def _files_of(settings: Settings) -> Iterator[tuple[str, str]]:
    of_clients, of_all = settings.listen.tls, dict(_files_shown(settings.service.connection.tls))
    yield from (("TLS_CERT", each) for each in of_clients.certificates)
    yield from (("TLS_KEY", each) for each in of_clients.keys)
    if of_clients.client_ca:
        yield "TLS_CLIENT_CA", of_clients.client_ca
    yield from of_all.items()
    for service in settings.services:
        for variable, file in _files_shown(service.service.connection.tls):
            if file != of_all.get(variable):
                yield _place(service.name, variable), file


def _files_shown(tls: UpstreamTLSConfig) -> Iterator[tuple[str, str]]:
    """The files of TLS to endpoints, by variable."""
    files = zip(_SHORT, (tls.ca_file, tls.certificate, tls.key), strict=True)
    yield from ((variable, file) for variable, file in files if file)


def renewed(before: Digests, after: Digests) -> list[str]:
    """A clause for each file that stays, and has another content."""
    return [
        f"{name}: {file} has changed" for (name, file), new in after.items() if before.get((name, file), new) != new
    ]
