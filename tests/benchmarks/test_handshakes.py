"""The load of the benchmark of handshakes makes whole handshakes."""

import asyncio
import json
import ssl
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.cost.certificates import make_pair
from benchmarks.cost.handshake_load import Handshakes, carry_out
from benchmarks.cost.loads import parse_handshakes


@pytest.mark.parametrize("status", [b"200 OK", b"503 No"])
@pytest.mark.gen_test
async def test_each_request_of_a_load_of_handshakes_has_a_whole_handshake(tmp_path: Path, status: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        heads.append((writer.get_extra_info("ssl_object").session_reused, asked))
        writer.write(b"HTTP/1.1 %b\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    heads: list[tuple[bool, bytes]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_pair(tmp_path))
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        work = Handshakes("127.0.0.1", port, "/small", ["Accept: */*"], connections=2, seconds=0.1)
        report = await asyncio.to_thread(carry_out, work)
    head = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\nAccept: */*\r\n\r\n" % port
    assert set(heads) == {(False, head)}
    found = parse_handshakes("a warning\n" + json.dumps(asdict(report)) + "\n", 0.1)
    good = status == b"200 OK"
    assert (found.requests, found.errors) == ((len(heads), 0) if good else (0, len(heads)))
    assert (found.p50 is not None) is good
    assert bool(report.first_fault) is not good


def test_a_load_of_handshakes_without_a_report_is_refused() -> None:
    for text in ("", "Traceback", "[]", '{"surprise": 1}'):
        with pytest.raises(ValueError):
            parse_handshakes(text, 1.0)
