"""A socket.io session of python-socketio: socketio_client.py BASE [TRANSPORT...]. Prints what the session saw."""

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

import loopback  # noqa: F401
import socketio

TICKS = 10  # python-engineio takes 16 packets in an answer to a poll; more end the session


async def main(base: str, transports: list[str]) -> None:
    place = urlsplit(base)
    ticks: list[int] = []
    done = asyncio.Event()
    async with socketio.AsyncSimpleClient() as session:
        await session.connect(
            f"{place.scheme}://{place.netloc}",
            socketio_path=f"{place.path}/socket.io",
            headers={"Origin": f"{place.scheme}://{place.netloc}"},  # as a browser sends for a page of the same host
            transports=transports or None,
            wait_timeout=30,
        )

        def on_tick(number: int) -> None:
            ticks.append(number)
            if len(ticks) == TICKS:
                done.set()

        session.client.on("tick", on_tick)
        answer = await session.call("add", [1, 2, 3])
        await session.emit("count", TICKS)
        await asyncio.wait_for(done.wait(), 30)
        arrived = await session.call("arrived")
        print(json.dumps({**answer, **arrived, "ticks": ticks}), flush=True)
        if transports == ["polling"]:
            os._exit(0)  # python-engineio would wait for the end of the poll under way: 25 s


asyncio.run(main(sys.argv[1], sys.argv[2:]))
