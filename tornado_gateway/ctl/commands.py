"""`python -m tornado_gateway ctl`: steers a running gateway, and shows what the gateway does.

Exit codes: 0 done, 1 the gateway has refused, 2 wrong usage, 3 the gateway cannot be reached.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tornado_gateway.adapters.stdio import ArgumentParser, say
from tornado_gateway.ctl.client import Failed, Gateway
from tornado_gateway.ctl.tables import Cell, duration, printable, table

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERVAL = 1.0  # seconds between two looks of `top`
CLEAR = "\x1b[H\x1b[2J"

Asked = argparse.Namespace


def main(arguments: Sequence[str], environment: Mapping[str, str], *, is_terminal: bool) -> int:
    """Carry out a command; return the exit code.

    Args:
        environment: variables, also of .env: CTL_SOCKET and GATEWAY_TOKEN.
        is_terminal: whether tables are written instead of JSON.
    """
    asked = _parser().parse_args(arguments)
    try:
        gateway = gateway_of(asked, environment)
        COMMANDS[asked.command](gateway, asked, Out(is_table=is_terminal and not asked.json))
    except Failed as error:
        say(f"ctl: {printable(str(error))}", sys.stderr)
        return REFUSED if error.is_refusal else UNREACHABLE
    except Wrong as error:
        say(f"ctl: {printable(str(error))}", sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return DONE
    return DONE


class Wrong(Exception):
    """The command cannot be carried out as given."""


class Out:
    """Where answers go.

    Args:
        is_table: whether answers are written as tables.
    """

    def __init__(self, *, is_table: bool) -> None:
        self.is_table = is_table

    def show(self, said: object, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Write an answer: as JSON, or as a table."""
        say(table(columns, rows) if self.is_table else json.dumps(said))

    def tell(self, said: object, sentence: str) -> None:
        """Write the result of an act."""
        say(printable(sentence) if self.is_table else json.dumps(said))


def gateway_of(asked: Asked, environment: Mapping[str, str]) -> Gateway:
    """
    Raises:
        Wrong: nothing says which gateway is meant.
    """
    if asked.url:
        parts = urlsplit(asked.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or "@" in parts.netloc:
            raise Wrong(f"--url is {asked.url}, and must be like http://127.0.0.1:8080, without path and password")
        return Gateway(url=asked.url.rstrip("/"), token=environment.get("GATEWAY_TOKEN", ""))
    if path := asked.socket or environment.get("CTL_SOCKET", ""):
        return Gateway(socket=path)
    raise Wrong("set CTL_SOCKET to the path that the gateway has, or give --socket PATH or --url URL")


# ---- commands that read


ENDPOINT_COLUMNS = (
    "service", "endpoint", "state", "weight", "breaker", "opens in", "requests", "event streams", "websockets",
)  # fmt: skip


def services(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Services and endpoints."""
    said = gateway.ask("/admin/api/services")
    out.show(said, ENDPOINT_COLUMNS, [
        _endpoint_row(service["service"], each) for service in said["services"] for each in service["endpoints"]
    ])  # fmt: skip


def _endpoint_row(service: str, each: Mapping[str, Any]) -> list[Cell]:
    left = each["breakerOpenForMs"]
    return [
        service, each["endpoint"], each["state"], each["weight"], each["breaker"], duration(left) if left else None,
        each["requests"], each["eventStreams"], each["webSockets"],
    ]  # fmt: skip


TOP_COLUMNS = (
    "service", "healthy", "of", "requests/s", "errors %", "p50 ms", "p95 ms", "p99 ms", "waiting", "event streams",
    "websockets",
)  # fmt: skip


def top(gateway: Gateway, asked: Asked, out: Out) -> None:
    """The figures of the last minute by service; on a terminal again and again."""
    while True:
        said = gateway.ask("/admin/stats")
        rows = [_top_row(name, each) for name, each in said["services"].items()]
        if not out.is_table or asked.once:
            out.show(said["services"], TOP_COLUMNS, rows)
            return
        say(f"{CLEAR}{table(TOP_COLUMNS, rows)}")
        time.sleep(INTERVAL)


def _top_row(name: str, each: Mapping[str, Any]) -> list[Cell]:
    return [
        name, each["healthy"], each["upstreams"], each["rps"], each["errorRate"] * 100, *each["latency"].values(),
        each["waiting"], each["eventStreams"]["open"], each["websockets"]["open"],
    ]  # fmt: skip


STREAM_COLUMNS = (
    "id", "kind", "age", "client", "principal", "service", "endpoint", "messages up", "down", "bytes up", "down",
    "waiting",
)  # fmt: skip


def streams(gateway: Gateway, asked: Asked, out: Out) -> None:
    """The open streams."""
    names = ("kind", "service", "endpoint", "client", "principal", "text", "after", "limit")
    query = urlencode({name: value for name in names if (value := getattr(asked, name))})
    said = gateway.ask(f"/admin/api/streams?{query}")
    out.show(said, STREAM_COLUMNS, [_stream_row(each) for each in said["streams"]])
    if out.is_table and said["next"]:
        say(f"{said['matching']} streams in all; the next page: --after {said['next']}")


def _stream_row(each: Mapping[str, Any]) -> list[Cell]:
    messages, size = each["messages"], each["bytes"]
    return [
        each["id"], each["kind"], duration(each["ageMs"]), each["client"], each["principal"], each["service"],
        each["endpoint"], messages["up"], messages["down"], size["up"], size["down"], each["waitingBytes"],
    ]  # fmt: skip


SESSION_COLUMNS = ("principal", "jti", "sessions", "issued", "logged in, idle", "event streams", "websockets")


def sessions(gateway: Gateway, asked: Asked, out: Out) -> None:
    """The credentials in use: operators' log-ins, and the credentials of open streams."""
    query = urlencode({name: value for name in ("text", "limit") if (value := getattr(asked, name))})
    said = gateway.ask(f"/admin/api/sessions?{query}")
    out.show(said, SESSION_COLUMNS, [_session_row(each) for each in said["credentials"]])
    if out.is_table and said["matching"] > len(said["credentials"]):
        say(f"{said['matching']} credentials in all")


def _session_row(each: Mapping[str, Any]) -> list[Cell]:
    issued, log_in = each["issuedAtMs"], each["logIn"]
    return [
        each["principal"], each["jti"], " ".join(each["sessions"]), _instant(issued) if issued is not None else None,
        duration(log_in["idleMs"]) if log_in else None, each["eventStreams"], each["webSockets"],
    ]  # fmt: skip


REVOCATION_COLUMNS = ("id", "by", "value", "revoked", "ends")
REVOCABLE = ("subject", "jti", "session")


def revocations(gateway: Gateway, asked: Asked, out: Out) -> None:
    """What is revoked."""
    said = gateway.ask("/admin/api/revocations")
    out.show(said, REVOCATION_COLUMNS, [_revocation_row(each) for each in said["revocations"]])


def _revocation_row(each: Mapping[str, Any]) -> list[Cell]:
    by = next(by for by in REVOCABLE if by in each)
    return [each["id"], by, each[by], _instant(each["revokedAtMs"]), _instant(each["expiresAtMs"])]


def _instant(milliseconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def tail(gateway: Gateway, asked: Asked, out: Out) -> None:
    """What changes, as it happens, until the gateway stops; with --requests the requests, with --failed failures."""
    columns: list[str] = []
    for name, said in gateway.events("/admin/events"):
        columns = said["columns"]["requests"] if name == "whole" else columns
        if name == "change" and (asked.requests or asked.failed):
            _tell_requests([dict(zip(columns, each, strict=True)) for each in said["requests"]], asked, out)
        elif name == "change":
            for each in said["events"]:
                out.tell(each, f"{_time_of_day(each['at'])} {each['level']} {each['text']}")


def _tell_requests(requests: Sequence[Mapping[str, Any]], asked: Asked, out: Out) -> None:
    for each in requests:
        is_wanted = not asked.failed or each["rank"] == "failed"
        if is_wanted and asked.service in (None, each["service"]):
            out.tell(each, _request_line(each))


def _request_line(each: Mapping[str, Any]) -> str:
    """A request for a person, in the order of the access log."""
    target = f"{each['path']}?{each['query']}" if each["query"] else each["path"]
    to = f" -> {each['service']} {each['endpoint']}" if each["service"] else ""
    why = f" ({each['reason']})" if each["reason"] else ""
    who = f" {each['principal']}" if each["principal"] else ""
    return (
        f"{_time_of_day(each['at'])} {each['status']} {each['method']} {target}{to}{why}"
        f" {duration(each['ms'])} {each['client']}{who} {each['requestId']}"
    )


def _time_of_day(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


REQUEST_COLUMNS = (
    "at",
    "rank",
    "status",
    "reason",
    "method",
    "path",
    "service",
    "endpoint",
    "ms",
    "client",
    "principal",
)


def requests(gateway: Gateway, asked: Asked, out: Out) -> None:
    """The newest requests: failed, then slow, then all others."""
    names = ("rank", "service", "text", "limit")
    query = urlencode({name: value for name in names if (value := getattr(asked, name))})
    said = gateway.ask(f"/admin/api/requests?{query}")
    out.show(said, REQUEST_COLUMNS, [
        [_time_of_day(each["at"]), *(each[name] for name in REQUEST_COLUMNS[1:])] for each in said["requests"]
    ])  # fmt: skip


def stats(gateway: Gateway, asked: Asked, out: Out) -> None:
    """All figures, as JSON."""
    say(json.dumps(gateway.ask("/admin/stats"), indent=2 if out.is_table else None))


CACHE_COLUMNS = ("service", "url", "hits", "bytes", "variants", "age", "fresh for", "tags")


def cache(gateway: Gateway, asked: Asked, out: Out) -> None:
    """What the response cache has done, and the entries that were found most often."""
    said = gateway.ask("/admin/api/cache")
    out.show(said, CACHE_COLUMNS, [_cache_row(each) for each in said.get("hottest", ())])
    if out.is_table and said["enabled"]:
        say(f"{said['hits']} hits of {said['looks']} looks; {said['responses']} responses, {said['bytes']} bytes")


def _cache_row(each: Mapping[str, Any]) -> list[Cell]:
    return [
        each["service"], each["url"], each["hits"], each["bytes"], each["variants"], duration(each["ageMs"]),
        duration(max(each["freshForMs"], 0)), " ".join(each["tags"]),
    ]  # fmt: skip


# ---- commands that act


def _endpoint(gateway: Gateway, asked: Asked) -> dict[str, Any]:
    """The order's service and endpoint. A part of the URL is enough if a single endpoint of the service has that part.

    Raises:
        Wrong: no endpoint is meant, or several are.
    """
    found = [each for each in gateway.ask("/admin/api/services")["services"] if each["service"] == asked.service]
    urls = [each["endpoint"] for service in found for each in service["endpoints"]]
    if asked.endpoint in urls:
        return {"service": asked.service, "endpoint": asked.endpoint}
    meant = [each for each in urls if asked.endpoint in each]
    if len(meant) == 1:
        return {"service": asked.service, "endpoint": meant[0]}
    if not found:
        raise Wrong(f"there is no service {asked.service}")
    which = f"means {len(meant)} endpoints" if meant else "is no endpoint"
    raise Wrong(f"{asked.endpoint} {which} of {asked.service}; there are {', '.join(urls)}")


def _act(gateway: Gateway, asked: Asked, out: Out, path: str, /, **more: object) -> None:
    said = gateway.ask(f"/admin/api/{path}", _endpoint(gateway, asked) | more)
    out.show(said, ENDPOINT_COLUMNS, [_endpoint_row(said["service"], said)])


def drain(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Send an endpoint no new requests."""
    _act(gateway, asked, out, "drain")


def undrain(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Give an endpoint the configured weight."""
    _act(gateway, asked, out, "undrain")


def weight(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Give an endpoint another weight."""
    _act(gateway, asked, out, "weight", weight=asked.weight)


def breaker(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Open the breaker of an endpoint for a time, or reset the breaker."""
    _act(gateway, asked, out, "breaker", act=asked.act, forMs=asked.for_ms)


def close(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Close streams.

    Raises:
        Wrong: neither streams nor a service are named.
    """
    order: dict[str, Any] = {"overMs": asked.over_ms}
    if bool(asked.ids) is bool(asked.service) or (asked.endpoint and not asked.service):
        raise Wrong("give the ids of streams, or --service with --endpoint if wanted")
    if asked.ids:
        order["ids"] = asked.ids
    elif asked.endpoint:
        order |= _endpoint(gateway, asked)
    else:
        order["service"] = asked.service
    said = gateway.ask("/admin/api/streams/close", order)
    end = "1 stream ends" if said["closing"] == 1 else f"{said['closing']} streams end"
    out.tell(said, f"{end} over {duration(said['overMs'])}")


def revoke(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Revoke all present tokens of a principal, a token by its jti, or a session."""
    order = {asked.by: asked.value} | ({"expiresInMs": asked.for_ms} if asked.for_ms else {})
    said = gateway.ask("/admin/api/revocations", order)
    out.tell(said, f"{asked.by} {asked.value} is revoked until {_instant(said['expiresAtMs'])}; id {said['id']}")


def lift(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Lift a revocation."""
    said = gateway.ask(f"/admin/api/revocations/{quote(asked.id, safe='')}", method="DELETE")
    by = next(by for by in REVOCABLE if by in said)
    out.tell(said, f"{by} {said[by]} is not revoked any more")


def purge(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Purge stored responses by URL, by prefix or by tag."""
    given = {"service": asked.service, "url": asked.target, "prefix": asked.prefix, "tags": asked.tag}
    order = {name: value for name, value in given.items() if value}
    said = gateway.ask("/admin/api/cache/purge", order | {"soft": asked.soft})
    count = "1 response" if said["responses"] == 1 else f"{said['responses']} responses"
    out.tell(said, f"{count}, {said['bytes']} bytes: {'made stale' if said['soft'] else 'purged'}")


def log_level(gateway: Gateway, asked: Asked, out: Out) -> None:
    """The level of the gateway's own log; with a level, another level."""
    said = gateway.ask("/admin/api/log-level", {"level": asked.level} if asked.level else None)
    out.tell(said, said["level"])


def reload(gateway: Gateway, asked: Asked, out: Out) -> None:
    """Read the configuration again, and use the configuration if all of it is valid."""
    said = gateway.ask("/admin/api/reload", {})
    lines = [*(f"warning: {each}" for each in said["warnings"]), *(said["changes"] or ["nothing has changed"])]
    if said["needsRestart"]:
        lines.append(f"a restart is needed for the new values of {', '.join(said['needsRestart'])}")
    if out.is_table:
        for line in lines:
            say(printable(line))
    else:
        out.tell(said, "")


COMMANDS: dict[str, Callable[[Gateway, Asked, Out], None]] = {
    "services": services, "top": top, "streams": streams, "requests": requests, "tail": tail, "stats": stats,
    "drain": drain, "undrain": undrain, "weight": weight, "breaker": breaker, "close": close, "sessions": sessions,
    "revocations": revocations, "revoke": revoke, "lift": lift, "cache": cache, "purge": purge, "log-level": log_level,
    "reload": reload,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tornado_gateway ctl",
        description="Steers a running gateway: over the socket of CTL_SOCKET, or --url with a token in GATEWAY_TOKEN.",
    )
    parser.add_argument("--socket", metavar="PATH", help="the unix socket of the gateway; CTL_SOCKET without")
    parser.add_argument("--url", help="the gateway, such as http://127.0.0.1:8080")
    parser.add_argument("--json", action="store_true", help="write JSON to a terminal, too")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {name: commands.add_parser(name, help=command.__doc__) for name, command in COMMANDS.items()}
    for name in ("drain", "undrain", "weight", "breaker"):
        made[name].add_argument("service")
        made[name].add_argument("endpoint", help="URL of the endpoint, or a part that only this endpoint has")
    made["weight"].add_argument("weight", type=int)
    made["breaker"].add_argument("act", choices=["open", "reset"])
    made["breaker"].add_argument("--for-ms", type=int, default=60_000, help="how long the breaker is open; 60000")
    made["top"].add_argument("--once", action="store_true", help="a single table")
    made["log-level"].add_argument("level", nargs="?")
    made["close"].add_argument("ids", nargs="*", type=int, help="numbers of streams")
    made["close"].add_argument("--over-ms", type=int, default=5000, help="time over which several streams end; 5000")
    made["purge"].add_argument("service", nargs="?")
    made["purge"].add_argument("--target", help="a target as sent to the service, such as /items/1?lang=de")
    made["purge"].add_argument("--prefix", help="all targets that begin so; / for all of the service")
    made["purge"].add_argument("--tag", action="append", help="responses with the tag; may stand several times")
    made["purge"].add_argument("--soft", action="store_true", help="make stale instead of taking away")
    made["revoke"].add_argument("by", choices=REVOCABLE)
    made["revoke"].add_argument("value", help="name of a principal, a jti, or id of a session, as of sessions")
    made["revoke"].add_argument("--for-ms", type=int, help="how long; 30 days without")
    made["lift"].add_argument("id", help="of the revocation, as of revocations")
    for name in ("text", "limit"):
        made["sessions"].add_argument(f"--{name}")
    for name in ("service", "endpoint"):
        made["close"].add_argument(f"--{name}")
    for name in ("kind", "service", "endpoint", "client", "principal", "text", "after", "limit"):
        made["streams"].add_argument(f"--{name}")
    for name in ("rank", "service", "text", "limit"):
        made["requests"].add_argument(f"--{name}")
    made["tail"].add_argument("--requests", action="store_true", help="requests instead of changes")
    made["tail"].add_argument("--failed", action="store_true", help="failed requests instead of changes")
    made["tail"].add_argument("--service", help="requests for this service alone")
    return parser
