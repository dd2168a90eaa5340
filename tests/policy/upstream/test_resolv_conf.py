"""Name servers, search list and options of resolv.conf(5)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.resolv_conf import ResolvConf, parse_resolv_conf


@pytest.mark.parametrize(
    ("text", "conf"),
    [
        ("", ResolvConf()),
        ("nameserver 10.0.0.2\nnameserver fd00::2", ResolvConf(("10.0.0.2", "fd00::2"))),
        ("nameserver 127.0.0.1:5353\nnameserver [::1]:5353", ResolvConf(("127.0.0.1:5353", "[::1]:5353"))),
        ("nameserver fe80::1%eth0", ResolvConf(("fe80::1%eth0",))),
        ("\tnameserver\t10.0.0.2 10.0.0.3 # two\r\n", ResolvConf(("10.0.0.2",))),
        ("nameserver ns.test\nnameserver 10.0.0.256\nnameserver", ResolvConf()),
        ("nameserver 10.0.0.2:0\nnameserver 10.0.0.2:65536\nnameserver 10.0.0.2:\nnameserver [x]:53", ResolvConf()),
        ("#nameserver 10.0.0.2\n;nameserver 10.0.0.2\nNameserver 10.0.0.2", ResolvConf()),
        ("domain a.test\nsearch b.test c.test\n", ResolvConf(search=("b.test", "c.test"))),
        ("search a.test\ndomain b.test", ResolvConf(search=("b.test",))),
        ("search .", ResolvConf(search=())),
        ("search", ResolvConf(search=())),
        ("search b\u00fccher.test a.test", ResolvConf(search=("a.test",))),
        ("options ndots:5 timeout:2 attempts:4", ResolvConf(ndots=5, timeout=2, attempts=4)),
        ("options ndots:0\noptions rotate use-vc", ResolvConf(ndots=0, rotates=True, uses_tcp=True)),
        ("options ndots:99 timeout:99 attempts:99", ResolvConf(ndots=15, timeout=30, attempts=5)),
        ("options timeout:0 attempts:0 ndots:-1 ndots: ndots:x edns0 rotate:", ResolvConf(rotates=True)),
        ("sortlist 10.0.0.0\nlookup file bind\n", ResolvConf()),
    ],
)
def test_what_a_file_says(text: str, conf: ResolvConf) -> None:
    assert parse_resolv_conf(text) == conf


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("nameserver search options ndots:timeout:.1[]%\n\t#;\u00e9\0"), max_size=80))
def test_any_text_is_a_file(text: str) -> None:
    conf = parse_resolv_conf(text)
    assert 0 <= conf.ndots <= 15
    assert all(server.isascii() for server in conf.servers)
