"""Warnings about settings that work, and that let more in than an operator may want."""

from collections.abc import Iterator

from tornado_gateway.config.settings import Settings

_SHARED_ORIGIN = (
    "ADMIN_PORT is not set: pages of services have the same origin as /admin, so a script in such a page can read what "
    "an operator sees in the same browser, and act as the operator"
)


def exposures(settings: Settings) -> Iterator[str]:
    """Warnings for production, a sentence each."""
    if settings.environment == "production" and settings.admin_listen.port is None:
        yield _SHARED_ORIGIN
