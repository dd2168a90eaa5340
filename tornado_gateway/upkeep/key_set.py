"""The keys of an issuer, fetched by URL (RFC 7517 §5) and renewed in the background.

    OIDC_ISSUER ──► openid-configuration ──► jwks_uri ──┐
    JWKS_URL ───────────────────────────────────────────┴──► keys ──► TokenVerifier

Old keys stay while the issuer is down, slow or wrong: an outage of the issuer refuses nobody whose token is valid. A
token with an unknown key id makes the gateway look again, once in UNKNOWN_AFTER seconds however many tokens ask.

Sources: RFC 7517, RFC 8725 §3; OpenID Connect Discovery 1.0 §4.
"""

import asyncio
import contextlib
import json
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from tornado.httpclient import HTTPError, HTTPResponse

from tornado_gateway.policy.http.target import is_trustworthy, parse_base_url
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.fetch import DirectRequest

REFRESH = 300.0  # seconds between two fetches
JITTER = 0.1  # share by which an interval is shortened at random, so that gateways do not ask in step
RETRY = 5.0  # seconds until a failed fetch is tried again, doubled up to REFRESH
UNKNOWN_AFTER = 30.0  # seconds between two fetches because of unknown key ids
TIMEOUT = 5.0  # seconds of a fetch
MAX_DOCUMENT = 512 * 1024  # bytes; Microsoft's document, one of the largest, has some 20 KiB
MAX_REDIRECTS = 3
DISCOVERY_PATH = "/.well-known/openid-configuration"

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class KeySetConfig:
    """Where keys are fetched.

    Attributes:
        url: of the key set; "" for none, or for the URL that the issuer names.
        issuer: URL of an OpenID provider, whose configuration names the URL; "" for none.
    """

    url: str = ""
    issuer: str = ""

    @property
    def is_on(self) -> bool:
        """Whether keys are fetched."""
        return bool(self.url or self.issuer)


class KeysNotFetched(Exception):
    """The issuer has not answered with usable keys."""


class KeySet:
    """The keys of an issuer. Made inside a running event loop.

    Args:
        client: fetches the documents.
        rng: for the jitter.
        now: seconds on a monotonic clock.
        use: takes a document that differs from the last; raises ValueError if the document is no usable key set.

    Attributes:
        is_known: whether a fetch has brought keys.
    """

    def __init__(
        self,
        config: KeySetConfig,
        client: PooledHTTPClient,
        rng: random.Random,
        now: Callable[[], float],
        use: Callable[[bytes], None],
    ) -> None:
        self._config, self._client, self._rng, self._now, self._use = config, client, rng, now, use
        self.is_known = False
        self._document: bytes = b""  # of the keys in use
        self._looked_at = -math.inf  # instant of the last fetch because of an unknown key id
        self._fetching: asyncio.Task[bool] | None = None
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fetch now, and renew from time to time."""
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    def serve(self, use: Callable[[bytes], None]) -> None:
        """Give the keys to somebody else from now on, and the known keys at once."""
        self._use = use
        document, self._document, self.is_known = self._document, b"", False
        if document:
            with contextlib.suppress(ValueError):  # no key is usable any more; the next fetch says so
                self._take(document)

    def close(self) -> None:
        """End all fetches."""
        for task in (self._renewing, self._fetching):
            if task:
                task.cancel()

    def look_again(self) -> "asyncio.Task[bool] | None":
        """Fetch because of an unknown key id; None if the last such fetch was less than UNKNOWN_AFTER seconds ago.

        Returns:
            The fetch that is running. The task raises nothing.
        """
        if self._fetching and not self._fetching.done():
            return self._fetching
        if self._now() - self._looked_at < UNKNOWN_AFTER:
            return None
        self._looked_at = self._now()
        return self._fetch_once()

    def _fetch_once(self) -> "asyncio.Task[bool]":
        """The fetch that is running, begun if needed."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._try_to_fetch())
        return self._fetching

    async def _renew(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._fetch_once() else failures + 1
            wait = min(RETRY * 2 ** (failures - 1), REFRESH) if failures else REFRESH
            await asyncio.sleep(wait * (1 - JITTER * self._rng.random()))

    async def _try_to_fetch(self) -> bool:
        """Fetch and use the keys; return whether that has succeeded."""
        try:
            async with asyncio.timeout(TIMEOUT):
                document = await self._fetch()
            self._take(document)
        except (KeysNotFetched, TimeoutError, HTTPError, OSError, ValueError) as error:
            kept = "the old keys stay" if self.is_known else "no token can be verified with its keys"
            reason = str(error) or "no answer in time"
            log.warning("the keys of %s were not fetched: %s; %s", self._name, reason, kept)
            return False
        return True

    @property
    def _name(self) -> str:
        return self._config.url or self._config.issuer

    def _take(self, document: bytes) -> None:
        if document != self._document:
            self._use(document)
            self._document, self.is_known = document, True

    async def _fetch(self) -> bytes:
        if self._config.url:
            return await self._get(self._config.url)
        issuer = self._config.issuer
        said = _members(await self._get(issuer.rstrip("/") + DISCOVERY_PATH))
        if said.get("issuer") != issuer:
            raise KeysNotFetched("the configuration is of another issuer")
        url = said.get("jwks_uri")
        if not isinstance(url, str) or not is_trustworthy(url):
            raise KeysNotFetched("jwks_uri is no https URL")
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.fetch(_request(url), raise_error=False)
            if response.code not in (301, 302, 303, 307, 308):
                return _body(response)
            url = _redirected(url, response.headers.get("Location", ""))
        raise KeysNotFetched("too many redirects")


def _request(url: str) -> DirectRequest:
    parts = urlsplit(url)
    origin, _ = parse_base_url(f"{parts.scheme}://{parts.netloc}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return DirectRequest(origin, target.encode("ascii"), most_of_body=MAX_DOCUMENT, request_timeout=TIMEOUT)


def _body(response: HTTPResponse) -> bytes:
    if response.code != 200:
        raise KeysNotFetched("no connection, or no answer" if response.code == 599 else f"status {response.code}")
    if len(response.body) > MAX_DOCUMENT:
        raise KeysNotFetched(f"the document is larger than {MAX_DOCUMENT} bytes")
    return response.body


def _redirected(url: str, location: str) -> str:
    """The URL of a redirect.

    Raises:
        KeysNotFetched: the redirect leads to another origin, whose keys nobody has configured.
    """
    target = urljoin(url, location)
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise KeysNotFetched("a redirect to another origin")
    return target


def _members(document: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(document)
    except (ValueError, RecursionError):
        raise KeysNotFetched("the document is no JSON") from None
    if not isinstance(said, dict):
        raise KeysNotFetched("the document is no JSON object")
    return said
