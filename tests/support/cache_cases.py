"""Cases of a shared cache, by section of the standards, that run on real sockets; see tests/test_cache_cases.py.

A case is a list of steps on a path of its own. A step is a request, the answer that the service gives if the service is
asked, and what must come of the request. Time passes by the step's `after`, in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

ASKED, CHECKED, CACHED = "asked", "checked", "cached"


@dataclass(frozen=True, slots=True)
class Step:
    """A request and its result.

    Attributes:
        wants: ASKED: the service gets the request without a condition of the cache's own; CHECKED: with one; CACHED:
            the service gets nothing.
        method, lines, path, body: of the request; the path is added to the path of the case.
        gives: field lines of the service's answer; DATE and MODIFIED stand for dates.
        status: of the service's answer.
        after: seconds that pass before the request.
        sees: status that the client gets; 0 for the service's.
        shows: field lines that the client's answer must have; a name alone forbids the field.
        like: number of the step whose answer is repeated, from 0; -1 for the last answer of the service.
        got: field lines that the service must get; a name alone forbids the field.
    """

    wants: str
    method: str = "GET"
    lines: tuple[str, ...] = ()
    path: str = ""
    body: str = ""
    gives: tuple[str, ...] = ()
    status: str = "200 OK"
    after: float = 0.0
    sees: int = 0
    shows: tuple[str, ...] = ()
    like: int = -1
    got: tuple[str, ...] = ()
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What a section of a standard asks of a cache, or lets a cache choose and this cache has chosen."""

    section: str
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """Cases that share a configuration."""

    name: str
    cases: Sequence[Case]
    variables: dict[str, str] = field(default_factory=dict)


def asked(*gives: str, **facts: object) -> Step:
    return replace(Step(ASKED, gives=gives), **facts)


def checked(*gives: str, status: str = "304 Not Modified", **facts: object) -> Step:
    """A validation; by default the service finds the stored answer good, and the client gets 200."""
    sees = 200 if status.startswith("304") else 0
    return replace(Step(CHECKED, gives=gives, status=status, sees=sees), **facts)


def cached(**facts: object) -> Step:
    return replace(Step(CACHED), **facts)


def says(control: str) -> str:
    return f"Cache-Control: {control}"


FRESH, TAG, OLD = says("max-age=60"), 'ETag: "1"', "Last-Modified: MODIFIED-1000"


def kept(section: str, name: str, *gives: str, **facts: object) -> Case:
    return Case(section, name, (asked(*gives, **facts), cached()))


def not_kept(section: str, name: str, *gives: str, **facts: object) -> Case:
    return Case(section, name, (asked(*gives, **facts), asked(*gives, **facts)))


def lives(section: str, name: str, seconds: int, *gives: str) -> Case:
    """A response that is fresh for so many seconds."""
    is_checked = any(each.startswith(("ETag:", "Last-Modified:")) for each in gives)
    last = checked(*gives, status="200 OK", after=1) if is_checked else asked(*gives, after=1)
    return Case(section, name, (asked(*gives), cached(after=seconds - 1), last))


def from_client(section: str, name: str, control: str, good: int, *gives: str, bad: int = 0) -> Case:
    """A directive of a request that a response of one age satisfies, and of another age does not."""
    line = (says(control),)
    steps = (asked(*(gives or (FRESH,))), cached(lines=line, after=good))
    return Case(section, name, (*steps, asked(FRESH, lines=line, after=bad)) if bad else steps)


FRESHNESS = (
    lives("RFC 9111 §5.2.2.1", "max-age", 60, FRESH),
    lives("RFC 9111 §5.2.2.10", "s-maxage counts before max-age", 60, says("max-age=1, s-maxage=60")),
    lives("RFC 9111 §5.2.2.10", "s-maxage counts before Expires", 60, says("s-maxage=60"), "Expires: 0"),
    lives("RFC 9111 §5.3", "Expires", 60, "Expires: DATE+60"),
    lives("RFC 9111 §5.3", "Expires minus Date", 30, "Expires: DATE+60", "Date: DATE+30"),
    lives("RFC 9111 §5.3", "max-age counts before Expires", 60, FRESH, "Expires: DATE-60"),
    lives("RFC 9111 §5.1", "Age shortens the rest", 20, FRESH, "Age: 40"),
    lives("RFC 9111 §4.2.3", "an old Date shortens the rest", 20, FRESH, "Date: DATE-40"),
    lives("RFC 9111 §4.2.3", "a Date ahead changes nothing", 60, FRESH, "Date: DATE+40"),
    lives("RFC 9111 §4.2.3", "the larger of Age and Date counts", 10, FRESH, "Date: DATE-40", "Age: 50"),
    lives("RFC 9111 §4.2.1", "the smallest max-age counts", 5, says("max-age=60, max-age=5")),
    lives("RFC 9111 §4.2.1", "the smallest max-age of two lines counts", 5, says("max-age=5"), FRESH),
    lives("RFC 9111 §5.2", "names of directives in any case", 60, says("MAX-age=60")),
    lives("RFC 9111 §5.2", "a quoted argument", 60, says('max-age="60"')),
    lives("RFC 9111 §5.2", "a comma in a quoted string", 60, says('x="a, no-store", max-age=60')),
    lives("RFC 9111 §5.2", "an escaped quote in a quoted string", 60, says('x="a\\", no-store", max-age=60')),
    lives("RFC 9111 §5.2.3", "an unknown directive", 60, says("max-age=60, foo, bar=1")),
    lives("RFC 9110 §5.6.1", "empty members", 60, says(",,max-age=60,,")),
    lives("RFC 9111 §1.2.2", "leading zeros", 60, says("max-age=0060")),
    kept("RFC 9111 §1.2.2", "a number beyond 2^31", says("max-age=99999999999999999999")),
    kept("RFC 9111 §1.2.2", "2^31 itself", says("max-age=2147483648")),
    not_kept("RFC 9111 §4.2.1", "max-age=0", says("max-age=0")),
    not_kept("RFC 9111 §4.2.1", "s-maxage=0 before max-age", says("s-maxage=0, max-age=60")),
    not_kept("RFC 9111 §4.2.1", "a negative max-age", says("max-age=-60")),
    not_kept("RFC 9111 §4.2.1", "a max-age with a point", says("max-age=60.0")),
    not_kept("RFC 9111 §4.2.1", "a max-age with letters", says("max-age=60s")),
    not_kept("RFC 9111 §4.2.1", "a max-age in single quotes", says("max-age='60'")),
    not_kept("RFC 9111 §4.2.1", "a max-age without an argument", says("max-age")),
    not_kept("RFC 9111 §4.2.1", "a blank before the sign", says("max-age =60")),
    not_kept("RFC 9111 §4.2.1", "a blank behind the sign", says("max-age= 60")),
    not_kept("RFC 9111 §5.3", "Expires: 0", "Expires: 0"),
    not_kept("RFC 9111 §5.3", "Expires in the past", "Expires: DATE-60"),
    not_kept("RFC 9111 §5.3", "Expires as Date", "Expires: DATE+0", "Date: DATE+0"),
    not_kept("RFC 9111 §5.3", "Expires without a zone", "Expires: Thu, 01 Jan 2099 00:00:00"),
    not_kept("RFC 9111 §4.2", "Expires in another zone", "Expires: Thu, 01 Jan 2099 00:00:00 EST"),
    not_kept("RFC 9111 §4.2", "Expires in UTC", "Expires: Thu, 01 Jan 2099 00:00:00 UTC"),
    not_kept("RFC 9111 §4.2", "Expires with an offset", "Expires: Thu, 01 Jan 2099 00:00:00 +0000"),
    not_kept("RFC 9110 §5.6.7", "Expires with dashes", "Expires: Thu, 01-Jan-2099 00:00:00 GMT"),
    not_kept("RFC 9110 §5.6.7", "Expires with a time of one digit", "Expires: Thu, 01 Jan 2099 0:00:00 GMT"),
    not_kept("RFC 9110 §5.6.7", "Expires with two blanks", "Expires: Thu, 01  Jan 2099 00:00:00 GMT"),
    not_kept("RFC 9110 §5.6.7", "Expires without blanks", "Expires: Thu,01Jan209900:00:00GMT"),
    not_kept("RFC 9111 §5.3", "a valid and an invalid Expires", "Expires: DATE+60", "Expires: 0"),
    kept("RFC 9110 §5.6.7", "Expires as of RFC 850", "Expires: Thursday, 01-Jan-37 00:00:00 GMT"),
    kept("RFC 9110 §5.6.7", "Expires as of asctime", "Expires: Thu Jan  1 00:00:00 2099"),
    kept("RFC 9111 §4.2", "a date in any case", "Expires: thu, 01 jan 2099 00:00:00 gmt"),
    kept("RFC 9110 §5.6.7", "Expires beyond 2^31 seconds", "Expires: Fri, 01 Jan 2160 00:00:00 GMT"),
    not_kept("RFC 9111 §5.1", "an Age as large as the lifetime", FRESH, "Age: 60"),
    not_kept("RFC 9111 §5.1", "an Age beyond 2^31", FRESH, "Age: 99999999999999999999"),
    lives("RFC 9111 §5.1", "an invalid Age is ignored", 60, FRESH, "Age: x"),
    lives("RFC 9111 §5.1", "a negative Age is ignored", 60, FRESH, "Age: -50"),
    lives("RFC 9111 §5.1", "an Age with a point is ignored", 60, FRESH, "Age: 50.0"),
    lives("RFC 9111 §5.1", "the first Age of a list counts", 10, FRESH, "Age: 50, 0"),
    lives("RFC 9111 §5.1", "the first Age of two lines counts", 10, FRESH, "Age: 50", "Age: 0"),
    not_kept("RFC 9111 §3", "nothing said, and no default"),
    not_kept("RFC 9111 §3", "a validator alone", OLD),
    Case("RFC 9111 §5.1", "Age counts from the Age on arrival",
         (asked(FRESH, "Age: 7"), cached(after=5, shows=("Age: 12",)))),
    Case("RFC 9111 §5.1", "an answer of the service has no Age of the cache's",
         (asked(FRESH, shows=("Age",)), cached(shows=("Age: 0",)))),
    Case("RFC 9111 §5.1", "Date stays", (asked(FRESH, "Date: DATE-9", shows=("Date: DATE-9",)),
                                         cached(after=9, shows=("Date: DATE-9", "Age: 18")))),
)  # fmt: skip

DIRECTIVES = (
    not_kept("RFC 9111 §5.2.2.5", "no-store", says("no-store, max-age=60")),
    not_kept("RFC 9111 §5.2.2.5", "No-StOrE", says("No-StOrE"), FRESH),
    not_kept("RFC 9111 §5.2.2.5", "no-store with an argument", says("no-store=x, max-age=60")),
    not_kept("RFC 9111 §5.2.2.5", "no-store and Expires", says("no-store"), "Expires: DATE+60"),
    not_kept("RFC 9111 §5.2.2.7", "private", says("private, max-age=60")),
    not_kept("RFC 9111 §5.2.2.7", "private and s-maxage", says("private, s-maxage=60")),
    not_kept("RFC 9111 §5.2.2.7", "private and public", says("private, public, max-age=60")),
    not_kept("RFC 9111 §5.2.2.7", "private with an argument that is no list", says("private=@, max-age=60")),
    Case("RFC 9111 §5.2.2.7", "private with fields", (asked(says('max-age=60, private="x-a"'), "X-A: 1", "X-B: 2"),
                                                      cached(shows=("X-A", "X-B: 2")))),
    Case("RFC 9111 §5.2.2.4", "no-cache with fields", (asked(says('max-age=60, no-cache="x-a"'), "X-A: 1", "X-B: 2"),
                                                       cached(shows=("X-A", "X-B: 2")))),
    Case("RFC 9111 §5.2.2.4", "no-cache is validated each time",
         (asked(says("no-cache, max-age=60"), TAG), checked(says("no-cache, max-age=60")),
          checked(says("no-cache, max-age=60")))),
    not_kept("RFC 9111 §5.2.2.4", "no-cache without a validator", says("no-cache, max-age=60")),
    kept("RFC 9111 §5.2.2.3", "must-understand of a known status", says("no-store, must-understand, max-age=60")),
    not_kept("RFC 9111 §5.2.2.3", "must-understand of an unknown status", says("must-understand, max-age=60"),
             status="299 Odd"),
    kept("RFC 9111 §5.2.2.6", "no-transform", says("no-transform, max-age=60")),
    kept("RFC 8246 §2", "immutable", says("immutable, max-age=60")),
    kept("RFC 9111 §5.4", "Pragma of a response means nothing", "Pragma: no-cache", FRESH),
    not_kept("RFC 9111 §5.4", "Pragma of a response gives no lifetime", "Pragma: foo"),
    not_kept("RFC 9111 §5.2.2.9", "public alone gives no lifetime", says("public")),
)  # fmt: skip

NO_STORE_HERE = (says("no-store"),)
REQUESTS = (
    from_client("RFC 9111 §5.2.1.1", "max-age of a request", "max-age=10", 10, bad=1),
    from_client("RFC 9111 §5.2.1.1", "max-age=0 accepts an age of 0", "max-age=0", 0, bad=1),
    from_client("RFC 9111 §5.2.1.1", "an invalid max-age counts as 0", "max-age=x", 0, bad=1),
    from_client("RFC 9111 §5.2.1.3", "min-fresh", "min-fresh=10", 50, bad=1),
    from_client("RFC 9111 §5.2.1.2", "max-stale with a number", "max-stale=10", 70, bad=1),
    from_client("RFC 9111 §5.2.1.2", "max-stale without a number", "max-stale", 6000),
    from_client("RFC 9111 §5.2.1.2", "max-stale of a response with max-age alone", "max-stale=1000", 500),
    from_client("RFC 9111 §5.2.3", "an unknown directive of a request", "foo=bar", 59),
    from_client("RFC 9111 §5.2.1.7", "only-if-cached of a stored answer", "only-if-cached", 59),
    Case("RFC 9111 §5.2.1.7", "only-if-cached of nothing", (cached(lines=(says("only-if-cached"),), sees=504),)),
    Case("RFC 9111 §5.2.1.7", "only-if-cached of a stale answer",
         (asked(FRESH), cached(after=60, lines=(says("only-if-cached"),), sees=504))),
    Case("RFC 9111 §5.2.1.4", "no-cache of a request", (asked(FRESH), asked(FRESH, lines=(says("no-cache"),)))),
    Case("RFC 9111 §5.2.1.4", "no-cache validates", (asked(FRESH, TAG), checked(lines=(says("no-cache"),)))),
    Case("RFC 9111 §5.2.1.4", "what no-cache brings is stored",
         (asked(FRESH), asked(FRESH, lines=(says("no-cache"),)), cached())),
    Case("RFC 9111 §5.4", "Pragma of a request", (asked(FRESH), asked(FRESH, lines=("Pragma: no-cache",)))),
    Case("RFC 9111 §5.4", "Pragma beside Cache-Control",
         (asked(FRESH), cached(lines=("Pragma: no-cache", says("max-age=60"))))),
    Case("RFC 9111 §5.4", "an unknown Pragma", (asked(FRESH), cached(lines=("Pragma: foo",)))),
    Case("RFC 9111 §5.2.1.5", "no-store of a request", (asked(FRESH, lines=NO_STORE_HERE), asked(FRESH))),
    Case("RFC 9111 §5.2.1.5", "no-store forbids no reuse", (asked(FRESH), cached(lines=NO_STORE_HERE))),
    *(Case("RFC 9111 §4.2.4", f"{each} forbids max-stale",
           (asked(says(f"{each}, max-age=60")), asked(FRESH, lines=(says("max-stale"),), after=60)))
      for each in ("must-revalidate", "proxy-revalidate", "s-maxage=60")),
)  # fmt: skip

VARY = (
    Case("RFC 9111 §4.1", "the same value", (asked(FRESH, "Vary: X-A", lines=("X-A: 1",)), cached(lines=("X-A: 1",)))),
    Case("RFC 9111 §4.1", "another value",
         (asked(FRESH, "Vary: X-A", lines=("X-A: 1",)), asked(FRESH, "Vary: X-A", lines=("X-A: 2",)),
          cached(lines=("X-A: 1",), like=0), cached(lines=("X-A: 2",), like=1))),
    Case("RFC 9111 §4.1", "a missing field", (asked(FRESH, "Vary: X-A", lines=("X-A: 1",)), asked(FRESH, "Vary: X-A"),
                                              cached(like=1), cached(lines=("X-A: 1",), like=0))),
    Case("RFC 9111 §4.1", "an empty field is not a missing one",
         (asked(FRESH, "Vary: X-A", lines=("X-A:",)), asked(FRESH, "Vary: X-A"))),
    Case("RFC 9111 §4.1", "two fields in two lines",
         (asked(FRESH, "Vary: X-A", "Vary: x-b", lines=("X-A: 1", "X-B: 2")), cached(lines=("X-B: 2", "X-A: 1")),
          asked(FRESH, lines=("X-A: 1",)))),
    Case("RFC 9111 §4.1", "lines of a field are joined",
         (asked(FRESH, "Vary: X-A", lines=("X-A: 1", "X-A: 2")), cached(lines=("X-A: 1, 2",)))),
    Case("RFC 9111 §4.1", "the order of lines counts",
         (asked(FRESH, "Vary: X-A", lines=("X-A: 1", "X-A: 2")), asked(FRESH, lines=("X-A: 2, 1",)))),
    Case("RFC 9111 §4.1", "case of an unknown field counts",
         (asked(FRESH, "Vary: X-A", lines=("X-A: a",)), asked(FRESH, lines=("X-A: A",)))),
    *(Case("RFC 9111 §4.1", f"negotiation is compared by meaning: {one} and {other}",
           (asked(FRESH, "Vary: Accept-Language", lines=(f"Accept-Language: {one}",)),
            cached(lines=(f"Accept-Language: {other}",))))
      for one, other in (("en, de", "en,de"), ("en, de", "DE,EN"), ("en;q=0.5, de", "de, en; q=0.5"))),
    not_kept("RFC 9111 §4.1", "*", FRESH, "Vary: *"),
    not_kept("RFC 9111 §4.1", "* among others", FRESH, "Vary: X-A, *"),
    not_kept("RFC 9111 §4.1", "* in a second line", FRESH, "Vary: X-A", "Vary: *"),
    not_kept("RFC 9110 §12.5.5", "no list of names", FRESH, "Vary: (x)"),
    kept("RFC 9110 §12.5.5", "empty members", FRESH, "Vary: , ,"),
)  # fmt: skip

CONDITIONS = (
    *(Case("RFC 9111 §4.3.2", f"If-None-Match: {each}",
           (asked(FRESH, TAG), cached(lines=(f"If-None-Match: {each}",), sees=304, content="")))
      for each in ('"1"', 'W/"1"', '"0", "1"', '"0","1", "2"', "*")),
    *(Case("RFC 9110 §8.8.3.2", f"If-None-Match: {each} of a weak tag",
           (asked(FRESH, 'ETag: W/"1"'), cached(lines=(f"If-None-Match: {each}",), sees=304, content="")))
      for each in ('"1"', 'W/"1"')),
    *(Case("RFC 9111 §4.3.2", f"If-None-Match: {each} does not match",
           (asked(FRESH, TAG), cached(lines=(f"If-None-Match: {each}",))))
      for each in ('"2"', "1", '"1', '"0", "2"', 'w/"1"')),
    *(Case("RFC 9111 §4.3.2", f"If-Modified-Since: {each}",
           (asked(FRESH, OLD), cached(lines=(f"If-Modified-Since: MODIFIED{each}",), sees=304, content="")))
      for each in ("-1000", "-500", "+0")),
    Case("RFC 9111 §4.3.2", "If-Modified-Since before the change",
         (asked(FRESH, OLD), cached(lines=("If-Modified-Since: MODIFIED-2000",)))),
    Case("RFC 9110 §13.1.3", "an invalid If-Modified-Since",
         (asked(FRESH, OLD), cached(lines=("If-Modified-Since: yesterday",)))),
    Case("RFC 9110 §13.1.3", "If-None-Match counts before If-Modified-Since",
         (asked(FRESH, OLD, TAG), cached(lines=('If-None-Match: "2"', "If-Modified-Since: MODIFIED+0")))),
    Case("RFC 9111 §4.3.2", "Date stands in for Last-Modified",
         (asked(FRESH, "Date: DATE-9"), cached(lines=("If-Modified-Since: DATE-9",), sees=304, content=""))),
    Case("RFC 9110 §15.4.5", "the fields of a 304",
         (asked(FRESH, TAG, "Vary: X-B", "Content-Type: text/a", "Content-Location: /a", "X-A: 1"),
          cached(lines=('If-None-Match: "1"',), sees=304, content="",
                 shows=(FRESH, TAG, "Vary: X-B", "Content-Location: /a", "X-A: 1", "Content-Type", "Age: 0")))),
    Case("RFC 9111 §4.3", "a condition without a stored answer goes to the service",
         (asked(FRESH, lines=('If-None-Match: "7"',), got=('If-None-Match: "7"',)),)),
    Case("RFC 9111 §3", "a 304 of the service is not stored",
         (asked(status="304 Not Modified", lines=('If-None-Match: "1"',)), asked(FRESH))),
    Case("RFC 9111 §4.3.2", "If-Match goes to the service",
         (asked(FRESH, TAG), asked(FRESH, TAG, lines=('If-Match: "1"',)))),
    Case("RFC 9110 §13.2.1", "a condition means nothing to a stored 404",
         (asked(FRESH, TAG, status="404 Not Found"), cached(lines=('If-None-Match: "1"',), sees=404))),
)  # fmt: skip

VALIDATION = (
    Case("RFC 9111 §4.3.1", "by ETag", (asked(FRESH, TAG), checked(after=60, got=('If-None-Match: "1"',)))),
    Case("RFC 9111 §4.3.1", "by Last-Modified",
         (asked(FRESH, OLD), checked(after=60, got=("If-Modified-Since: MODIFIED-1000",)))),
    Case("RFC 9111 §4.3.1", "by both", (asked(FRESH, OLD, TAG),
                                        checked(after=60, got=("If-Modified-Since: MODIFIED-1000",
                                                               'If-None-Match: "1"')))),
    Case("RFC 9111 §4.3.1", "by a weak ETag", (asked(FRESH, 'ETag: W/"1"'),
                                               checked(after=60, got=('If-None-Match: W/"1"',)))),
    Case("RFC 9111 §4.3.1", "a new answer replaces the old one",
         (asked(FRESH, TAG), checked(FRESH, 'ETag: "2"', status="200 OK", after=60), cached(shows=('ETag: "2"',)))),
    Case("RFC 9111 §4.3.4", "a 304 makes the answer fresh", (asked(FRESH, TAG), checked(FRESH, after=60),
                                                             cached(after=59, like=0), checked(FRESH, after=1))),
    Case("RFC 9111 §3.2", "a 304 renews fields",
         (asked(FRESH, TAG, "X-A: 1", "X-B: 1"), checked(FRESH, "X-A: 2", "X-C: 2", after=60, shows=("X-A: 2",)),
          cached(shows=("X-A: 2", "X-B: 1", "X-C: 2", TAG), like=0))),
    Case("RFC 9111 §3.2", "a 304 does not renew fields about the content",
         (asked(FRESH, TAG, "Content-Type: text/a", "Content-Encoding: x"),
          checked(FRESH, "Content-Type: text/b", "Content-Encoding: y", after=60),
          cached(shows=("Content-Type: text/a", "Content-Encoding: x"), like=0))),
    Case("RFC 9111 §3.2", "a 304 renews the lifetime",
         (asked(FRESH, TAG), checked(says("max-age=5"), after=60), cached(after=4, like=0), checked(after=1))),
    Case("RFC 9111 §4.3.4", "a 304 with another ETag is not believed",
         (asked(FRESH, TAG), Step(CHECKED, gives=(FRESH, 'ETag: "2"'), status="304 Not Modified", after=60, sees=200,
                                  content="again"))),
    Case("RFC 9111 §4.3.3", "an error of the service is the client's",
         (asked(FRESH, TAG), checked(status="500 No", after=60), checked(FRESH, like=0))),
    Case("RFC 9111 §4.3.1", "a condition of the client is replaced",
         (asked(FRESH, TAG), checked(FRESH, after=60, lines=('If-None-Match: "7"',), got=('If-None-Match: "1"',)))),
    Case("RFC 9111 §4.3.2", "a condition of the client is answered after a 304",
         (asked(FRESH, TAG), checked(FRESH, after=60, lines=('If-None-Match: "1"',), sees=304, content=""))),
    Case("RFC 9111 §4.3.5", "a 200 to HEAD renews what it describes",
         (asked(FRESH, "X-A: 1"), asked(FRESH, "X-A: 2", method="HEAD", after=60), cached(shows=("X-A: 2",), like=0))),
    Case("RFC 9111 §4.3.5", "a 200 to HEAD with another ETag takes the answer away",
         (asked(FRESH, TAG), checked(FRESH, 'ETag: "2"', status="200 OK", method="HEAD", after=60), asked(FRESH))),
    Case("RFC 9110 §9.3.2", "HEAD from a stored GET", (asked(FRESH), cached(method="HEAD", content=""))),
    Case("RFC 9111 §3", "HEAD is not stored", (asked(FRESH, method="HEAD"), asked(FRESH))),
)  # fmt: skip

STATUSES = (
    *(
        kept("RFC 9110 §15", f"{each} with max-age", FRESH, status=f"{each} Word")
        for each in (200, 203, 299, 300, 301, 302, 303, 307, 308, 400, 404, 405, 410, 414, 499, 500, 501, 503, 599)
    ),
    *(
        not_kept("RFC 9111 §3", f"{each} without a lifetime", status=f"{each} Word")
        for each in (200, 203, 302, 303, 307, 400, 404, 410, 500, 502, 503, 504)
    ),
    kept("RFC 9110 §15.3.5", "204 with max-age", FRESH, status="204 No Content", content=""),
    not_kept("RFC 9111 §3.3", "206", FRESH, "Content-Range: bytes 0-4/9", status="206 Partial Content"),
)

METHODS = (
    *(Case("RFC 9111 §4.4", f"{each} invalidates",
           (asked(FRESH), asked(method=each, body="x"), asked(FRESH)))
      for each in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO")),
    *(Case("RFC 9111 §4.4", f"{each} with {status} invalidates nothing",
           (asked(FRESH), asked(method=each, body="x", status=f"{status} No"), cached(like=0)))
      for each, status in (("POST", 404), ("PUT", 409), ("DELETE", 500), ("FOO", 503))),
    *(Case("RFC 9111 §4.4", f"{name} is invalidated",
           (asked(FRESH, path="/a"), asked(f"{name}: HERE/a", method="POST", body="x", status="201 Created"),
            asked(FRESH, path="/a")))
      for name in ("Location", "Content-Location")),
    *(Case("RFC 9111 §4.4", f"{name} of another host is not invalidated",
           (asked(FRESH, path="/a"), asked(f"{name}: http://evil.example/a", method="POST", body="x"),
            cached(path="/a", like=0)))
      for name in ("Location", "Content-Location")),
    Case("RFC 9111 §4.4", "an error invalidates no Location",
         (asked(FRESH, path="/a"), asked("Location: HERE/a", method="POST", body="x", status="400 No"),
          cached(path="/a", like=0))),
    Case("RFC 9111 §4.4", "another query is another target",
         (asked(FRESH, path="?a"), asked(method="POST", path="?b", body="x"), cached(path="?a", like=0))),
    Case("RFC 9111 §4.4", "all variants are invalidated",
         (asked(FRESH, "Vary: X-A", lines=("X-A: 1",)), asked(method="POST", body="x"),
          asked(FRESH, lines=("X-A: 1",)))),
    *(Case("RFC 9110 §9.2.1", f"{each} invalidates nothing", (asked(FRESH), asked(method=each), cached(like=0)))
      for each in ("OPTIONS",)),
    Case("RFC 9111 §3", "an answer to POST is not stored", (asked(FRESH, method="POST", body="x"), asked(FRESH))),
    Case("RFC 9110 §9.3.1", "GET with a body goes to the service",
         (asked(FRESH), asked(FRESH, body="fat"), cached(like=0))),
)  # fmt: skip

PARTS = (
    *(Case("RFC 9110 §14.2", f"Range: {each}",
           (asked(FRESH, content="0123456789"),
            cached(lines=(f"Range: {each}",), sees=206, content=part, shows=(f"Content-Range: bytes {there}/10",))))
      for each, part, there in (("bytes=0-1", "01", "0-1"), ("bytes=8-", "89", "8-9"), ("bytes=-3", "789", "7-9"),
                                ("bytes=5-99", "56789", "5-9"), ("BYTES=2-2", "2", "2-2"))),
    *(Case("RFC 9110 §14.2", f"Range: {each} is ignored",
           (asked(FRESH, content="0123456789"), cached(lines=(f"Range: {each}",))))
      for each in ("bytes=5-1", "bytes=x", "lines=1-2", "bytes=0-9,0-9", "bytes", "bytes=-")),
    *(Case("RFC 9110 §15.5.17", f"Range: {each} is beyond the end",
           (asked(FRESH, content="0123456789"),
            cached(lines=(f"Range: {each}",), sees=416, content="", shows=("Content-Range: bytes */10",))))
      for each in ("bytes=10-", "bytes=10-20", "bytes=-0")),
    Case("RFC 9110 §14.6", "several parts",
         (asked(FRESH, content="0123456789"),
          cached(lines=("Range: bytes=0-1, 4-5",), sees=206, content=None, shows=("Content-Range",)))),
    Case("RFC 9110 §13.1.5", "If-Range with the tag",
         (asked(FRESH, TAG, content="0123456789"),
          cached(lines=("Range: bytes=0-1", 'If-Range: "1"'), sees=206, content="01"))),
    *(Case("RFC 9110 §13.1.5", f"If-Range with {each}",
           (asked(FRESH, TAG, content="0123456789"), cached(lines=("Range: bytes=0-1", f"If-Range: {each}"))))
      for each in ('"2"', 'W/"1"', "MODIFIED-1000")),
    Case("RFC 9110 §14.2", "HEAD has no parts",
         (asked(FRESH, content="0123456789"), cached(method="HEAD", lines=("Range: bytes=0-1",), content=""))),
    Case("RFC 9111 §3.3", "a part of the service is not the whole",
         (asked(FRESH, "Content-Range: bytes 0-1/9", status="206 Part", lines=("Range: bytes=0-1",)), asked(FRESH))),
    Case("RFC 9110 §14.2", "Range means nothing to a stored 404",
         (asked(FRESH, status="404 No"), cached(lines=("Range: bytes=0-1",), sees=404))),
)  # fmt: skip

SECRETS = (
    not_kept("RFC 9111 §3.5", "Authorization", FRESH, lines=("Authorization: Basic eA==",)),
    not_kept("stricter than §3.5", "Authorization and must-revalidate", says("max-age=60, must-revalidate"),
             lines=("Authorization: Basic eA==",)),
    not_kept("stricter than §3.5", "Cookie", FRESH, lines=("Cookie: a=b",)),
    not_kept("stricter than §3.5", "X-API-Key", FRESH, lines=("X-API-Key: k",)),
    kept("RFC 9111 §3.5", "Authorization and public", says("max-age=60, public"), lines=("Authorization: Basic eA==",)),
    kept("RFC 9111 §3.5", "Authorization and s-maxage", says("s-maxage=60"), lines=("Authorization: Basic eA==",)),
    Case("RFC 9111 §3.5", "Authorization does not get what anybody stored",
         (asked(FRESH), asked(FRESH, lines=("Authorization: Basic eA==",)))),
    not_kept("RFC 9111 §7.3", "Set-Cookie", FRESH, "Set-Cookie: a=b"),
    not_kept("RFC 9111 §7.3", "Set-Cookie and public", says("public, max-age=60"), "Set-Cookie: a=b"),
    Case("RFC 9111 §7.3", "Set-Cookie that must not be stored",
         (asked(says('max-age=60, no-cache="set-cookie"'), "Set-Cookie: a=b", shows=("Set-Cookie: a=b",)),
          cached(shows=("Set-Cookie",)))),
    Case("web cache deception", "a name of a style sheet below a page of one user",
         (asked(path="/account/x.css", lines=("Cookie: s=1",)), asked(path="/account/x.css"))),
    *(Case("web cache deception", f"{each} is another path",
           (asked(FRESH, path="/a"), asked(FRESH, path=each), cached(path="/a", like=0)))
      for each in ("/a;x.css", "/a%2fx.css", "/a/", "/a%3Fx", "/A", "/a?", "/%61")),
    Case("web cache poisoning", "X-Forwarded-Host of a client is not believed",
         (asked(FRESH, lines=("X-Forwarded-Host: evil.example",), got=("X-Forwarded-Host: gateway.example",)),
          cached())),
    *(Case("web cache poisoning", f"{name} cannot choose a stored answer",
           (asked(FRESH, lines=(f"{name}: evil.example",), got=(name,)), cached(lines=(f"{name}: other.example",))))
      for name in ("X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "Forwarded")),
    *(Case("web cache poisoning", f"{name} goes to the service, and nothing is stored",
           (asked(FRESH, lines=(f"{name}: evil",)), asked(FRESH)))
      for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Host", "X-HTTP-Host-Override")),
    *(Case("cache-poisoned denial of service", f"an error {each} without a lifetime is not stored",
           (asked(status=f"{each} No", lines=("X-Odd: 1",)), asked(FRESH)))
      for each in (400, 403, 405, 413, 431, 500, 501, 503)),
)  # fmt: skip

FIELDS = (
    *(Case("RFC 9111 §3.1", f"{each} is stored", (asked(FRESH, f"{each}: a"), cached(shows=(f"{each}: a",))))
      for each in ("Content-Type", "Content-Encoding", "Content-Location", "Content-Security-Policy", "X-Frame-Options",
                   "Content-Foo", "X-Test", "Link", "Clear-Site-Data", "Referrer-Policy")),
    *(Case("RFC 9110 §7.6.1", f"{each} is of one hop", (asked(FRESH, f"{each}: a"), cached(shows=(each,))))
      for each in ("Keep-Alive", "Proxy-Connection", "Proxy-Authenticate")),
    Case("RFC 9110 §7.6.1", "fields named by Connection",
         (asked(FRESH, "Connection: x-a", "X-A: 1", "X-B: 2"), cached(shows=("X-A", "X-B: 2")))),
    Case("RFC 9110 §5.3", "order and repeats stay",
         (asked(FRESH, "X-A: 1", "x-a: 2", "X-A: 1"), cached(shows=("X-A: 1", "X-A: 2", "X-A: 1")))),
)  # fmt: skip

HEURISTIC = (
    lives("RFC 9111 §4.2.2", "a tenth of the time since Last-Modified", 100, OLD),
    lives("RFC 9111 §4.2.2", "what is said counts first", 60, FRESH, OLD),
    lives("RFC 9111 §4.2.2", "a day at most", 86400, "Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT"),
    *(kept("RFC 9110 §15.1", f"{each}", OLD, status=f"{each} Word")
      for each in (200, 203, 300, 301, 308, 404, 405, 410, 414, 501)),
    *(not_kept("RFC 9110 §15.1", f"{each}", OLD, status=f"{each} Word")
      for each in (201, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599)),
    kept("RFC 9111 §4.2.2", "public lets every status be guessed", OLD, says("public"), status="599 Word"),
    not_kept("RFC 9111 §4.2.2", "no-store forbids", OLD, says("no-store")),
    Case(
        "RFC 9111 §4.2.2",
        "Last-Modified ahead",
        (asked("Last-Modified: MODIFIED+100"), checked(status="200 OK")),
    ),
)  # fmt: skip

STALE = (
    *(Case("RFC 5861 §4", f"stale-if-error and {each}",
           (asked(says("max-age=60, stale-if-error=30")),
            asked(status=f"{each} No", after=80, sees=200, content="first", shows=("Age: 80",))))
      for each in (500, 502, 503, 504)),
    Case("RFC 5861 §4", "stale-if-error is over",
         (asked(says("max-age=60, stale-if-error=30")), asked(status="500 No", after=90))),
    Case("RFC 5861 §4", "a 404 is no error",
         (asked(says("max-age=60, stale-if-error=30")), asked(status="404 No", after=80))),
    Case("RFC 5861 §4", "stale-if-error of a request",
         (asked(FRESH), asked(status="500 No", after=80, sees=200, content="first",
                              lines=(says("stale-if-error=30"),)))),
    *(Case("RFC 9111 §4.2.4", f"{each} forbids a stale answer",
           (asked(says(f"{each}, max-age=60, stale-if-error=30")), asked(status="500 No", after=61)))
      for each in ("must-revalidate", "proxy-revalidate", "s-maxage=60")),
    Case("RFC 9111 §4.2.4", "an error alone is no reason", (asked(FRESH), asked(status="503 No", after=60))),
)  # fmt: skip


def _targeted(chapter: str, name: str) -> tuple[Case, ...]:
    def gives(control: str) -> str:
        return f"{name}: {control}"

    return (
        lives(chapter, f"{name} counts before Cache-Control", 60, gives("max-age=60"), says("max-age=1")),
        lives(chapter, f"{name} counts before no-store", 60, gives("max-age=60"), says("no-store")),
        lives(chapter, f"{name} counts before Expires", 60, gives("max-age=60"), "Expires: 0"),
        not_kept(chapter, f"{name}: no-store", gives("no-store"), FRESH),
        not_kept(chapter, f"{name}: private", gives("private"), FRESH),
        not_kept(chapter, f"{name}: max-age=0", gives("max-age=0"), FRESH),
        lives(chapter, f"an unknown member of {name}", 60, gives("max-age=60, foo=1"), says("no-store")),
        Case(chapter, f"{name} is passed on", (asked(gives("max-age=60"), shows=(gives("max-age=60"),)),)),
    )


CDN = (
    *_targeted("RFC 9213 §2.2", "CDN-Cache-Control"),
    lives("RFC 9213 §2.1", "a malformed field is ignored", 60, "CDN-Cache-Control: no-store,", FRESH),
    lives("RFC 9213 §2.1", "an empty field is ignored", 60, "CDN-Cache-Control:", FRESH),
    lives("RFC 9213 §2.1", "names in capitals are malformed", 60, "CDN-Cache-Control: No-Store", FRESH),
    not_kept("RFC 9213 §2.1", "a duration that is no integer is ignored", "CDN-Cache-Control: max-age=60.0"),
    lives("RFC 9213 §2.1", "parameters are ignored", 60, "CDN-Cache-Control: max-age=60;a=b"),
    lives("RFC 9651 §3.2", "the last member of a name counts", 60, "CDN-Cache-Control: max-age=1, max-age=60"),
)
SURROGATE = (
    *_targeted("Edge Architecture", "Surrogate-Control"),
    lives("RFC 9213 §2.2", "CDN-Cache-Control counts first", 60, "CDN-Cache-Control: max-age=60",
          "Surrogate-Control: no-store"),
)  # fmt: skip

CHAPTERS = (
    Chapter("freshness", FRESHNESS),
    Chapter("directives", DIRECTIVES),
    Chapter("requests", REQUESTS),
    Chapter("vary", VARY),
    Chapter("conditions", CONDITIONS),
    Chapter("validation", VALIDATION),
    Chapter("statuses", STATUSES),
    Chapter("methods", METHODS),
    Chapter("parts", PARTS),
    Chapter("secrets", SECRETS),
    Chapter("fields", FIELDS),
    Chapter("heuristic", HEURISTIC, {"CACHE_HEURISTIC_PERCENT": "10"}),
    Chapter("stale", STALE),
    Chapter("targeted", CDN),
    Chapter("surrogate", SURROGATE, {"CACHE_SURROGATE_CONTROL": "true"}),
)
