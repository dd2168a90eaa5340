"""The benchmarks' streams: clients and services follow the protocols, and detect each fault of a proxy."""

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvloop

from benchmarks import streams
from benchmarks.cost import stream_load
from benchmarks.cost.stream_load import Load, Report, Work
from benchmarks.readiness import HOST, free_port
from benchmarks.soak.__main__ import Soak, growth, soak
from benchmarks.soak.service import CLOSE, FIN, RST, SHORTEST_LIFE
from benchmarks.soak.streams import draw

T = TypeVar("T")
Change = Callable[[bytes], bytes]


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def work(kind: str, idle: bool = False, size: int = 100, connections: int = 20, seconds: float = 0.2) -> Work:
    return Work(
        kind=kind,
        path="/any",
        port=free_port(),
        service_port=free_port(),
        session=os.getsid(0),
        connections=connections,
        size=size,
        rate=50.0,
        idle=idle,
        warm_up=0.05,
        seconds=seconds,
    )


async def through(change: Change, asked: Work) -> Report:
    """Do the work through a proxy that changes what the service says."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, change: Change) -> None:
        try:
            while received := await source.read(1 << 16):
                sink.write(change(received))
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, asked.service_port)
        await asyncio.gather(pump(reader, far_writer, bytes), pump(far_reader, writer, change))

    proxy = await asyncio.start_server(relay, HOST, asked.port)
    try:
        return await Load(asked).run()
    finally:
        proxy.close()


# ---------------------------------------------------------------- the measured streams


@pytest.mark.parametrize(("kind", "size"), [("sse", 100), ("ws", 0), ("ws", 128), ("ws", 200), ("ws", 64 * 1024)])
def test_events_and_round_trips_are_counted_and_timed(kind: str, size: int) -> None:
    report = run(through(bytes, work(kind, size=size)))
    assert (report.errors, report.first_fault) == (0, "")
    assert report.p50 is not None
    assert report.p99 is not None
    assert 0 < report.p50 <= report.p99 < report.seconds
    if kind == "sse":  # at a rate; WebSockets go as fast as they can
        assert 20 <= report.done <= 1.25 * 20 * 50.0 * report.seconds  # fewer on a busy machine
    else:
        assert report.done >= 20


@pytest.mark.parametrize("kind", ["sse", "ws"])
def test_idle_connections_are_counted(kind: str) -> None:
    report = run(through(bytes, work(kind, idle=True)))
    assert (report.errors, report.done, report.p50) == (0, 20, None)


def cut_off(_: bytes) -> bytes:
    raise ConnectionError


def later(change: Change) -> Callable[[], Change]:
    """Passes the head, and the bytes that follow within a moment: the first event or echo."""

    def start() -> Change:
        calls = itertools.count()
        return lambda received: received if next(calls) < 2 else change(received)

    return start


def always(old: bytes, new: bytes) -> Callable[[], Change]:
    return lambda: lambda received: received.replace(old, new)


WRONG = [
    ("sse", always(b"200 OK", b"502 No"), "status 502"),
    ("sse", always(b"text/event-stream", b"text/plain"), "not a chunked event stream"),
    ("sse", always(b" 000000001x", b" 000000002x"), "event 1 came as b'data: "),
    ("sse", always(b"xx\n\n", b"xy\n\n"), "event 0 came as b'data: "),
    ("sse", always(b"\r\ndata", b"\r\n data"), "a chunk that does not end"),
    ("sse", later(lambda received: received * 2), "came as b'data: "),
    ("sse", later(lambda received: b""), "0 connections without an answer, "),
    ("sse", later(cut_off), "connection lost"),
    ("ws", always(b"101 Sw", b"403 Sw"), "status 403"),
    ("ws", always(b"Accept: ", b"Accept: x"), "Sec-WebSocket-Accept"),
    ("ws", always(b"xxx", b"xyx"), "an echo that is none"),
    ("ws", always(b"\x82\x64", b"\x81\x64"), "an echo that is none"),
    ("ws", always(b"\x82\x64", b"\x82\xe4"), "a frame that begins with 82 e4"),
    ("ws", later(lambda received: b""), "0 connections without an answer, 1 messages lost"),
    ("ws", later(cut_off), "connection lost"),
    ("ws", lambda: lambda received: b"", "1 connections without an answer"),
]


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize(("kind", "change", "fault"), WRONG)
def test_what_a_proxy_does_wrong_is_an_error(
    kind: str, change: Callable[[], Change], fault: str, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_load, "PATIENCE", 0.1)
    report = run(through(change(), work(kind, idle, connections=1, seconds=0.1)))
    assert report.errors > 0
    assert fault in report.first_fault


# ---------------------------------------------------------------- bytes, wherever they are cut

FRAMES = [streams.Frame(streams.TEXT, b"a" * size) for size in (0, 1, 125, 126, 65535, 65536)]


@pytest.mark.parametrize("mask", [None, streams.NO_MASK, b"\x01\x80\xff\x00"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
def test_frames_are_read_wherever_they_are_cut(mask: bytes | None, step: int) -> None:
    wire = b"".join(streams.frame(frame.opcode, frame.payload, mask) for frame in FRAMES[: 4 if step < 1000 else None])
    reader = streams.Frames(masked=mask is not None)
    read = [frame for at in range(0, len(wire), step) for frame in reader.feed(wire[at : at + step])]
    assert read == FRAMES[: len(read)]
    assert len(read) == (4 if step < 1000 else len(FRAMES))


@pytest.mark.parametrize(
    ("wire", "masked"),
    [(b"\x01\x00", False), (b"\xc1\x00", False), (b"\x81\x80abcd", False), (b"\x81\x00", True)],
    ids=["fragment", "reserved bit", "masked", "unmasked"],
)
def test_a_frame_that_is_none_of_ours_is_refused(wire: bytes, masked: bool) -> None:
    with pytest.raises(streams.Malformed):
        streams.Frames(masked).feed(wire)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
def test_chunks_are_read_wherever_they_are_cut(step: int) -> None:
    wire = streams.chunk(b"one") + streams.chunk(b"\r\n" * 20) + b"00A\r\n0123456789\r\n" + streams.LAST_CHUNK
    reader = streams.Chunks()
    body = b"".join(reader.feed(wire[at : at + step]) for at in range(0, len(wire), step))
    assert body == b"one" + b"\r\n" * 20 + b"0123456789"
    assert reader.ended


@pytest.mark.parametrize("wire", [b"x\r\n", b"\r\n", b"3\r\nfour\r\n"])
def test_a_malformed_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(streams.Malformed):
        streams.Chunks().feed(wire)


# ---------------------------------------------------------------- the soak


def test_a_short_soak_finds_nothing_amiss(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = run(soak(Soak(minutes=0.04, streams=40, seed=1)))
    assert verdict.faults == {}
    assert (verdict.descriptors_left, verdict.services_left, verdict.streams_missing) == (0, 0, 0)
    assert not verdict.leaked
    assert verdict.begun >= 40
    assert "streams open" in capsys.readouterr().out


def test_every_stream_of_the_soak_ends_with_it_in_every_way() -> None:
    rng = random.Random(1)
    lives = [draw(rng, remaining=20.0, ways=(CLOSE, FIN, RST)) for _ in range(1000)]
    assert max(life.leaves_after for life in lives) <= 20.0 + SHORTEST_LIFE
    assert {life.leaves_by for life in lives} == {"close", "fin", "rst"}
    assert {life.fate for life in lives} == {"stay", "close", "fin", "rst", "refuse", "vanish"}


@pytest.mark.parametrize(
    ("resident", "kib"),
    [([9, 9, 9, 9, 5, 5, 5, 5], 0), ([1, 1, 5, 5, 7, 7, 9, 9], 2), ([0, 0, 0, 1, 2, 3, 900, 3, 3, 3, 3, 3], 0)],
)
def test_growth_is_that_of_the_last_quarter(resident: list[int], kib: float) -> None:
    assert growth(resident) == kib
