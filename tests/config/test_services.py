"""Services from JSON: what UPSTREAMS may contain, and the problem reported for each wrong part."""

import json
import re
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tls import ca_file, pem_files
from tornado_gateway.config import parsers, services
from tornado_gateway.config.documents import short_name
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError, Problem, shown
from tornado_gateway.config.services import EndpointSpec, GivenService
from tornado_gateway.config.settings import ServiceSpec
from tornado_gateway.config.variables import OF_SERVICES
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig

URL = "http://10.0.0.7"


def load(text: str) -> tuple[ServiceSpec, ...]:
    return load_settings({"UPSTREAMS": text}).services


def lines(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def upstreams_lines(document: object) -> list[str]:
    return lines(json.dumps(document))


def test_services_are_read_from_json() -> None:
    text = '{"a": ["http://x"], "b": {"endpoints": [{"url": "http://y", "weight": 2}], "balancer": "round_robin"}}'
    options = {"balancer": parsers.Syntax(str.upper)}
    first, second = services.read_services(text, options)
    assert first == GivenService("a", (EndpointSpec("http://x"),))
    given = {"balancer": "round_robin"}
    assert second == GivenService("b", (EndpointSpec("http://y", 2),), {"balancer": "ROUND_ROBIN"}, given)


def test_a_problem_in_services_says_where_it_is() -> None:
    with pytest.raises(ConfigurationError) as refused:
        services.read_services('{"a": ["http://x", "ftp://y"]}', {})
    (problem,) = refused.value.problems
    assert isinstance(problem, Problem)
    assert problem.variable == ".a[1]"


def test_each_wrong_part_of_a_list_in_a_service_is_a_problem_with_its_place() -> None:
    options = {"trusted": parsers.networks}
    with pytest.raises(ConfigurationError) as refused:
        services.read_services(f'{{"a": {{"endpoints": ["{URL}"], "trusted": "x,::1,10.0.0.1/8"}}}}', options)
    assert [problem.variable for problem in refused.value.problems] == [".a.trusted[0]", ".a.trusted[2]"]


def test_services_in_a_file_are_read_as_services_in_a_variable_are(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.json"
    path.write_text(f'{{"a": ["{URL}"]}}')
    from_file = load_settings({"UPSTREAMS_FILE": str(path)})
    assert from_file.services == load(f'{{"a": ["{URL}"]}}')
    with pytest.raises(ConfigurationError, match=r"cannot be read \(No such file or directory\)"):
        load_settings({"UPSTREAMS_FILE": str(tmp_path / "none.json")})


def test_services_keep_their_order_and_their_endpoints() -> None:
    document = {
        "b": [URL, "https://b.example/base"],
        "a.1_-": {"endpoints": ["unix:/run/a.sock", {"url": "http://b", "weight": 2}], "balancer": "round_robin"},
        "c": {"endpoints": [{"url": "http://c"}]},
    }
    found = load(json.dumps(document))
    assert [(each.name, each.endpoints, each.service.balancer, each.given) for each in found] == [
        ("b", (EndpointSpec(URL), EndpointSpec("https://b.example/base")), "least_load", {}),
        (
            "a.1_-",
            (EndpointSpec("unix:/run/a.sock"), EndpointSpec("http://b", 2)),
            "round_robin",
            {"balancer": "round_robin"},
        ),
        ("c", (EndpointSpec("http://c"),), "least_load", {}),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://a", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"a": 1} x', "is not JSON: Extra data: line 1 column 10 (char 9)"),
        ('["http://a"]', "is not a map"),
        ("null", "is not a map"),
        ("NaN", "is not a map"),
        ("{}", "names no service"),
    ],
)
def test_upstreams_that_are_no_map(text: str, reason: str) -> None:
    assert lines(text) == [
        f"UPSTREAMS={json.dumps(text)}: {reason}; allowed: a JSON map of service to array of base URLs"
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"a": {"9" * 5000}}}'])
def test_json_that_python_refuses_to_read(text: str) -> None:
    (line,) = lines(text)
    assert ": is not JSON: " in line


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"a": []}, "UPSTREAMS.a=[]: has no endpoints; allowed: one base URL or more"),
        ({"a": {}}, "UPSTREAMS.a.endpoints=[]: has no endpoints; allowed: one base URL or more"),
        ({"a": {"endpoints": URL}}, f'UPSTREAMS.a.endpoints="{URL}": is not an array; allowed: an array of base URLs'),
        (
            {"a": URL},
            f'UPSTREAMS.a="{URL}": is neither an array nor an object; allowed: '
            "an array of base URLs, or an object with endpoints",
        ),
        (
            {"a": [5]},
            "UPSTREAMS.a[0]=5: is not a string; allowed: "
            "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock",
        ),
        (
            {"a": [{"weight": 1}]},
            'UPSTREAMS.a[0].url="": must start with http://, https:// or unix:/; allowed: '
            "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock",
        ),
        (
            {"a": {"endpoints": [URL, {"url": None}]}},
            "UPSTREAMS.a.endpoints[1].url=null: is not a string; allowed: "
            "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock",
        ),
        (
            {"a": {"endpoints": [URL], "balancer": "random"}},
            f'UPSTREAMS.a.balancer="random": is unknown; allowed: {", ".join(BALANCERS)}',
        ),
        (
            {"a": {"endpoints": [URL], "balancer": ["least_load"]}},
            "UPSTREAMS.a.balancer=[...]: is neither text, a number, true nor false; allowed: "
            "what the variable of that name takes",
        ),
        (
            {"a": {"endpoints": [URL], "balancer": ""}},
            f'UPSTREAMS.a.balancer="": is unknown; allowed: {", ".join(BALANCERS)}',
        ),
        (
            {"a": {"endpoints": [URL], "wsMaxMessageBytes": 9}},  # like "sseMaxBytes", and not meant for it
            "UPSTREAMS.a.wsMaxMessageBytes=9: is unknown; allowed: "
            "endpoints, cache, tls, and variables of one service in camel case, such as balancer for BALANCER",
        ),
        (
            {"a": {"endpoints": [URL], "weights": {}}},
            "UPSTREAMS.a.weights={}: is unknown; allowed: "
            "endpoints, cache, tls, and variables of one service in camel case, such as balancer for BALANCER",
        ),
        ({"a": [{"url": URL, "wait": {"b": 1}}]}, "UPSTREAMS.a[0].wait={...}: is unknown; allowed: url, weight"),
        ({"a": [{"url": URL, "a b": 1}]}, 'UPSTREAMS.a[0]["a b"]=1: is unknown; allowed: url, weight'),
        (
            {"a.b": ["http://a", "http://a"]},
            'UPSTREAMS["a.b"][1]="http://a": is the same endpoint as ["a.b"][0]; allowed: each one once, with a weight',
        ),
    ],
)
def test_a_wrong_part_of_upstreams(document: object, line: str) -> None:
    assert upstreams_lines(document) == [line]


@pytest.mark.parametrize("weight", [0, 1, 2, 1000])
def test_a_weight_is_0_to_1000(weight: int) -> None:
    services = load(json.dumps({"a": [{"url": URL, "weight": weight}]}))
    assert services[0].endpoints == (EndpointSpec(URL, weight),)


@pytest.mark.parametrize("weight", [1001, -1, 1.0, 1.5, "2", True, None, [1]])
def test_anything_else_is_no_weight(weight: object) -> None:
    assert upstreams_lines({"a": [{"url": URL, "weight": weight}]}) == [
        f"UPSTREAMS.a[0].weight={shown(weight)}: is not a weight; allowed: a whole number, 0 to 1000"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://a", "http://a"),
        ("http://a", "http://A/"),
        ("http://a", "http://a:80"),
        ("https://a/b", "https://a:443/b/"),
        ("http://10.0.0.7", "http://[::ffff:10.0.0.7]:80"),
        ("http://[2001:db8::1]", "http://[2001:DB8:0::1]/"),
        ("unix:/a", {"url": "unix:/a", "weight": 2}),
        ("http://127.0.0.1", "http://127.1"),
        ("http://[::1]", "http://[0::0:1]"),
    ],
)
def test_an_endpoint_is_named_once_however_it_is_written(first: object, second: object) -> None:
    (line,) = upstreams_lines({"a": [first, second]})
    assert line.startswith("UPSTREAMS.a[1]")
    assert ": is the same endpoint as a[0]; allowed: " in line


@pytest.mark.parametrize("other", ["https://a", "http://a:81", "http://a/b", "http://b"])
def test_endpoints_may_differ_in_any_part(other: str) -> None:
    assert len(load(json.dumps({"a": ["http://a", other]}))[0].endpoints) == 2


def test_services_may_share_an_endpoint() -> None:
    assert len(load(json.dumps({"a": [URL], "b": [URL]}))) == 2


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": ["http://a"], "a": ["http://b"]}', "UPSTREAMS.a"),
        ('{"a": {"endpoints": ["http://a"], "endpoints": ["http://b"]}}', "UPSTREAMS.a.endpoints"),
        ('{"a": [{"url": "http://a", "url": "http://b"}]}', "UPSTREAMS.a[0].url"),
    ],
)
def test_a_key_that_is_given_twice(text: str, path: str) -> None:
    assert lines(text) == [f"{path}: is given more than once; allowed: each name once"]


@pytest.mark.parametrize("name", ["a", "A-1", "a.b", "...", "_", "-", "a" * 200])
def test_a_service_name(name: str) -> None:
    assert load(json.dumps({name: [URL]}))[0].name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a%2f", "é", "a\n", "..\n", "\ud800"])
def test_anything_else_is_no_service_name(name: str) -> None:
    assert upstreams_lines({name: [URL]}) == [
        f"UPSTREAMS[{json.dumps(name)}]: is not a service name; allowed: "
        "letters, digits, '_', '.' and '-', but not '.' or '..'"
    ]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://x", "must start with http://, https:// or unix:/"),
        ("http://", "must name a host"),
        ("http://a b", "must not contain spaces, control characters or a fragment"),
        ("http://a?b", "must not contain a query"),
        ("http://a:0", "must have a port from 1 to 65535"),
        ("unix:a", "must name an absolute path after unix:, for example unix:/run/app.sock"),
        ("http://[::1", "is not a valid URL"),
        ("http://a\u2100b", "is not a valid URL"),
        ("http://\ud800", "is not a valid URL"),
    ],
)
def test_a_url_is_what_an_endpoint_may_have(url: str, reason: str) -> None:
    assert upstreams_lines({"billing": [url]}) == [
        f"UPSTREAMS.billing[0]={shown(url)}: {reason}; allowed: "
        "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock"
    ]


def test_all_that_is_wrong_with_one_service() -> None:
    document = {"a b": {"endpoints": ["x", {"url": 1, "weight": -1, "c": 1}], "balancer": "x", "d": 1}, "e": 1}
    paths = [re.split(r"=|: ", line)[0] for line in upstreams_lines(document)]
    assert paths == [
        'UPSTREAMS["a b"]',
        'UPSTREAMS["a b"].d',
        'UPSTREAMS["a b"].balancer',
        'UPSTREAMS["a b"].endpoints[0]',
        'UPSTREAMS["a b"].endpoints[1].c',
        'UPSTREAMS["a b"].endpoints[1].url',
        'UPSTREAMS["a b"].endpoints[1].weight',
        "UPSTREAMS.e",
    ]


# Surrogates too. st.text() would first build a table of all characters, which takes seconds where coverage is measured.
texts = st.lists((st.integers(0, 0x7F) | st.integers(0, 0x10FFFF)).map(chr), max_size=20).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([URL, "unix:/a", "ftp://a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.sampled_from(["url", "weight", "endpoints", "balancer"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_json_loads_or_is_a_configuration_error(document: object) -> None:
    try:
        assert load(json.dumps(document))
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isascii() and str(problem).isprintable()


secret_places = st.sampled_from(
    ["?{}", "?key={}", "#{}", ";key={}", "&key={}", "{}@", "me:{}@host", "//me:{}@", "?a@b={}"]
)
junk = st.lists(st.sampled_from([*"/:@?#[]\\% .;=&1a\u2100", "http:", "//", "host", ":80"]), max_size=8).map("".join)


@given(
    st.sampled_from(["", "http:", "http://", "https://host", "http://host:80/", "unix:/"]), junk, secret_places, junk
)
def test_a_secret_in_a_url_is_in_no_problem(scheme: str, before: str, place: str, after: str) -> None:
    url = scheme + before + place.format("hunter2") + after
    shapes = [[url], url, [{"url": url}], {"endpoints": [url]}, {"endpoints": ["http://x"], "apiKey": url}]
    for text in (*(json.dumps({"a": shape}) for shape in shapes), json.dumps({url: 1}), f'{{"a": ["{url}"', url):
        try:
            load(text)
        except ConfigurationError as error:
            assert "hunter2" not in str(error)


def test_a_source_may_stand_in_the_place_of_a_base_url() -> None:
    (service,) = load('{"a": ["k8s+http://billing.shop:http/base", {"url": "consul+https://v2.billing", "weight": 3}]}')
    assert service.endpoints == (
        EndpointSpec("k8s+http://billing.shop:http/base"), EndpointSpec("consul+https://v2.billing", 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("k8s+http://a.b.c", "must name a name of DNS"),
        ("consul+http://a:80", "must not have a port"),
        ("srv+ftp://a", "must be srv+, consul+ or k8s+"),
        ("etcd+http://a", "must start with http://"),
    ],
)
def test_a_wrong_source_is_a_problem(url: str, reason: str) -> None:
    (line,) = upstreams_lines({"a": [url]})
    assert reason in line
    assert ("such as k8s+http://" in line) is not url.startswith("etcd")


def test_the_same_source_twice_is_a_problem() -> None:
    (line,) = upstreams_lines({"a": ["k8s+http://billing", "k8s+http://billing/"]})
    assert "is the same endpoint as" in line


def test_values_of_the_cache_may_stand_in_an_object_of_their_own() -> None:
    cache = {
        "enabled": True, "ttlMs": 0, "scope": "principal", "ignoreHost": True, "ignoreQuery": ["utm_source"],
        "sortQuery": True, "keyHeaders": "X-Tenant", "maxBodyBytes": 1000, "lockTimeoutMs": 1,
    }  # fmt: skip
    flat = {
        "cacheEnabled": True, "cacheDefaultTtlMs": 0, "cacheScope": "principal", "cacheIgnoreHost": True,
        "cacheIgnoreQuery": ["utm_source"], "cacheSortQuery": True, "cacheKeyHeaders": "X-Tenant",
        "cacheMaxBodyBytes": 1000, "cacheLockTimeoutMs": 1,
    }  # fmt: skip
    nested, plain = load(json.dumps({"a": {"endpoints": [URL], "cache": cache}, "b": {"endpoints": [URL], **flat}}))
    assert nested.service.cache == plain.service.cache != ServiceSpec(name="", endpoints=()).service.cache
    assert nested.given == plain.given == flat


def test_every_value_of_the_cache_has_a_name_in_the_object() -> None:
    keys = [key for key in OF_SERVICES if key.startswith("cache")]
    names = {short_name("cache", key) for key in keys}
    assert len(names) == len(keys)
    assert {"enabled", "ttlMs", "graceMs", "passTags"} <= names


def test_tls_to_endpoints_may_stand_in_an_object_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = pem_files(authority.issue_cert("a.test"), tmp_path, "a")
    tls = {"serverName": "b.test", "certificate": certificate, "key": key, "ca": ca_file(authority, tmp_path)}
    (service,) = load(json.dumps({"a": {"endpoints": [URL], "tls": tls | {"verify": False}}}))
    assert service.service.connection.tls == UpstreamTLSConfig("b.test", certificate, key, tls["ca"], verify=False)
    for wrong, line in [
        ({"serverName": "10.0.0.1"}, 'UPSTREAMS.a.tls.serverName="10.0.0.1": is not a host name'),
        ({"certificate": "/none"}, 'UPSTREAMS.a.tls.certificate="/none": cannot be read (No such file or directory)'),
        ({"key": key}, f'UPSTREAMS.a.tls.key="{key}": is set without a certificate'),
        ({"sni": "a"}, "UPSTREAMS.a.tls.sni=********: is unknown"),
    ]:
        (told,) = upstreams_lines({"a": {"endpoints": [URL], "tls": wrong}})
        assert told.startswith(line)


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        (True, "UPSTREAMS.a.cache=true: is not an object"),
        ({"enabled": "x"}, 'UPSTREAMS.a.cache.enabled="x": is'),
        ({"enabld": True}, "UPSTREAMS.a.cache.enabld=true: is unknown"),
        ({"cacheEnabled": True}, "UPSTREAMS.a.cache.cacheEnabled=true: is unknown"),
        ({"defaultTtlMs": 1}, "UPSTREAMS.a.cache.defaultTtlMs=1: is unknown"),
        ({"sortQuery": True}, "UPSTREAMS.a.cache.sortQuery=true: is set, and so is cacheSortQuery"),
    ],
)
def test_a_mistake_in_the_object_of_the_cache_is_told_with_its_place(cache: object, line: str) -> None:
    (told,) = upstreams_lines({"a": {"endpoints": [URL], "cacheSortQuery": False, "cache": cache}})
    assert told.startswith(line)
