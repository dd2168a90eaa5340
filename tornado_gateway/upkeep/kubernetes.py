"""Kubernetes as a source of endpoints: a list of the EndpointSlices of a Service, then a watch of the changes.

    list ─► version ─► watch from the version ─► events, bookmarks ─► version ─► watch …
     ▲                                                    │
     └────────────────────── 410 Gone ◄───────────────────┘

The files of the pod's account are read for each request: the kubelet replaces the token long before its end.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/, "Efficient detection of changes"
"""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPResponse

from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.endpoint_slices import GONE, EndpointSlices, Gone
from tornado_gateway.policy.upstream.sources import Source, SourceFailed, Target
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.fetch import DirectRequest

CONNECT_TIMEOUT = 5.0  # seconds
LIST_TIMEOUT = 30.0  # seconds
WATCH = 300.0  # seconds after which the server ends a watch, and a watch without an end is given up soon after
SLACK = 15.0  # seconds
MAX_DOCUMENT = 64 * 1024 * 1024  # bytes: a slice has up to 1,000 endpoints, some 400 KB


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """Which API server is asked.

    Attributes:
        url: base URL of the API server.
        account: folder with the files `token`, `ca.crt` and `namespace`; missing files are left out.
    """

    url: str = "https://kubernetes.default.svc"
    account: str = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubernetesFeed:
    """Asks the API server; see Feed.

    Args:
        shortest: seconds between two requests at least.
    """

    def __init__(self, client: PooledHTTPClient, config: KubernetesConfig, source: Source, shortest: float) -> None:
        self._client, self._config, self._source, self._shortest = client, config, source, shortest
        self._slices = EndpointSlices()

    async def answers(self) -> AsyncGenerator[tuple[Target, ...], None]:
        """See Feed."""
        while True:
            began = self._client.loop.time()
            if not self._slices.version:
                self._slices.replace(await self._list())
                yield self._targets()
            async with aclosing(self._changes()) as changes:
                async for targets in changes:
                    yield targets
            await asyncio.sleep(max(0.0, began + self._shortest - self._client.loop.time()))

    async def _changes(self) -> AsyncGenerator[tuple[Target, ...], None]:
        """The targets after each change of a watch. Ends with the watch, and when the list must be read anew."""
        try:
            async with aclosing(self._watch()) as lines:
                async for line in lines:
                    if self._slices.apply(line):
                        yield self._targets()
        except Gone:
            self._slices.version = ""
        except ValueError:  # a change may have been lost
            self._slices.version = ""
            raise

    def _targets(self) -> tuple[Target, ...]:
        return self._slices.targets(self._source, self._namespace)

    @property
    def _namespace(self) -> str:
        return self._source.group or self._file("namespace") or "default"

    def _file(self, name: str) -> str:
        try:
            return (Path(self._config.account) / name).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    async def _list(self) -> bytes:
        request = self._request("", LIST_TIMEOUT)
        response = await self._client.fetch(request, raise_error=False)
        _check(response)
        if len(response.body) > MAX_DOCUMENT:
            raise SourceFailed(f"the answer is larger than {MAX_DOCUMENT} bytes")
        return response.body

    async def _watch(self) -> AsyncGenerator[bytes, None]:
        """The lines of a watch from the version on, until the server ends the watch."""
        query = f"&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH:.0f}&resourceVersion={self._slices.version}"
        chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        request = self._request(query, WATCH + SLACK, streaming_callback=chunks.put)
        fetching = self._client.fetch(request, raise_error=False)
        rest = b""
        try:
            while chunk := await _next(chunks, fetching):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_DOCUMENT:
                    raise SourceFailed(f"a line is longer than {MAX_DOCUMENT} bytes")
                for line in filter(None, lines):
                    yield line
        finally:
            fetching.cancel()
        if fetching.result().code == GONE:
            raise Gone
        _check(fetching.result())

    def _request(self, query: str, timeout: float, **options: Any) -> DirectRequest:
        origin, base = parse_base_url(self._config.url)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{quote(self._namespace)}/endpointslices"
        label = quote(f"kubernetes.io/service-name={self._source.name}", safe="")
        token, authority = self._file("token"), Path(self._config.account) / "ca.crt"
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        return DirectRequest(
            origin,
            base + f"{path}?labelSelector={label}{query}".encode("ascii"),
            headers=headers,
            ca_certs=str(authority) if authority.is_file() else None,
            most_of_body=math.inf if options else MAX_DOCUMENT,
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=timeout,
            **options,
        )


async def _next(chunks: "asyncio.Queue[bytes]", fetching: "asyncio.Future[HTTPResponse]") -> bytes:
    """The next chunk of a response; b"" at the end."""
    if not chunks.empty():
        return chunks.get_nowait()
    getting = asyncio.ensure_future(chunks.get())
    ending: set[asyncio.Future[Any]] = {getting, fetching}
    try:
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else b""
    finally:
        getting.cancel()


def _check(response: HTTPResponse) -> None:
    """
    Raises:
        SourceFailed: the server has not answered, or has refused.
    """
    if response.error and response.code == 599:
        raise SourceFailed(str(response.error).removeprefix("HTTP 599: "))
    if response.code != 200:
        raise SourceFailed(f"the API server says: status {response.code}")
