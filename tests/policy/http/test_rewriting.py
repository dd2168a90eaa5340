"""Public paths in Location, Content-Location and Set-Cookie."""

import pytest

from tornado_gateway.policy.http.headers import TAG_FIELDS
from tornado_gateway.policy.http.mount import Mount, MountConfig, Rewriting
from tornado_gateway.policy.http.rewriting import REWRITTEN, Asked, Place, public_lines

STRIPPED = Mount(b"/api/svc")
KEPT = Mount(b"/app", b"/app")
REPLACED = Mount(b"/app", b"/v2")
ROOT = Mount(b"", is_alone=True)
AT_ROOT = Place(b"http", b"10.0.0.7:8080", b"")
AT_BASE = Place(b"http", b"10.0.0.7:8080", b"/base")
ASKED = Asked(b"http", b"Public.example:80")


def rewritten(
    value: bytes,
    mount: Mount = STRIPPED,
    place: Place = AT_BASE,
    mode: Rewriting = Rewriting.ALL,
    name: bytes = b"Location",
    asked: Asked = ASKED,
) -> bytes:
    line = public_lines(b"%b: %b\r\n" % (name, value), mount, MountConfig(location=mode), place, asked)
    assert line.startswith(name + b": ") and line.endswith(b"\r\n")
    return line[len(name) + 2 : -2]


@pytest.mark.parametrize("name", [b"Location", b"content-location"])
@pytest.mark.parametrize("mode", [Rewriting.ORIGIN, Rewriting.ALL])
@pytest.mark.parametrize(
    ("mount", "place", "value", "public"),
    [
        (STRIPPED, AT_ROOT, b"http://10.0.0.7:8080/a?b#c", b"/api/svc/a?b#c"),
        (STRIPPED, AT_ROOT, b"HTTP://10.0.0.7:8080", b"/api/svc/"),
        (STRIPPED, AT_ROOT, b"http://10.0.0.7:8080?b", b"/api/svc/?b"),
        (STRIPPED, AT_BASE, b"http://10.0.0.7:8080/base/a", b"/api/svc/a"),
        (STRIPPED, AT_BASE, b"http://10.0.0.7:8080/base", b"/api/svc"),
        # from an application that knows its prefix, and not its public host
        (STRIPPED, AT_ROOT, b"http://10.0.0.7:8080/api/svc/a?b", b"/api/svc/a?b"),
        (STRIPPED, AT_BASE, b"http://10.0.0.7:8080/api/svc", b"/api/svc"),
        (KEPT, AT_ROOT, b"http://10.0.0.7:8080/app/a", b"/app/a"),
        (REPLACED, AT_BASE, b"http://10.0.0.7:8080/base/v2/a", b"/app/a"),
        (ROOT, AT_BASE, b"http://10.0.0.7:8080/base/a", b"/a"),
        (ROOT, AT_BASE, b"http://10.0.0.7:8080/base", b"/"),
        (ROOT, Place(b"https", b"svc", b""), b"https://SVC:443/a", b"/a"),
    ],
)
def test_the_endpoints_own_urls_become_public_paths(
    name: bytes, mode: Rewriting, mount: Mount, place: Place, value: bytes, public: bytes
) -> None:
    assert rewritten(value, mount, place, mode, name) == public


@pytest.mark.parametrize(
    ("mount", "place", "value", "public"),
    [
        (STRIPPED, AT_ROOT, b"/login?next=/a", b"/api/svc/login?next=/a"),
        (STRIPPED, AT_ROOT, b"/", b"/api/svc/"),
        (STRIPPED, AT_ROOT, b"/api/svc/a", b"/api/svc/a"),  # from an application that knows its prefix
        (STRIPPED, AT_ROOT, b"/api/svcs", b"/api/svc/api/svcs"),
        (STRIPPED, AT_BASE, b"/base/a", b"/api/svc/a"),
        (STRIPPED, AT_BASE, b"https://public.example:81/base/a", b"https://public.example:81/base/a"),  # another port
        (STRIPPED, AT_BASE, b"http://public.example/base/a", b"/api/svc/a"),  # with preserveHost
        (STRIPPED, AT_ROOT, b"http://public.example/api/svc/a", b"/api/svc/a"),
        (KEPT, AT_ROOT, b"/app/a", b"/app/a"),
        (REPLACED, AT_ROOT, b"/v2/a", b"/app/a"),
    ],
)
def test_root_relative_references_become_public_with_all(
    mount: Mount, place: Place, value: bytes, public: bytes
) -> None:
    assert rewritten(value, mount, place) == public
    if value.startswith(b"/"):
        assert rewritten(value, mount, place, Rewriting.ORIGIN) == value


@pytest.mark.parametrize("mount", [STRIPPED, KEPT, REPLACED, ROOT], ids=["stripped", "kept", "replaced", "root"])
@pytest.mark.parametrize("place", [AT_ROOT, AT_BASE], ids=["at root", "at base"])
@pytest.mark.parametrize(
    "value",
    [
        b"", b"a", b"?a", b"../a", b"#a", b"//other/a", b"http://other/a", b"https://10.0.0.7:8080/base/a",
        b"http://10.0.0.7/base/a", b"http://u@10.0.0.7:8080/base/a", b"http:/10.0.0.7:8080/base", b"mailto:a@b",
        b"http://10.0.0.7:8080/base/../x", b"http://10.0.0.7:8080/base/%2e%2e/x", b"/base/../../x", rb"/\other/a",
        rb"\/other", b"http://10.0.0.7:8080//other/a", rb"http://10.0.0.7:8080/\other/a", b"javascript:alert(1)",
    ],
)  # fmt: skip
def test_whatever_has_no_public_path_stays(mount: Mount, place: Place, value: bytes) -> None:
    public = rewritten(value, mount, place)
    assert public == value or public.startswith(mount.public + b"/")
    assert not public.startswith((b"//", rb"/\ ".strip())) or public == value
    assert rewritten(value, mount, place, Rewriting.OFF) == value


@pytest.mark.parametrize(
    ("asked", "value", "public"),
    [
        (b"http", b"https://public.example/base/a?b", b"https://public.example/api/svc/a?b"),
        (b"http", b"https://public.example/other", b"https://public.example/other"),
        (b"https", b"https://public.example/base/a", b"/api/svc/a"),
        (b"https", b"http://public.example/base/a", b"/api/svc/a"),
    ],
)
def test_a_redirect_to_https_stays_one(asked: bytes, value: bytes, public: bytes) -> None:
    """A path alone would keep the client on http, and the service would redirect for ever."""
    assert rewritten(value, asked=Asked(asked, b"public.example")) == public


@pytest.mark.parametrize("value", [b"/base/\t/other", b"/base/\t\\other", b"http://10.0.0.7:8080/base/.\t./x"])
def test_a_tab_which_browsers_drop_makes_no_other_reference(value: bytes) -> None:
    assert rewritten(value, ROOT) == rewritten(value, STRIPPED) == value


def test_without_an_authority_nothing_is_of_the_host_that_the_client_asked_for() -> None:
    assert rewritten(b"http:///base/a", asked=Asked(b"http", b"")) == b"http:///base/a"


def cookie(value: bytes, mount: Mount = STRIPPED, place: Place = AT_ROOT, *, maps: bool = True) -> bytes:
    line = b"set-Cookie: %b\r\n" % value
    return public_lines(line, mount, MountConfig(maps_cookie_path=maps), place, ASKED)[12:-2]


@pytest.mark.parametrize(
    ("mount", "place", "value", "public"),
    [
        (STRIPPED, AT_ROOT, b"a=1; Path=/; Secure", b"a=1; Path=/api/svc; Secure"),
        (STRIPPED, AT_ROOT, b"a=/x; PATH = /x;Domain=b", b"a=/x; PATH = /api/svc/x;Domain=b"),
        (STRIPPED, AT_BASE, b"a=1; path=/base", b"a=1; path=/api/svc"),
        (STRIPPED, AT_BASE, b"a=1; path=/base/x", b"a=1; path=/api/svc/x"),
        (STRIPPED, AT_BASE, b"a=1; path=/", b"a=1; path=/"),
        (STRIPPED, AT_BASE, b"a=1; path=/based", b"a=1; path=/based"),
        (STRIPPED, AT_ROOT, b"a=1; path=x", b"a=1; path=x"),
        (STRIPPED, AT_ROOT, b"a=1; path=/../x", b"a=1; path=/../x"),
        (STRIPPED, AT_ROOT, b"__Host-a=1; Secure; Path=/", b"__Host-a=1; Secure; Path=/"),
        (STRIPPED, AT_ROOT, b"path=/x", b"path=/x"),
        (ROOT, AT_BASE, b"a=1; path=/base", b"a=1; path=/"),
        (ROOT, AT_ROOT, b"a=1; path=/", b"a=1; path=/"),
        (KEPT, AT_ROOT, b"a=1; path=/app", b"a=1; path=/app"),
        (STRIPPED, AT_ROOT, b"a=1; path=/api/svc/x", b"a=1; path=/api/svc/x"),
    ],
)
def test_the_path_of_a_cookie_becomes_public(mount: Mount, place: Place, value: bytes, public: bytes) -> None:
    assert cookie(value, mount, place) == public
    assert cookie(value, mount, place, maps=False) == value


def test_a_service_worker_gets_no_wider_scope_on_a_shared_host() -> None:
    lines = b"Service-Worker-Allowed: /\r\nX: 1\r\n"
    assert public_lines(lines, STRIPPED, MountConfig(), AT_ROOT, ASKED) == b"X: 1\r\n"
    assert public_lines(lines, ROOT, MountConfig(), AT_ROOT, ASKED) == lines


def test_all_other_lines_keep_their_bytes() -> None:
    lines = b"X-Location:http://10.0.0.7:8080/\r\nLink:  </a>\r\n"
    assert public_lines(lines, STRIPPED, MountConfig(location=Rewriting.ALL), AT_ROOT, ASKED) == lines
    assert {b"location", b"content-location", b"set-cookie", b"service-worker-allowed"} == REWRITTEN - TAG_FIELDS
