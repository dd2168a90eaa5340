"""A measuring session: every scenario with every peer, in interleaved rounds."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cost.certificates import Pair, make_pair
from benchmarks.cost.loads import Results, Sample, Target
from benchmarks.cost.nginx import ACCESS_LOG
from benchmarks.cost.peers import PEERS, Place
from benchmarks.cost.scenarios import SCENARIOS
from benchmarks.cost.upstream import upstream
from benchmarks.processes import ChildFailed
from benchmarks.readiness import free_port


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        scenarios, peers: names, in the order of the tables.
        rounds: number of runs of each scenario with each peer.
        seconds: duration of a run; None for the scenario's default.
        proxy_core, load_core: numbers of cores.
    """

    scenarios: Sequence[str]
    peers: Sequence[str]
    rounds: int
    seconds: int | None
    proxy_core: int
    load_core: int


# Called after each run with the round (from 1), the scenario, the peer, and the sample or the failure.
Progress = Callable[[int, str, str, Sample | ChildFailed], None]


def peers_of(scenario: str, peers: Sequence[str]) -> list[str]:
    """The peers that can serve a scenario, in the same order."""
    wanted = SCENARIOS[scenario]
    return [
        name
        for name in peers
        if (PEERS[name].keeps_log or not wanted.access_log)
        and (PEERS[name].caches or not wanted.caches)
        and (PEERS[name].has_tls or not wanted.tls)
        and name in (wanted.peers or peers)
    ]


def measure(plan: Plan, progress: Progress) -> Results:
    """Carry out a plan; return the samples by scenario and peer.

    Peers take turns within a round, so that a disturbance of the machine affects all peers. A peer that fails in a
    scenario is not measured in the scenario's later rounds.

    Raises:
        ChildFailed: the upstream does not serve.
    """
    results: Results = {name: {peer: [] for peer in peers_of(name, plan.peers)} for name in plan.scenarios}
    pairs = [(scenario, peer) for scenario, peers in results.items() for peer in peers]
    with working_directory() as directory, upstream(directory, plan.load_core) as upstream_port:
        pair = make_pair(directory)
        for turn in range(1, plan.rounds + 1):
            for scenario, peer in tuple(pairs):
                try:
                    sample = _run(plan, scenario, peer, upstream_port, pair)
                except ChildFailed as error:
                    pairs.remove((scenario, peer))
                    progress(turn, scenario, peer, error)
                else:
                    results[scenario][peer].append(sample)
                    progress(turn, scenario, peer, sample)
    return results


def _run(plan: Plan, name: str, peer: str, upstream_port: int, pair: Pair) -> Sample:
    scenario = SCENARIOS[name]
    with working_directory() as directory:
        port, stream_port = free_port(), free_port()
        place = Place(
            directory, plan.proxy_core, port, upstream_port, stream_port, scenario.access_log, scenario.caches,
            pair if scenario.tls else None,
        )  # fmt: skip
        with PEERS[peer].start(place) as proxy:
            target = Target(proxy, port, stream_port, plan.load_core, directory, scenario.tls)
            scenario.load.check(target)
            sample = scenario.load.run(target, plan.seconds or scenario.seconds)
        if scenario.access_log:
            _check_log(directory / ACCESS_LOG, sample)
        return sample


def _check_log(log: Path, sample: Sample) -> None:
    """Check that the access log has a line for each request: a log that is off or loses lines is cheap."""
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    if lines < sample.done:
        raise ChildFailed(f"wrote {lines:,} access log lines for {sample.done:,} requests")


@contextlib.contextmanager
def working_directory() -> Iterator[Path]:
    """A temporary directory for a server's files, readable by the user of nginx's workers."""
    with tempfile.TemporaryDirectory(prefix="gateway-benchmark-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
