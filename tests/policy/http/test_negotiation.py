"""What a client accepts, by RFC 9110 §12.5.1."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.http.negotiation import accepts_nothing_else, accepts_only, preferred

EVENTS = b"text/event-stream"
PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
OPEN = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
OFFERS = (PLAIN, OPEN)


# ---- accepts_only


@pytest.mark.parametrize(
    "accept",
    [
        [b"text/event-stream"],
        [b"TEXT/EVENT-STREAM"],
        [b"text/event-stream;charset=utf-8"],
        [b"text/event-stream; q=0.001"],
        [b"text/event-stream;Q=1.000"],
        [b"text/event-stream, */*;q=0.1"],
        [b"text/event-stream, */*"],
        [b"text/event-stream;q=0.5, *;q=0.5"],
        [b"text/event-stream;q=0.5, *;q=.2"],
        [b"*/*", b" text/event-stream;q=1 ,"],
        [b",", b"", b", ,text/event-stream,,"],
        [b"application/json;q=0, text/event-stream"],
        [b"text/event-stream, text/*;q=0, application/*;q=0.000"],
        [b'text/event-stream;note="a, application/json;q=1"'],
        [b'text/event-stream;note="\\", a/b"'],
    ],
)
def test_a_client_that_accepts_nothing_else_waits_for_event_streams(accept: list[bytes]) -> None:
    assert accepts_only(accept, EVENTS)


@pytest.mark.parametrize(
    "accept",
    [
        [],
        [b""],
        [b" ,, "],
        [b"*/*"],
        [b"text/*"],
        [b"application/json"],
        [b"application/json, text/event-stream"],
        [b"application/json", b"text/event-stream;q=0.9, */*"],
        [b"text/event-stream, text/*;q=0.1"],
        [b"text/event-stream, application/*;q=0.1"],
        [b"text/event-stream;q=0"],
        [b"text/event-stream;q=0.000, */*"],
        [b"text/event-stream;q=0, application/json"],
        [b"text/event-stream ; Q = 0"],
        [b'text/event-stream;q="0"'],
        [b"text/event-stream;q=0.1, */*"],
        [b"text/event-streams"],
        [b"text/event-stream/x"],
        [b"x-text/event-stream"],
        [b'application/json;note="text/event-stream"'],
        [b'"text/event-stream"'],
    ],
)
def test_a_client_that_accepts_something_else_as_well_does_not(accept: list[bytes]) -> None:
    assert not accepts_only(accept, EVENTS)


# ---- accepts_nothing_else


@pytest.mark.parametrize(
    ("accept", "nothing_else"),
    [
        ([b"text/event-stream"], True),
        ([b"Text/Event-Stream;charset=utf-8 ; q=0.2"], True),
        ([b", text/event-stream,, ,"], True),
        ([b"text/event-stream", b"application/json;q=0, */*;q=0.000"], True),
        ([b"text/event-stream;q=1, text/event-stream;q=0.5"], True),
        ([b'text/event-stream;note="a, application/json;q=1"'], True),
        ([], False),
        ([b""], False),
        ([b" , "], False),
        ([b"*/*"], False),
        ([b"text/*"], False),
        ([b"text/event-stream, */*;q=0.1"], False),
        ([b"text/event-stream, text/*;q=0.1"], False),
        ([b"text/event-stream", b"application/json"], False),
        ([b"application/json, text/event-stream"], False),
        ([b"text/event-stream;q=0"], False),
        ([b"text/event-stream;q=0.0, */*;q=0"], False),
        ([b"text/event-streams"], False),
    ],
)
def test_whether_a_client_accepts_nothing_but_event_streams(accept: list[bytes], nothing_else: bool) -> None:
    assert accepts_nothing_else(accept, EVENTS) is nothing_else


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([EVENTS, b"*/*", b"text/*", b"text/html", b"", b"x"]).map(lambda each: each + b";q=0.5"))
)
def test_accepts_nothing_else_implies_accepts_only(members: list[bytes]) -> None:
    accept = [b", ".join(members)]
    assert accepts_only(accept, EVENTS) or not accepts_nothing_else(accept, EVENTS)


# ---- preferred


@pytest.mark.parametrize(
    ("accept", "offer"),
    [
        ([], PLAIN),
        ([b""], PLAIN),
        ([b", ,"], PLAIN),
        ([b"*/*"], PLAIN),
        ([b"text/html,application/xhtml+xml,*/*;q=0.8"], PLAIN),
        ([b"application/openmetrics-text"], OPEN),
        ([b"application/openmetrics-text;q=0"], None),
        ([b"application/openmetrics-text;q=0.0, */*"], PLAIN),
        ([b"application/openmetrics-text;q=0, text/plain;q=0.1"], PLAIN),
        ([b"*/*;q=0"], None),
        ([b"text/plain;q=0, */*;q=0.1"], OPEN),
        ([b"application/*"], OPEN),
        ([b"APPLICATION/*;Q=0.9", b"text/*;q=0.8"], OPEN),
        ([b"application/*, application/openmetrics-text;q=0.1, text/plain;q=0.5"], PLAIN),  # the more specific decides
        ([b"application/openmetrics-text;q=0.1, application/openmetrics-text;version=1.0.0, text/plain;q=0.5"], OPEN),
        ([b"application/openmetrics-text;version=0.0.1, text/plain;version=0.0.4;q=0.5"], PLAIN),
        ([b"application/openmetrics-text;version=2.0.0"], None),
        ([b'application/openmetrics-text; Version="1.0.0"; CHARSET=UTF-8, text/plain'], OPEN),
        ([b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5, text/plain;q=0.3"], OPEN),
        ([b"application/openmetrics-text;q=0.5, text/plain;q=0.6"], PLAIN),
        ([b"text/plain;q=0.5, application/openmetrics-text;q=0.6"], OPEN),
        ([b"*/*, application/openmetrics-text"], OPEN),  # equal weights: who is named, before who is meant as well
        ([b"application/openmetrics-text, text/plain"], OPEN),  # and who is named first
        ([b"text/plain, application/openmetrics-text"], PLAIN),
        ([b"application/openmetrics-text;q=x, text/plain;q=0.1"], PLAIN),  # what is malformed says nothing
        ([b"application/openmetrics-text;q=1.1, text/plain;q=0.1"], PLAIN),
        ([b"application/openmetrics-text;q=-1, text/plain;q=0.1"], PLAIN),
        ([b"application/openmetrics-text;q=., text/plain;q=0.1"], PLAIN),
        ([b"application/openmetrics-text;q, text/plain;q=0.1"], PLAIN),
        ([b"*/openmetrics-text, text/plain;q=0.1"], PLAIN),
        ([b"openmetrics-text, text/plain;q=0.1"], PLAIN),
        ([b"text/html, image/gif, *; q=.2, */*; q=.2"], PLAIN),
        ([b'text/html;x="application/openmetrics-text, application/openmetrics-text;q=1"'], None),
    ],
)
def test_the_preferred_representation_is_chosen(accept: list[bytes], offer: bytes | None) -> None:
    assert preferred(accept, OFFERS) == offer


def test_an_offer_that_is_no_media_type_is_never_wanted() -> None:
    assert preferred([b"*/*"], [b"nonsense"]) is None


RANGES = {b"*/*": 1, b"text/*": 2, b"application/*": 2, b"text/plain": 3, b"application/openmetrics-text": 3}
FITTING = {
    PLAIN: (b"*/*", b"text/*", b"text/plain"),
    OPEN: (b"*/*", b"application/*", b"application/openmetrics-text"),
}
OWS = st.sampled_from([b"", b" ", b"\t "])
WEIGHTS = st.integers(0, 1000)


def written(weight: int) -> bytes:
    return b"%d.%03d" % divmod(weight, 1000)


@settings(deadline=None)
@given(st.data())
def test_weights_decide_and_spelling_does_not(data: st.DataObject) -> None:
    """Against the rule in its plainest form, over ranges with different weights."""
    names = data.draw(st.permutations(list(RANGES)))
    weights = data.draw(st.lists(WEIGHTS, min_size=5, max_size=5, unique=True))
    accepted = dict(list(zip(names, weights, strict=True))[: data.draw(st.integers(1, 5))])
    members = []
    for name, weight in accepted.items():
        spelled = bytes(byte - 32 if 97 <= byte <= 122 and data.draw(st.booleans()) else byte for byte in name)
        q = data.draw(st.sampled_from([b"q", b"Q"]))
        before, after = data.draw(OWS), data.draw(OWS)
        members += [before + spelled + before + b";" + after + q + b"=" + written(weight) + after]
        members += data.draw(st.sampled_from([[], [b""], [b" "], [b"\t", b""], [b"image/png;q=1"]]))
    cut = data.draw(st.integers(0, len(members)))
    fields = [b",".join(part) for part in (members[:cut], members[cut:])]

    of_offers = {}
    for offer, fitting in FITTING.items():
        found = [name for name in fitting if name in accepted]
        of_offers[offer] = accepted[max(found, key=RANGES.__getitem__)] if found else 0
    best = max(of_offers.values())
    wanted = [offer for offer, weight in of_offers.items() if weight == best]
    got = preferred(fields, OFFERS)
    assert got in wanted if best else got is None


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(), st.text(alphabet='aA*/;,q=01."\\ ').map(str.encode)), max_size=4))
def test_whatever_is_sent_there_is_an_answer(accept: list[bytes]) -> None:
    assert preferred(accept, OFFERS) in (None, *OFFERS)
    assert accepts_only(accept, EVENTS) in (True, False)


@settings(deadline=None)
@given(WEIGHTS, st.sampled_from([b"application/json", b"text/*", b"a/b;c=d"]), st.booleans())
def test_another_type_counts_exactly_if_accepted(weight: int, other: bytes, is_first: bool) -> None:
    members = [EVENTS, other + b";q=" + written(weight)]
    assert accepts_only([b",".join(members if is_first else members[::-1])], EVENTS) is (weight == 0)
