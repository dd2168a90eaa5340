"""What is compared: output without the values that differ from run to run.

Replaced are generated request ids, keys of WebSocket handshakes, sessions, spread retry times, dates that the gateway
writes, the address of the gateway's own loopback interface, masks of WebSocket frames, the boundaries of chunks, times,
rates and the memory of the process. Endpoints of one service count as one, because the choice between them depends on
time. All other bytes must be equal.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.support.differential.framing import head_end, is_chunked, partial_chunks, read_chunks, status_of
from tests.support.differential.scenes import Heard, Scene

NEW_ADDRESS, OLD_ADDRESS = "127.0.0.2", "127.0.0.1"

_GENERATED_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_DATE = re.compile(r"(?i)(date: )\w{3}, \d\d \w{3} (?!2024)\d{4} \d\d:\d\d:\d\d GMT")
_KEY = re.compile(r"(?i)(sec-websocket-key: )[A-Za-z0-9+/]{22}==")
_SESSION = re.compile(r"(gw_\w+=)[\w-]{16}(?![\w-])")
_RETRY = re.compile(r"retry: \d{4}(?!\d)")
_MEMBER = re.compile(r"(pair|half|repeat)-\d\.test")
_TIMES = re.compile(r"\b\d+(\.\d+)? ?(ms|s|seconds)\b")

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3} ")

# Keys of /admin/stats and of log lines whose values depend on time.
TIMED_KEYS = {
    "nowMs", "uptimeSeconds", "avgLatencyMs", "rps", "errorRate", "retryBudget", "seconds", "ewmaMs", "lastMs",
    "peakMs", "eventStreams",
    "p50Ms", "p95Ms", "p99Ms", "share", "circuitOpenUntilMs", "openForMs", "time", "headMs", "totalMs",
}  # fmt: skip
# Metrics whose values depend on time or on the process; HELP lines are documentation.
TIMED_METRIC = re.compile(
    r"(process|python)_|\w+_(bucket|sum)\{|\w+_(bucket|sum) |gateway_retry_budget|gateway_event_loop_delay"
    r"|gateway_malloc|gateway_buffered|gateway_client_connections"
)
# Whether two events come apart, or before their client has left, is chance. So is whether an early answer comes before
# the end of its request's body, without which no time to the head is counted. A client that leaves near the end of an
# answer decides by chance whether the upstream connection is kept for the next request.
CHANCE_METRIC = re.compile(
    r'gateway_stream_(first_event_seconds|event_pause_seconds|(messages|bytes)_total\{[^}]*kind="sse")'
    r'|gateway_upstream_head_seconds|gateway_connect_seconds|gateway_upstream_connections\{[^}]*state="idle"'
)
_CONNECTION = re.compile(r'connection="(kept|new)"')
# The service with an endpoint that refuses: chance decides how many tries a request needs.
HALF = "half"

# Pages whose length depends on the figures in them.
PAGES_OF_FIGURES = ("/metrics", "/admin/stats", "/_pressure", "/admin")
# The figures in the dashboard's page, and the length of the page.
_FIGURE = re.compile(r'(<td>|<p id="sentence"[^>]*>)[^<]*')
_PAGE_LENGTH = re.compile(r"(?is)(content-security-policy: default-src.*?content-length: )\d+")


def plain(text: str) -> str:
    """Replace the values that differ between two runs."""
    text = _DATE.sub(r"\1<date>", _GENERATED_ID.sub("<id>", text.replace(NEW_ADDRESS, OLD_ADDRESS)))
    text = _SESSION.sub(r"\1<session>", _RETRY.sub("retry: <ms>", text))
    text = _FIGURE.sub(r"\1<figure>", _PAGE_LENGTH.sub(r"\1<bytes>", text))
    return _KEY.sub(r"\1<key>", _MEMBER.sub(r"\1-#.test", text))


def _text(data: bytes) -> str:
    return ascii(plain(data.decode("latin-1")))[1:-1]


def frames(data: bytes) -> list[str]:
    """WebSocket frames without their masks; bytes that are no whole frame stay as they are."""
    found, at = [], 0
    while at + 2 <= len(data):
        size, masked, start = data[at + 1] & 127, data[at + 1] >> 7, at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        mask, start = (data[start : start + 4], start + 4) if masked else (bytes(4), start)
        if start + size > len(data):
            break
        payload = bytes(byte ^ mask[place & 3] for place, byte in enumerate(data[start : start + size]))
        found.append(f"frame {data[at]:#x} {'masked' if masked else 'plain'} {_text(payload)}")
        at = start + size
    return [*found, f"rest {_text(data[at:])}"] if data[at:] else found


def messages(data: bytes) -> list[str]:
    """A stream of messages: heads as sent, chunked bodies joined, frames behind a handshake taken apart."""
    found, at = [], 0
    while end := head_end(data, at):
        head = data[at:end]
        found.append(_text(head))
        at = end
        if status_of(head) == 101 or b"\r\nsec-websocket-key:" in head.lower():
            return found + frames(data[at:])
        if is_chunked(head) and not data.startswith(b"HTTP/1", at):
            chunks = read_chunks(data, at)
            if not chunks:
                return [*found, f"cut {_text(partial_chunks(data, at))}"]
            found.append(f"chunked {_text(chunks.body)} trailers {_text(chunks.trailers)}")
            at = chunks.end
        elif not data.startswith(b"HTTP/1", at):
            following = _STATUS_LINE.search(data, at)
            stop = following.start() if following else len(data)
            found.append(f"body {_text(data[at:stop])}")
            at = stop
    return [*found, f"rest {_text(data[at:])}"] if data[at:] else found


def heard_view(heard: Heard) -> list[str]:
    return [*messages(bytes(heard.data)), *(f"late {step}" for step in heard.late)]


def scene_view(scene: Scene) -> list[str]:
    """All that the peers of a gateway received in one case, a line for each thing."""
    ended = [f"end {scene.client.end}"] if scene.client.end else []
    lines = [f"client: {line}" for line in heard_view(scene.client) + ended]
    for number, heard in enumerate(scene.asked):
        lines += [f"upstream {number}: {line}" for line in heard_view(heard)]
    return lines


def log_view(output: str) -> Counter[str]:
    """The lines of a log, each with the number of times that it stands."""
    return Counter(plain(_log_line(line)) for line in output.splitlines() if not _is_of_process(line))


def _is_of_process(line: str) -> bool:
    return ", pid " in line or "stopping: open connections" in line


def _log_line(line: str) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        return _TIMES.sub("<time>", line)
    if record.get("path") in PAGES_OF_FIGURES:
        record["bytesOut"] = "<bytes>"
    if record.get("service") == HALF:
        record["attempts"] = "<attempts>"
    if "message" in record:
        record["message"] = _TIMES.sub("<time>", record["message"])
    return json.dumps({key: _kind(value) if key in TIMED_KEYS else value for key, value in record.items()})


def _kind(value: object) -> str:
    return "<null or number>" if value is None or isinstance(value, (int, float)) else "<text>"


def stats_view(body: bytes) -> list[str]:
    """/admin/stats, a line for each value; endpoints of one service are added up."""
    return sorted(plain(line) for line in _leaves("", json.loads(body)))


def _leaves(path: str, value: Any) -> list[str]:
    if path == f"/services/{HALF}/upstreamDetails" or path.endswith("/connections/idle"):
        return [f"{path} <by chance>"]
    if path.endswith("/upstreamDetails[]/sent"):  # on a kept connection or on a new one, by chance
        return [f"{path} {sum(value.values())}"]
    if isinstance(value, dict):
        return [
            line
            for key, each in value.items()
            for line in ([f"{path}/{key} <timed>"] if key in TIMED_KEYS else _leaves(f"{path}/{key}", each))
        ]
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return _leaves(path + "[]", _added(value))
    return [f"{path} {json.dumps(value)}"]


def _added(values: list[Any]) -> Any:
    """Equal structures as one: numbers are added, everything else is listed once, sorted."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _added([each[key] for each in values]) for key in first}
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        return sum(values)
    return ", ".join(sorted({plain(json.dumps(each)) for each in values}))


def metrics_view(body: bytes) -> list[str]:
    """/metrics, a line for each sample; samples of one service's endpoints are added up."""
    samples: Counter[str] = Counter()
    for line in body.decode().splitlines():
        if line.startswith("#"):
            if not line.startswith("# HELP"):
                samples[line] = 1
        elif CHANCE_METRIC.match(line):
            continue
        elif TIMED_METRIC.match(line) or (f'service="{HALF}"' in line and "_inflight" not in line):
            samples[plain(line.rpartition(" ")[0]) + " <timed>"] = 1
        else:
            name, _, value = line.rpartition(" ")
            samples[_CONNECTION.sub('connection="<any>"', plain(name))] += float(value)  # type: ignore[assignment]
    return sorted(f"{name} {value}" for name, value in samples.items())


def compared(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """The lines that stand in one of two views only: "-" for the old, "+" for the new; [] if the views are equal."""
    before, after = Counter(old), Counter(new)
    gone = [f"- {line}" for line in (before - after).elements()]
    return gone + [f"+ {line}" for line in (after - before).elements()]


def changed_lines(old: list[str], new: list[str]) -> list[str]:
    """As `compared()`, for views whose order counts."""
    found = compared(old, new)
    return found if found or old == new else [f"order: - {old}", f"order: + {new}"]
