"""The defaults that are promised to operators."""

from tornado_gateway.policy.http.caching.config import CacheConfig, Scope


def test_the_cache_is_off_and_public_by_default() -> None:
    config = CacheConfig()
    assert (config.is_on, config.default_ttl, config.max_body, config.scope) == (False, 5.0, 262144, Scope.PUBLIC)


def test_tags_are_hidden_where_responses_are_cached_unless_they_pass() -> None:
    assert CacheConfig(is_on=True).hides_tags
    assert not CacheConfig(is_on=True, passes_tags=True).hides_tags
    assert not CacheConfig().hides_tags
