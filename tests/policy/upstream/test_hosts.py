"""Names in a hosts file, and names of this host."""

import pytest

from tornado_gateway.policy.upstream.hosts import hosts_addresses, is_localhost

HOSTS = """
# 10.0.0.1 billing
127.0.0.1\tlocalhost
10.0.0.7  billing.internal Billing   # 10.0.0.8 mail
10.0.0.9 BILLING
fd00::7 billing
10.0.0.7 billing
nonsense billing
10.0.0.10
fe80::1%eth0 router
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("billing", ("fd00::7", "10.0.0.7", "10.0.0.9")),  # of all lines, each once, IPv6 first
        ("billing.", ("fd00::7", "10.0.0.7", "10.0.0.9")),
        ("BILLING", ("fd00::7", "10.0.0.7", "10.0.0.9")),
        ("billing.internal", ("10.0.0.7",)),
        ("router", ("fe80::1%eth0",)),
        ("localhost", ("127.0.0.1",)),
        ("mail", ()),
        ("internal", ()),
        ("10.0.0.10", ()),
        ("other", ()),
    ],
)
def test_every_line_of_a_name_counts(name: str, addresses: tuple[str, ...]) -> None:
    assert hosts_addresses(HOSTS, name) == addresses


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_end_as_they_may(line_end: str) -> None:
    assert hosts_addresses(HOSTS.replace("\n", line_end), "router") == ("fe80::1%eth0",)


@pytest.mark.parametrize("name", ["localhost", "localhost.", "LocalHost", "app.localhost", "a.b.localhost."])
def test_names_of_this_host(name: str) -> None:
    assert is_localhost(name)


@pytest.mark.parametrize("name", ["localhost.test", "notlocalhost", "localhost..", "local", ""])
def test_names_of_other_hosts(name: str) -> None:
    assert not is_localhost(name)
