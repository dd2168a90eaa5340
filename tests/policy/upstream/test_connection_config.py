"""What a service's endpoints of TLS are shown, and which origins that makes."""

import pytest

from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.connection_config import AS_HOST, UpstreamTLSConfig


def test_the_way_to_speak_tls_is_part_of_an_origin_of_tls_alone() -> None:
    secure, plain = parse_base_url("https://a.test")[0], parse_base_url("http://a.test")[0]
    own = UpstreamTLSConfig("b.test", "a.pem")
    assert secure.over(own) != secure == secure.over(own).over(AS_HOST)
    assert plain.over(own) == plain
    assert (secure.server_name, secure.over(own).server_name, secure.over(own).name) == ("a.test", "b.test", "a.test")


@pytest.mark.parametrize(("one", "has"), [(AS_HOST, False), (UpstreamTLSConfig(certificate="a"), True)])
def test_names_are_no_part_of_the_settings_and_files_may_change(one: UpstreamTLSConfig, has: bool) -> None:
    assert UpstreamTLSConfig("b.test", one.certificate).without_name == one == one.without_name
    assert one.has_files is has
