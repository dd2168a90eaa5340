"""What a connection remembers beside its last field lines decides nothing about the next request.

The same requests go to three gateways: over one connection, over a connection each, and over a connection each to a
gateway without a cache. Requests on one connection mostly differ by one thing: what a memory that forgot to name that
thing would confuse.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conftest import Serve
from tests.support.caching import Each
from tests.support.fuzzing import TIMES
from tests.support.journeys import Start
from tests.support.reloading import Reloading
from tests.support.sockets import Client, Message, get, reply

KEY = "k" * 32
TOKENS = [jwt.encode({"sub": name}, KEY).encode() for name in ("ada", "bob")]
REQUESTS = 300

PATHS = (b"/x", b"/y", b"/public", b"/private", b"/none", b"/varied")
QUERIES = (b"", b"?token=" + TOKENS[0], b"?token=" + TOKENS[1]) * 3 + (b"?a", b"?utm=1", b"?token=wrong")
HOSTS = (b"a.test", b"a.test", b"b.test", b"a.test:81")
BEFORE = (b"", b"", b"http://a.test", b"http://b.test")
AUTHORIZATION = (b"", *(b"Authorization: Bearer " + token for token in TOKENS), b"Authorization: Bearer wrong")
COOKIES = (b"", b"", b"Cookie: a=b", *(b"Cookie: session=" + token for token in TOKENS))
LANGUAGES = (b"Accept-Language: de", b"Accept-Language: en", b"")
OTHERS = (
    b"", b"", b"", b"Cache-Control: no-cache", b"X-Key: 1", b"X-Key: 2", b"X-Method-Override: PUT",
    b"X-Forwarded-Host: c.test", b"X-Forwarded-Proto: https", b"X-Forwarded-Prefix: /outer",
    b"X-Forwarded-For: 10.0.0.1",
)  # fmt: skip
PLACES = (b"/api/open", b"/api/hosts", b"/api/shared", b"/api/mine", b"/api/mine", b"/api/mine", b"/routed", b"/alone")
ROUTES = json.dumps([
    {"path": "/routed/*", "service": "open"},
    {"path": "/alone/*", "service": "mine", "preserveHost": True, "cache": {"enabled": True, "scope": "public"}},
])  # fmt: skip
VARIABLES = (
    {"AUTH_TOKEN_SOURCES": "header,query:token,cookie:session"},
    {"AUTH_TOKEN_SOURCES": "query:token"},  # equal lines of different principals
    {"AUTH_TOKEN_SOURCES": "header,query:token", "AUTH_CLAIM_HEADERS": "sub:X-User-Id"},
    {"AUTH_TOKEN_SOURCES": "header,query:token", "TRUSTED_PROXIES": "127.0.0.1"},
)
CHOICES = (PLACES, PATHS, QUERIES, HOSTS, BEFORE, AUTHORIZATION, COOKIES, LANGUAGES, OTHERS, (b"GET", b"GET", b"HEAD"))
OFTEN_CHANGED = (*range(len(CHOICES)), *(0, 2, 2, 2) * 5, 3, 4)  # the request line and the host, as places of CHOICES


def answer(request: Message, _: int) -> bytes:
    """What a service may reflect: everything in an answer for one, and in others what selects the answer."""
    path = request.target.partition(b"?")[0]
    reflected = [request.target.replace(b"?utm=1", b"")]
    reflected += [request.get(b"x-forwarded-" + name) or b"" for name in (b"host", b"proto", b"port", b"prefix")]
    lines = [b"Cache-Control: max-age=3600"]
    if path.endswith(b"/public"):
        lines = [b"Cache-Control: public, max-age=3600"]
    else:
        reflected.append(request.get(b"x-user-id") or b"")
        if not reflected[4].endswith((b"mine", b"alone")):  # kept for a principal, wherever its token stands
            reflected += [request.get(name) or b"" for name in (b"authorization", b"cookie")]
    if path.endswith(b"/private"):
        lines = [b"Cache-Control: private, max-age=3600"]
    if path.endswith(b"/none"):
        lines = [b"Cache-Control: no-store"]
    if path.endswith(b"/varied"):
        lines.append(b"Vary: Accept-Language")
        reflected.append(request.get(b"accept-language") or b"")
    body = b" | ".join(reflected)
    made = reply(fields=tuple(lines), body=body)
    return made.removesuffix(body) if request.method == b"HEAD" else made


def services(url: str, other: str, rng: random.Random) -> dict[str, Any]:
    """Services, configured in one of many ways."""

    def one(**own: Any) -> dict[str, Any]:
        return {"endpoints": [rng.choice((url, other))], **own}

    return {
        "open": one(
            auth=rng.choice(("none", "none", "jwt")),
            cacheKeyHeaders=rng.choice(([], ["X-Key"])),
            cacheIgnoreClient=rng.random() < 0.3,
        ),
        "hosts": one(auth="none", preserveHost=rng.random() < 0.7, cacheIgnoreQuery=["utm"]),
        "shared": one(preserveHost=rng.random() < 0.3),
        "mine": one(cacheScope=rng.choice(("principal", "principal", "public"))),
    }


def drawn(rng: random.Random, last: list[bytes]) -> list[bytes]:
    """A request as a choice of each part: the last one, or a usual one, with one other part."""
    usual = [rng.choice(PLACES), PATHS[0], rng.choice(QUERIES[:3]), *(each[0] for each in CHOICES[3:])]
    parts = list(last) if rng.random() < 0.85 else usual
    number = rng.choice(OFTEN_CHANGED)
    parts[number] = rng.choice(CHOICES[number])
    return parts


def request_of(parts: list[bytes]) -> tuple[bytes, bytes]:
    place, path, query, host, before, *lines, method = parts
    return get(before + place + path + query, *filter(None, lines), host=host, method=method), method


def seen(said: Message) -> tuple[object, ...]:
    """What must be alike: all but the id and the instants."""
    status = (said.get(b"cache-status") or b"").partition(b"; ttl=")[0]
    return said.status, status, said.body if said.status == 200 else b""


@pytest.mark.untraced
@pytest.mark.timeout(60 * TIMES)
@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize("variables", VARIABLES)
@pytest.mark.gen_test(timeout=60 * TIMES)
async def test_a_connection_is_answered_as_connections_of_their_own(
    serve: Serve, upstream: Start, tmp_path: Path, variables: dict[str, str]
) -> None:
    seed = random.randrange(2**32) if TIMES > 1 else 1
    rng, hits = random.Random(seed), Counter[object]()
    url, other = upstream(Each(answer)).url, upstream(Each(answer)).url
    variables = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "VIA_NAME": "gateway", "ROUTES": ROUTES, **variables}
    first = services(url, other, rng)
    one, apart, plain = [
        await Reloading.start(serve, tmp_path / str(number), first, CACHE_ENABLED=caches, **variables)
        for number, caches in enumerate(("true", "true", "false"))
    ]
    client: Client | None = None
    parts = [each[0] for each in CHOICES]
    for number in range(REQUESTS * TIMES):
        if number % 20 == 19:  # of a principal, or of anybody, before a reload and after it
            place, query = rng.choice(((b"/api/mine", QUERIES[1]), (b"/api/open", b""), (b"/api/hosts", b"")))
            parts = [place, b"/x", query, *(each[0] for each in CHOICES[3:])]
        elif number % 20:
            parts = drawn(rng, parts)
        elif number:
            changed = services(url, other, rng)
            for each, caches in ((one, "true"), (apart, "true"), (plain, "false")):
                each.write(changed, CACHE_ENABLED=caches, **variables)
                await each.reloader.reload()
        request, method = request_of(parts)
        client = client or await one.running.client()
        together = await client.ask(request, method)
        if together.get(b"connection") == b"close":
            client = None
        alone, uncached = [await ask_alone(each, request, method) for each in (apart, plain)]
        assert seen(together) == seen(alone), (seed, number, request)
        if together.status != 504:
            assert (together.status, seen(together)[2]) == (uncached.status, seen(uncached)[2]), (seed, number, request)
        hits[b"hit" in (together.get(b"cache-status") or b"")] += 1
    assert hits[True] > 20, hits


async def ask_alone(reloading: Reloading, request: bytes, method: bytes) -> Message:
    client = await reloading.running.client()
    said = await client.ask(request, method)
    client.close()
    return said
