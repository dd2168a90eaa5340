"""What a client's certificate means: names, fields for services, and the host that it is for."""

import base64
import hashlib

import pytest

from tornado_gateway.errors import Misdirected
from tornado_gateway.policy.client_certificate import ClientCertificate, subject_of

SAID = {"subject": ((("countryName", "AT"),), (("organizationName", "A"), ("commonName", "pump"))), "serialNumber": "1"}


def certificate(host: str = "a.test", chain: tuple[bytes, ...] = ()) -> ClientCertificate:
    return ClientCertificate(b"\x00der", chain, SAID, 100.0, 200.0, host)


def test_the_principal_has_the_subject_and_ends_with_the_certificate() -> None:
    principal = certificate().principal
    digest = hashlib.sha256(b"\x00der")
    assert (principal.name, principal.subject) == ("mtls:O=A+CN=pump,C=AT",) * 2
    assert (principal.expiry, principal.holder.jti, principal.holder.issued) == (200.0, digest.hexdigest(), 100.0)
    thumbprint = principal.claims["cnf"]["x5t#S256"]
    assert base64.urlsafe_b64decode(thumbprint + "=") == digest.digest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a,b", r"CN=a\,b"), ("iss|sub", r"CN=iss\7Csub"), (" a ", r"CN=\ a\ "), ("#a", r"CN=\#a"), ("é", "CN=é"),
        ("a\nb", r"CN=a\0Ab"), ("a=b+c", r"CN=a\=b\+c"), (" ", r"CN=\ "),
    ],
)  # fmt: skip
def test_no_name_can_look_like_another(value: str, text: str) -> None:
    assert subject_of({"subject": ((("commonName", value),),)}) == text


def test_a_certificate_without_any_name_has_an_empty_one() -> None:
    assert subject_of({}) == ""


def test_services_get_the_fields_of_rfc_9440() -> None:
    assert certificate().lines == b"Client-Cert: :AGRlcg==:\r\n"
    assert certificate(chain=(b"1", b"2")).lines.endswith(b"\r\nClient-Cert-Chain: :MQ==:, :Mg==:\r\n")


@pytest.mark.parametrize("authority", [b"a.test", b"A.test:8443", b"a.test."])
def test_the_host_of_the_handshake_is_served(authority: bytes) -> None:
    certificate().check_host(authority)


@pytest.mark.parametrize("authority", [b"b.test", b"xa.test", b"", b"[::1]", b"a b"])
def test_another_host_is_misdirected(authority: bytes) -> None:
    with pytest.raises(Misdirected):
        certificate().check_host(authority)


def test_a_client_that_names_no_host_in_the_handshake_may_ask_for_any() -> None:
    certificate("").check_host(b"b.test")
