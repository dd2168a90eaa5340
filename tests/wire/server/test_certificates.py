"""Certificates of listeners: what is read, what is refused, and which one a client gets."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.support.tls import ca_file, pem_files
from tornado_gateway.wire.server.certificates import Certificates, TLSConfig, load
from tornado_gateway.wire.tls_files import CannotUse


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def config(directory: Path, authority: trustme.CA, *names: str, **more: str) -> TLSConfig:
    pairs = [pem_files(authority.issue_cert(each), directory, f"{index}") for index, each in enumerate(names)]
    return TLSConfig(tuple(each[0] for each in pairs), tuple(each[1] for each in pairs), **more)


@pytest.mark.parametrize(
    ("asked", "index"),
    [("b.test", 1), ("B.test.", 1), ("x.c.test", 2), ("x.y.c.test", 0), ("c.test", 0), ("z.test", 0), (None, 0)],
)
def test_the_name_that_a_client_asks_for_chooses(
    tmp_path: Path, authority: trustme.CA, asked: str | None, index: int
) -> None:
    served = load(config(tmp_path, authority, "a.test", "b.test", "*.c.test"))
    assert Certificates(served).find(asked) is served[index]


def test_the_front_stays_and_with_client_certificates_changes(tmp_path: Path, authority: trustme.CA) -> None:
    plain = config(tmp_path, authority, "a.test")
    asking = TLSConfig(plain.certificates, plain.keys, ca_file(authority, tmp_path), needs_client=False)
    certificates = Certificates(load(plain))
    front = certificates.front
    certificates.use(load(plain))
    assert certificates.front is front
    certificates.use(load(asking))
    assert certificates.front is not front and certificates.front.verify_mode is ssl.CERT_OPTIONAL
    again = certificates.front
    certificates.use(load(asking))
    assert certificates.front is not again


def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, authority: trustme.CA) -> None:
    good = config(tmp_path, authority, "a.test")
    (certificate,), (key,) = good.certificates, good.keys
    _, other = pem_files(authority.issue_cert("b.test"), tmp_path, "other")
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    garbage = tmp_path / "garbage"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked"
    locked.write_bytes(_encrypted(Path(key).read_bytes()))
    for wrong, variable, reason in [
        (TLSConfig(("/none",), (key,)), "TLS_CERT", "cannot be read (No such file or directory)"),
        (TLSConfig((str(empty),), (key,)), "TLS_CERT", "does not hold a certificate in PEM"),
        (TLSConfig((str(garbage),), (key,)), "TLS_CERT", "does not hold a certificate in PEM"),
        (TLSConfig((certificate,), ("/none",)), "TLS_KEY", "cannot be read (No such file or directory)"),
        (TLSConfig((certificate,), ("\0",)), "TLS_KEY", "cannot be read (not a path)"),
        (TLSConfig((certificate,), (str(empty),)), "TLS_KEY", "does not hold a private key in PEM"),
        (TLSConfig((certificate,)), "TLS_KEY", "does not hold a private key in PEM"),
        (TLSConfig((certificate,), (other,)), "TLS_KEY", f"is not the key of the certificate in {certificate}"),
        (TLSConfig((certificate,), (str(locked),)), "TLS_KEY", "is encrypted; give the key without a password"),
        (TLSConfig((certificate,), (key,), str(empty)), "TLS_CLIENT_CA", "does not hold certificates in PEM"),
    ]:
        with pytest.raises(CannotUse) as failed:
            load(wrong)
        assert (failed.value.variable, str(failed.value)) == (variable, reason)


def _encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as of  # noqa: PLC0415

    kind = of.BestAvailableEncryption(b"secret")
    read = of.load_pem_private_key(key, None)
    return read.private_bytes(of.Encoding.PEM, of.PrivateFormat.PKCS8, kind)


def test_a_key_may_stand_beside_its_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(authority.issue_cert("a.test", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    (served,) = load(TLSConfig((str(both),)))
    assert set(served.names) == {"a.test", "127.0.0.1"} and served.begins < served.ends
