"""What is measured: one row per scenario."""

from dataclasses import dataclass

from benchmarks.loads import Load, Requests

PER_REQUEST = "CPU µs per request"


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    Attributes:
        about: for --help and the table's reader.
        unit: of Sample.cost; scenarios with the same unit share a table.
        load: the work.
        seconds: how long one run lasts, without its warm-up.
        access_log: whether proxies write one; those that cannot are left out.
    """

    about: str
    unit: str
    load: Load
    seconds: int
    access_log: bool = False


_SMALL = Requests("small", connections=64)

SCENARIOS = {
    "http": Scenario("small GET, 8 request header fields, 64 kept connections", PER_REQUEST, _SMALL, 4),
    "http-log": Scenario("the same, with an access log to a file", PER_REQUEST, _SMALL, 4, access_log=True),
    "body64k": Scenario("64 KiB response, 32 kept connections", PER_REQUEST, Requests("64k", 32), 4),
    "body64m": Scenario("64 MiB response, 4 kept connections", PER_REQUEST, Requests("64m", 4), 5),
    "churn": Scenario(
        "small GET, a new connection for each, 32 at a time",
        PER_REQUEST,
        Requests("small", 32, ("Connection: close",)),
        3,
    ),
}
