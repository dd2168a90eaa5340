"""What a feature costs a small GET: python -m benchmarks.features

Two gateways run on a core: one with the feature, one without. Both get the same requests from wrk, in turns of a
second. A round is a turn of each, and gives a ratio of the CPU time per request. The median of the rounds' ratios is
the figure: whatever else the machine does meets both gateways alike.

Some ratios have a bound. The exit status is 1 if a ratio is above its bound.
"""

import argparse
import contextlib
import http.client
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import jwt

from benchmarks import machine
from benchmarks.cost.loads import Requests, Sample, Target
from benchmarks.cost.peers import PREFIX, Place, gateway
from benchmarks.cost.report import number
from benchmarks.cost.session import working_directory
from benchmarks.cost.upstream import upstream
from benchmarks.processes import ChildFailed
from benchmarks.programs import NGINX, WRK
from benchmarks.readiness import HOST, POLL, START_TIMEOUT, free_port

CONNECTIONS = 64
TURN = 1  # seconds
SECRET = "0123456789abcdef0123456789abcdef"
TOKEN = jwt.encode({"sub": "ada", "iss": "benchmark", "exp": 4_000_000_000}, SECRET)
ORIGIN = "https://app.example.com"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}"

_LIMIT = {"RATE_LIMITS": "100000/s"}  # more than any load asks
_AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": SECRET}


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature to measure.

    Attributes:
        about: description for --help.
        variables: what turns the feature on.
        fields: header fields of the requests for both gateways.
        status: of the answers with the feature.
        bound: ratio that is to be kept; None for no bound.
    """

    about: str
    variables: Mapping[str, str]
    fields: tuple[str, ...] = ()
    status: int = 200
    bound: float | None = None


FEATURES = {
    "nothing": Feature("two gateways that are alike: the error of the measurement", {}),
    "limit": Feature("a rate limit in memory, by address", _LIMIT),
    "token": Feature("a token in Authorization, verified before", _AUTH, (AUTHORIZATION,)),
    "token-limit": Feature("both", _LIMIT | _AUTH, (AUTHORIZATION,), bound=1.15),
    "trace": Feature("a trace that begins and is not recorded", {"TRACE_SAMPLE": "0"}),
    "cors": Feature("an annotated answer", {"CORS_ORIGINS": ORIGIN}, (f"Origin: {ORIGIN}",)),
    "shed": Feature("a refusal under overload", {"UNDER_PRESSURE_MAX_RSS_BYTES": "1"}, status=503, bound=0.35),
}


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of a feature.

    Attributes:
        without, with_: CPU µs per request, the medians of all turns.
        ratio: the median of the rounds' ratios.
        spread: the quartiles of the ratios.
    """

    without: float
    with_: float
    ratio: float
    spread: tuple[float, float]

    @classmethod
    def of(cls, rounds: Sequence[tuple[float, float]]) -> "Result":
        """The result of rounds: pairs of the CPU µs without and with the feature.

        >>> Result.of([(10.0, 20.0), (10.0, 11.0), (20.0, 22.0)])
        Result(without=10.0, with_=20.0, ratio=1.1, spread=(1.1, 2.0))
        """
        ratios = sorted(each / base for base, each in rounds)
        quarter = len(ratios) // 4
        return cls(
            without=median(base for base, _ in rounds),
            with_=median(each for _, each in rounds),
            ratio=median(ratios),
            spread=(ratios[quarter], ratios[-1 - quarter]),
        )


def table(results: Mapping[str, Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| feature | CPU µs without | with | ratio | quartiles | bound |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in results.items():
        bound = FEATURES[name].bound
        low, high = each.spread
        lines.append(
            f"| {name} | {number(each.without)} | {number(each.with_)} | {each.ratio:.3f} | {low:.3f} to {high:.3f} "
            f"| {'-' if bound is None else bound} |"
        )
    return "\n".join(lines)


def exceeded(results: Mapping[str, Result]) -> list[str]:
    """The names of the features whose ratio is above its bound."""
    bounds = {name: FEATURES[name].bound for name in results}
    return [name for name, bound in bounds.items() if bound is not None and results[name].ratio > bound]


# ---- the measurement


def measure(names: Sequence[str], rounds: int, *, access_log: bool) -> dict[str, Result]:
    """Measure features one after the other.

    Raises:
        ChildFailed: a gateway or the upstream does not serve, or a gateway gives other answers than expected.
    """
    results = {}
    with working_directory() as directory, upstream(directory, machine.cores()[1]) as port:
        for name in names:
            feature = FEATURES[name]
            with _running({}, port, access_log) as without, _running(feature.variables, port, access_log) as with_:
                _wait(without, feature, 200)
                _wait(with_, feature, feature.status)
                samples = [(_turn(without, feature, 200), _turn(with_, feature, feature.status)) for _ in range(rounds)]
            results[name] = Result.of([(base.cost, each.cost) for base, each in samples])
            print(table({name: results[name]}).splitlines()[-1], file=sys.stderr, flush=True)
    return results


def _turn(target: Target, feature: Feature, status: int) -> Sample:
    sample = Requests("small", CONNECTIONS, feature.fields).run(target, TURN)
    expected = sample.done if status >= 400 else 0  # wrk counts such answers as errors
    if sample.errors != expected:
        raise ChildFailed(f"gave {sample.errors:,} errors to {sample.done:,} requests instead of {expected:,}")
    return sample


def _wait(target: Target, feature: Feature, status: int) -> None:
    """Wait until a gateway answers with a status.

    Raises:
        ChildFailed: there is no such answer within START_TIMEOUT.
    """
    fields = dict(each.split(": ", 1) for each in feature.fields)
    deadline = time.monotonic() + START_TIMEOUT
    while (seen := _status(target.port, fields)) != status:
        if target.proxy.has_ended() or time.monotonic() > deadline:
            raise ChildFailed(f"answered {seen} instead of {status}; it said: {target.proxy.last_words()}")
        time.sleep(POLL)


def _status(port: int, fields: Mapping[str, str]) -> int | None:
    """The status of the answer to a GET; None for no answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_TIMEOUT)
    try:
        connection.request("GET", f"{PREFIX}small", headers=dict(fields))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def _running(variables: Mapping[str, str], upstream_port: int, access_log: bool) -> Iterator[Target]:
    """A gateway with variables."""
    proxy_core, load_core = machine.cores()
    with working_directory() as directory:
        port = free_port()
        place = Place(directory, proxy_core, port, upstream_port, free_port(), access_log)
        with gateway(place, variables) as child:
            yield Target(child, port, place.stream_port, load_core, directory)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with a message if an argument is wrong."""
    listed = "\n".join(f"  {name:12} {each.about}" for name, each in FEATURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description="CPU time of a small GET with a feature, as a ratio to the same without.",
        epilog=f"features:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("features", nargs="*", metavar="feature", help="all, unless named")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of each gateway (9)")
    parser.add_argument("--no-access-log", action="store_true", help="without the access log, which is on by default")
    options = parser.parse_args(argv)
    unknown = [each for each in options.features if each not in FEATURES]
    if unknown or options.rounds < 1:
        parser.error(f"no feature is called {unknown[0]!r}" if unknown else "--rounds must be 1 or more")
    return options


def main() -> int:
    options = arguments(sys.argv[1:])
    lacking = [program.remedy for program in (WRK, NGINX) if not program.is_installed]
    if lacking:
        print(f"cannot measure: {'; '.join(lacking)}", file=sys.stderr)
        return 2
    machine.raise_descriptor_limit()
    results = measure(options.features or list(FEATURES), options.rounds, access_log=not options.no_access_log)
    print(table(results))
    above = exceeded(results)
    if above:
        print(f"above the bound: {', '.join(above)}", file=sys.stderr)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
