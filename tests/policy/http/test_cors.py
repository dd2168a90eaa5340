"""CORS: which origins are answered, and what the answers say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.authority import parse_origin
from tornado_gateway.policy.http.cors import (
    ANY,
    EXPOSED,
    MOST_ECHOED,
    CorsConfig,
    CorsMode,
    is_preflight,
    lines_for_anybody,
)
from tornado_gateway.policy.http.headers import Field, pairs

APP = "https://app.example.com"
LISTED = CorsConfig(origins=(APP, "http://localhost:5173"))
EVERYBODY = CorsConfig(origins=(ANY,))
VARY_OF_PREFLIGHTS = b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def said(lines: bytes) -> dict[bytes, bytes]:
    """The values by lower-case name; no name may stand twice."""
    found: list[Field] = pairs(lines)
    assert len({name.lower() for name, _ in found}) == len(found)
    return {name.lower(): value for name, value in found}


def of(origin: str | bytes) -> dict[bytes, list[bytes]]:
    return {b"origin": [origin.encode("latin-1") if isinstance(origin, str) else origin]}


def preflight(method: bytes = b"PUT", *fields: bytes, origin: str = APP) -> dict[bytes, list[bytes]]:
    asked = {b"access-control-request-headers": list(fields)} if fields else {}
    return {**of(origin), b"access-control-request-method": [method], **asked}


# ---------------------------------------------------------------- which origins


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com", "HTTPS://App.Example.COM", "https://app.example.com:443", "http://localhost:5173",
    ],
)  # fmt: skip
def test_a_listed_origin_is_answered_as_it_is_listed(origin: str) -> None:
    answer = said(LISTED.lines(of(origin)))
    assert answer[b"access-control-allow-origin"].decode() in LISTED.origins
    assert answer[b"vary"] == b"Origin"
    assert set(EXPOSED) <= set(answer[b"access-control-expose-headers"].decode().split(", "))


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "*", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.",
        "https://app.example.com.evil.example", "https://evil-app.example.com", "https://evilapp.example.com",
        "https://example.com", "https://sub.app.example.com", "https://app.example.com@evil.example",
        "https://app.example.com/", "https://app.example.com\x00", "https://app.example.com https://app.example.com",
        "https://app.example.com,https://app.example.com", "https:app.example.com", "https://app_example.com",
        "https://app.example.c\xf6m", "http://localhost", "http://localhost:51730", "app.example.com",
    ],
)  # fmt: skip
def test_any_other_origin_is_not_answered(origin: str) -> None:
    assert LISTED.lines(of(origin)) == b"Vary: Origin\r\n"
    assert said(LISTED.preflight_lines(preflight(origin=origin), ())) == {b"vary": VARY_OF_PREFLIGHTS}


@pytest.mark.parametrize("values", [[], [APP.encode()] * 2], ids=["no origin", "two origins"])
def test_an_answer_depends_on_the_origin_also_if_a_request_has_not_one(values: list[bytes]) -> None:
    assert LISTED.lines({b"origin": values} if values else {}) == b"Vary: Origin\r\n"


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,6}(\.[a-z][a-z0-9]{0,4}){0,2}", fullmatch=True)
canonical = st.builds(
    "{}://{}{}".format, st.sampled_from(["http", "https", "capacitor"]), hosts, st.sampled_from(["", ":81", ":8443"])
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[CorsConfig, str]:
    """A config, and an origin that is one of its origins, or nearly so."""
    origins = tuple(draw(st.lists(canonical, min_size=1, max_size=4, unique=True)))
    config = CorsConfig(origins=origins, allows_credentials=draw(st.booleans()))
    near = draw(st.sampled_from(origins))
    added = draw(
        st.sampled_from(["", ".", ":443", ":80", "/", ".evil", "x", "\x7f", "%", "@evil", " ", ",", "\\", "#"])
    )
    place = draw(st.integers(0, len(near)))
    return config, draw(st.sampled_from([near + added, near[:place] + added + near[place:], near.upper(), near[1:]]))


@pytest.mark.untraced
@given(cases())
def test_no_origin_but_a_listed_origin_is_ever_answered(case: tuple[CorsConfig, str]) -> None:
    config, origin = case
    for lines in (config.lines(of(origin)), config.preflight_lines(preflight(origin=origin), ())):
        answer = said(lines)
        allowed = answer.get(b"access-control-allow-origin")
        assert b"origin" in answer[b"vary"].lower()
        assert (allowed is not None) == (parse_origin(origin) in config.origins)
        if allowed is None:
            assert [name for name in answer if name.startswith(b"access-control-")] == []
        else:
            assert allowed.decode() in config.origins
            assert (b"access-control-allow-credentials" in answer) is config.allows_credentials


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")), st.booleans())
def test_everybody_never_has_credentials(origin: str, credentials: bool) -> None:
    config = CorsConfig(origins=(ANY,), allows_credentials=credentials)
    for lines in (config.lines(of(origin)), config.lines({}), config.preflight_lines(preflight(origin=origin), ())):
        answer = said(lines)
        assert answer[b"access-control-allow-origin"] == b"*"
        assert b"access-control-allow-credentials" not in answer
    assert config.lines({}) == config.lines(of(origin))  # so that the answer need not vary
    assert config.credentialed_origins == ()


@given(st.binary(max_size=40), st.lists(st.binary(max_size=40), max_size=3), st.binary(min_size=1, max_size=9))
def test_nothing_that_a_client_sends_breaks_a_line(origin: bytes, asked: list[bytes], method: bytes) -> None:
    fields = {
        b"origin": [origin], b"access-control-request-method": [method], b"access-control-request-headers": asked,
    }  # fmt: skip
    if not is_preflight(b"OPTIONS", fields):
        return
    for config in (LISTED, EVERYBODY):
        for line in config.preflight_lines(fields, ()).split(b"\r\n")[:-1]:
            assert re.fullmatch(rb"[A-Za-z-]+: [\x20-\x7e]*", line)


# ---------------------------------------------------------------- actual answers


def test_credentials_are_off_unless_configured() -> None:
    assert b"access-control-allow-credentials" not in said(LISTED.lines(of(APP)))
    config = CorsConfig(origins=(APP,), allows_credentials=True)
    assert said(config.lines(of(APP)))[b"access-control-allow-credentials"] == b"true"
    assert (config.credentialed_origins, LISTED.credentialed_origins) == ((APP,), ())


def test_a_page_reads_further_fields_besides_the_gateways_own() -> None:
    answer = said(CorsConfig(origins=(APP,), exposed_fields=("ETag",)).lines(of(APP)))
    names = answer[b"access-control-expose-headers"].decode().split(", ")
    assert names == [*EXPOSED, "ETag"]
    assert {"x-request-id", "Retry-After", "RateLimit", "RateLimit-Policy"} <= set(names)


@pytest.mark.parametrize(
    ("config", "answers", "passes"),
    [
        (CorsConfig(), False, False),
        (LISTED, True, False),
        (CorsConfig(mode=CorsMode.OFF, origins=(APP,)), False, False),
        (CorsConfig(mode=CorsMode.PASS, origins=(APP,), allows_credentials=True), False, True),
    ],
    ids=["default", "origins", "off", "pass"],
)
def test_the_gateway_answers_for_origins_alone(config: CorsConfig, answers: bool, passes: bool) -> None:
    assert (config.answers, config.passes) == (answers, passes)
    assert config.credentialed_origins == ()


# ---------------------------------------------------------------- preflights


def test_a_preflight_learns_methods_fields_and_how_long_that_holds() -> None:
    answer = LISTED.preflight_lines(preflight(b"PUT", b"content-type, X-Custom", b"authorization"), ())
    assert said(answer) == {
        b"access-control-allow-origin": APP.encode(),
        b"access-control-allow-methods": b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        b"access-control-allow-headers": b"content-type, x-custom, authorization",
        b"access-control-max-age": b"600",
        b"vary": VARY_OF_PREFLIGHTS,
    }


@pytest.mark.parametrize(
    ("served", "asked", "allowed"),
    [
        ((), b"PROPFIND", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PROPFIND"),
        ((b"GET", b"HEAD"), b"GET", b"GET, HEAD"),
        ((b"GET", b"HEAD"), b"DELETE", b"GET, HEAD"),  # the browser says which method is missing
    ],
)
def test_the_methods_are_those_of_the_route(served: tuple[bytes, ...], asked: bytes, allowed: bytes) -> None:
    assert said(LISTED.preflight_lines(preflight(asked), served))[b"access-control-allow-methods"] == allowed


@pytest.mark.parametrize(
    ("allowed", "asked", "answer"),
    [
        ((ANY,), (), None),
        ((ANY,), (b"",), None),
        ((ANY,), (b"x-a,x-b", b"X-C"), b"x-a, x-b, x-c"),
        ((ANY,), (b"x-a, b\x00d",), None),
        ((ANY,), (b"x a",), None),
        ((ANY,), (b"a" * MOST_ECHOED,), b"a" * MOST_ECHOED),
        ((ANY,), (b"a" * MOST_ECHOED, b"b"), None),
        (("Content-Type", "X-A"), (), b"Content-Type, X-A"),
        (("Content-Type", "X-A"), (b"x-other",), b"Content-Type, X-A"),
        ((), (b"x-other",), None),
    ],
    ids=["nothing", "empty", "echo", "control", "blank", "long", "too long", "list", "list, other", "none"],
)
def test_the_fields_are_those_asked_for_or_those_listed(
    allowed: tuple[str, ...], asked: tuple[bytes, ...], answer: bytes | None
) -> None:
    config = CorsConfig(origins=(APP,), allowed_fields=allowed)
    assert said(config.preflight_lines(preflight(b"GET", *asked), ())).get(b"access-control-allow-headers") == answer


@pytest.mark.parametrize(
    ("method", "fields", "holds"),
    [
        (b"OPTIONS", preflight(), True),
        (b"options", preflight(), False),
        (b"GET", preflight(), False),
        (b"OPTIONS", of(APP), False),
        (b"OPTIONS", {b"access-control-request-method": [b"PUT"]}, False),
        (b"OPTIONS", of("null") | {b"access-control-request-method": [b"PUT"]}, True),
        (b"OPTIONS", of(APP) | {b"access-control-request-method": [b"PUT", b"GET"]}, False),
        (b"OPTIONS", {b"origin": [b"a", b"b"], b"access-control-request-method": [b"PUT"]}, False),
        (b"OPTIONS", preflight(b"P T"), False),
        (b"OPTIONS", preflight(b""), False),
    ],
)
def test_a_preflight_names_an_origin_and_a_method(method: bytes, fields: dict[bytes, list[bytes]], holds: bool) -> None:
    assert is_preflight(method, fields) is holds


def test_an_answer_for_anybody_names_whoever_asks() -> None:
    answer = said(lines_for_anybody(of("https://any.example")))
    assert answer[b"access-control-allow-origin"] == b"https://any.example"
    assert (answer[b"access-control-allow-credentials"], answer[b"vary"]) == (b"true", b"Origin")
    assert lines_for_anybody({}) == lines_for_anybody({b"origin": [b"a", b"b"]}) == b""
