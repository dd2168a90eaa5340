"""What dashboards learn of the supervisor's log."""

import asyncio
import logging
import threading

import pytest

from tornado_gateway.adapters.event_log import LOGGER, EventLog
from tornado_gateway.supervisor.news import News


@pytest.mark.gen_test
async def test_lines_of_the_supervisor_become_events_of_a_worker() -> None:
    told: list[list[object]] = []
    news, events = News(told.append), EventLog()
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    news.open()
    try:
        thread = threading.Thread(target=logger.warning, args=("worker %d has ended", 2))
        thread.start()
        thread.join()
    finally:
        news.close()
        logger.setLevel(logging.NOTSET)
    logger.warning("after the end")
    await asyncio.sleep(0)
    assert [each[1:] for each in told] == [[logging.WARNING, "worker 2 has ended"]]
    events.learn(told[0])
    (event,) = events.take()
    assert (event.at, event.text) == (told[0][0], "worker 2 has ended")
