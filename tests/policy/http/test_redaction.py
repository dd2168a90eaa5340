"""What logs hide: parameters by name, however the name is written, and signed tokens wherever they stand."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.redaction import Redaction, is_secret, without_credentials, without_tokens

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
SHOWN = Redaction(shows_query=True)


@pytest.mark.parametrize(
    "name",
    [
        "access_token", "id_token", "TOKEN", "token[]", "csrf-token", "X-Amz-Signature", "X-Amz-Credential", "apikey",
        "api_key", "api-key", "client_secret", "password", "passwd", "passphrase", "ticket", "session_id", "jwt",
        "oauth_verifier", "client_assertion", "code", "key", "sig", "pwd", "otp", "sid",
    ],
)  # fmt: skip
def test_a_name_tells_that_the_value_is_a_secret(name: str) -> None:
    assert is_secret(name)
    assert SHOWN.query(f"/a?x=1&{name}=secret&y=2".encode()) == f"x=1&{name}=***&y=2"


@pytest.mark.parametrize("name", ["page", "country_code", "sort_key", "design", "q", "spin", "compass"])
def test_other_names_do_not(name: str) -> None:
    assert not is_secret(name)
    assert SHOWN.query(f"/a?{name}=shown".encode()) == f"{name}=shown"


def test_no_query_is_shown_unless_asked_for() -> None:
    assert Redaction().query(b"/a?page=2") == ""
    assert SHOWN.query(b"/a") == ""
    assert SHOWN.query(b"/a?page=2") == "page=2"


@pytest.mark.parametrize("name", ["email", "EMAIL", "%65mail", "e%6Dail", "emai%6c"])
def test_a_configured_name_is_hidden_however_the_name_is_written(name: str) -> None:
    redaction = Redaction(frozenset({"email"}), shows_query=True)
    assert redaction.query(f"/a?{name}=a%40b.example&x=1".encode()) == f"{name}=***&x=1"


def test_every_value_can_be_hidden() -> None:
    assert Redaction(frozenset("*"), shows_query=True).query(b"/a?b=1;c=2&d&=3") == "b=***;c=***&d&=***"


@pytest.mark.parametrize("times", [1, 2])
def test_a_url_as_a_value_is_hidden_if_it_holds_a_secret(times: int) -> None:
    def value(url: str) -> str:
        for _ in range(times):
            url = quote(url, safe="")
        return url

    assert SHOWN.query(f"/a?next={value('/b?token=secret')}&x=1".encode()) == "next=***&x=1"
    plain = value("/b?page=2")
    assert SHOWN.query(f"/a?next={plain}".encode()) == f"next={plain}"


@pytest.mark.parametrize(
    "token", [TOKEN, TOKEN.replace(".", "%2E"), TOKEN.replace(".", "%2e"), TOKEN + "..", TOKEN[:20]]
)
def test_a_signed_token_is_hidden_wherever_the_token_stands(token: str) -> None:
    assert without_tokens(f"/files/{token}/a?x") == "/files/***/a?x"
    assert without_credentials(f"expected {token} here") == "expected *** here"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer%20", "Basic ", "BASIC+"])
def test_what_stands_behind_a_scheme_is_hidden(scheme: str) -> None:
    assert without_credentials(f"a {scheme}dXNlcjpwYXNzd29yZA==, b") == f"a {scheme}***, b"


@pytest.mark.parametrize("text", ["basic authentication", "the bearer left", "eyJ", "heyJude", "a.b.c"])
def test_words_are_not_hidden(text: str) -> None:
    assert without_credentials(text) == text


@given(st.binary(max_size=24).map(lambda raw: base64.urlsafe_b64encode(b'{"alg":"none"' + raw).rstrip(b"=").decode()))
def test_no_head_of_a_token_stays(head: str) -> None:
    assert head not in without_tokens(f"/a/{head}.{head}.{head}")


@given(st.binary(max_size=60))
def test_any_query_can_be_shown(query: bytes) -> None:
    assert Redaction(frozenset({"a"}), shows_query=True).query(b"/?" + query).count("&") == query.count(b"&")
