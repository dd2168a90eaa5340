"""Consul as a source of endpoints: blocking queries for the instances of a service whose checks pass.

Source: https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import quote

from tornado.httpclient import HTTPResponse

from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.consul import instances, next_index
from tornado_gateway.policy.upstream.sources import Source, SourceFailed, Target
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.fetch import DirectRequest

WAIT = 300.0  # seconds that a query blocks; Consul adds up to a sixteenth
SLACK = WAIT / 16 + 10.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
MAX_DOCUMENT = 16 * 1024 * 1024  # bytes: ten thousand instances take some 10 MB


@dataclass(frozen=True, slots=True)
class ConsulConfig:
    """Which agent is asked.

    Attributes:
        url: base URL of the agent.
        token: of the access-control list; "" for none.
    """

    url: str = "http://127.0.0.1:8500"
    token: str = ""


class ConsulFeed:
    """Asks an agent of Consul; see Feed.

    Args:
        shortest: seconds between two queries at least.
    """

    def __init__(self, client: PooledHTTPClient, config: ConsulConfig, source: Source, shortest: float) -> None:
        self._client, self._config, self._source, self._shortest = client, config, source, shortest
        self._index = 0  # of the last answer

    async def answers(self) -> AsyncGenerator[tuple[Target, ...], None]:
        """See Feed."""
        while True:
            began = self._client.loop.time()
            response = await self._ask()
            self._index = next_index(self._index, response.headers.get("X-Consul-Index"))
            yield instances(response.body, self._source)
            await asyncio.sleep(max(0.0, began + self._shortest - self._client.loop.time()))

    async def _ask(self) -> HTTPResponse:
        response = await self._client.fetch(self._request(), raise_error=False)
        if response.error and response.code == 599:
            raise SourceFailed(str(response.error).removeprefix("HTTP 599: "))
        if response.code != 200:
            raise SourceFailed(f"Consul says: status {response.code}")
        if len(response.body) > MAX_DOCUMENT:
            raise SourceFailed(f"the answer is larger than {MAX_DOCUMENT} bytes")
        return response

    def _request(self) -> DirectRequest:
        origin, base = parse_base_url(self._config.url)
        query = f"passing=1&index={self._index}&wait={WAIT:.0f}s"
        if self._source.group:
            query += f"&tag={quote(self._source.group)}"
        target = f"{base.decode('ascii')}/v1/health/service/{quote(self._source.name)}?{query}"
        headers = {
            "Accept": "application/json",
            **({"X-Consul-Token": self._config.token} if self._config.token else {}),
        }
        return DirectRequest(
            origin, target.encode("ascii"), headers=headers, most_of_body=MAX_DOCUMENT, request_timeout=WAIT + SLACK,
            connect_timeout=CONNECT_TIMEOUT,
        )  # fmt: skip
