"""The variables of TLS: what does not fit together, and which certificates are warned about."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.support.tls import pem_files
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError
from tornado_gateway.config.tls import digests_of, load_certificates, renewed, warnings_of

SERVICES = {"UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}'}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return pem_files(trustme.CA().issue_cert("a.test"), tmp_path_factory.mktemp("tls"), "a")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"LISTEN": '[{"address": "a:1", "tls": true}]'}, "TLS_CERT: is not set, but LISTEN has tls"),
        ({"ADMIN_PORT": "1", "ADMIN_TLS": "true"}, "TLS_CERT: is not set, but ADMIN_TLS is true"),
        ({"LISTEN": '[{"address": "a:1", "proxyProtocol": true}]'},
         "TRUSTED_PROXIES: is not set, but LISTEN has proxyProtocol"),
        ({"TLS_CERT": "/none", "TLS_KEY": "/a,/b"}, "TLS_KEY: has 2 files, and TLS_CERT has 1"),
        ({"TLS_CERT": "/none"}, 'TLS_CERT="/none": cannot be read (No such file or directory)'),
        ({"AUTH": "mtls"}, "TLS_CLIENT_CA: is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH asks for"),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_does_not_fit_together_is_told(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError) as failed:
        load_settings(SERVICES | variables)
    assert str(failed.value.problems[0]).startswith(problem)


def test_certificates_that_clients_refuse_are_warned_about(pair: tuple[str, str]) -> None:
    settings = load_settings(SERVICES | {"TLS_CERT": pair[0], "TLS_KEY": pair[1]})
    assert settings.serves_tls
    (served,) = load_certificates(settings)
    day = timedelta(days=1)
    assert not list(warnings_of([served], served.begins + day))
    assert "has expired on" in next(warnings_of([served], served.ends + day))
    assert "expires on" in next(warnings_of([served], served.ends - day))
    assert "is not valid before" in next(warnings_of([served], served.begins - day))
    assert "has no subjectAltName" in next(warnings_of([replace(served, names=())], served.begins + day))


def test_no_certificate_is_no_tls(tmp_path: Path) -> None:
    assert not load_settings(SERVICES).serves_tls
    assert load_certificates(load_settings(SERVICES)) == []


def test_a_file_that_stays_and_has_another_content_is_renewed(tmp_path: Path) -> None:
    own, other = (pem_files(trustme.CA().issue_cert("a.test"), tmp_path, name) for name in ("own", "other"))
    tls = {"certificate": own[0], "key": own[1]}
    services = {"UPSTREAMS": json.dumps({"svc": {"endpoints": ["https://127.0.0.1:1"], "tls": tls}})}
    before = load_settings(services | {"TLS_CERT": other[0], "TLS_KEY": other[1]})
    digests = digests_of(before)
    assert renewed(digests, digests_of(before)) == []
    pem_files(trustme.CA().issue_cert("a.test"), tmp_path, "own")
    assert renewed(digests, digests_of(before)) == [
        f"UPSTREAMS.svc.tls.certificate: {own[0]} has changed", f"UPSTREAMS.svc.tls.key: {own[1]} has changed"
    ]  # fmt: skip
    Path(own[0]).unlink()
    assert renewed(digests, digests_of(before)) == [f"UPSTREAMS.svc.tls.key: {own[1]} has changed"]
    assert renewed(digests_of(load_settings(SERVICES)), digests) == []  # told as changes of variables
