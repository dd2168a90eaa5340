"""docs/overload.md, carried out: its command on a gateway, its table of classes, and the keys of /_pressure."""

import json
import re
import shlex

import pytest

from tests.conftest import Serve
from tests.support.examples import environments
from tests.support.journeys import ask, problem
from tests.support.sockets import get
from tests.test_documents import code, documents, rows
from tornado_gateway.config.load import load_settings
from tornado_gateway.policy.overload import CLASSES, Priority, level_of

PAGE = documents()["docs/overload.md"]


@pytest.mark.gen_test
async def test_the_gateway_of_the_page_sheds_as_the_page_says(serve: Serve) -> None:
    (env,) = environments(PAGE)
    running = await serve(json.loads(env.pop("UPSTREAMS")), **env)
    targets = [shlex.split(line)[-1].partition(":8080")[2] for line in PAGE.splitlines() if line.startswith("curl ")]
    assert targets == ["/_pressure", "/_pressure?heap"]
    for _ in range(int(env["MAX_IN_FLIGHT_TOTAL"])):
        running.app.gateway.overload.take()
    shed = await ask(running, get(b"/api/billing/"))
    problem(shed, 503, "overloaded")
    assert 1 <= int(shed.get(b"retry-after") or 0) <= 5
    figures = [await ask(running, get(each.encode())) for each in targets]
    assert [each.status for each in figures] == [503, 503]
    assert json.loads(figures[0].body)["shedding"] == list(CLASSES[:4])


@pytest.mark.gen_test
async def test_the_keys_of_the_page_are_those_of_the_figures(serve: Serve) -> None:
    running = await serve({"billing": ["http://127.0.0.1:1"]})
    said = json.loads((await ask(running, get(b"/_pressure?heap"))).body)
    keys = [each for row in rows(PAGE, "keys") for each in code(row[0])]
    assert {*keys, "status"} == set(said)
    for row in rows(PAGE, "keys"):
        inner = said[code(row[0])[0]]
        if isinstance(inner, dict):
            assert set(inner) <= set(code(row[1]))


@pytest.mark.parametrize("row", rows(PAGE, "classes"), ids=lambda row: code(row[0])[0])
def test_a_class_is_shed_between_the_shares_of_the_page(row: list[str]) -> None:
    place = CLASSES.index(code(row[0])[0])
    begin, whole = (int(cell.removesuffix(" %")) / 100 for cell in row[1:])
    assert (level_of(begin), level_of(whole)) == (place, place + 1)


def test_the_classes_of_the_page_are_all_classes_in_their_order() -> None:
    assert tuple(code(row[0])[0] for row in rows(PAGE, "classes")) == CLASSES


def test_the_services_of_the_page_have_the_priorities_that_the_page_gives() -> None:
    (services,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    settings = load_settings({"UPSTREAMS": services})
    given = {each.name: each.service.mount.priority for each in settings.services}
    assert given == {"checkout": Priority.HIGH, "billing": Priority.NORMAL, "reports": Priority.LOW}
