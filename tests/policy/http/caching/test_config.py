"""The defaults that are promised to operators."""

from tornado_gateway.policy.http.caching.config import CacheConfig, Scope


def test_the_cache_is_off_and_public_by_default() -> None:
    config = CacheConfig()
    assert (config.is_on, config.default_ttl, config.max_body, config.scope) == (False, 5.0, 262144, Scope.PUBLIC)
