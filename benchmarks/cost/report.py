"""Makes tables of samples: medians and ratios, as text, Markdown and JSON. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.cost.loads import Results, Sample
from benchmarks.cost.scenarios import Unit

REFERENCE = "nginx"
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: the medians of a peer's runs in a scenario.

    Attributes:
        cost: cost in the scenario's unit.
        ratio: cost divided by nginx's cost in the same session; None without nginx.
        rate: pieces of work per second.
        p50, p99: latencies in seconds, or None.
        errors: sum over all runs.
    """

    scenario: str
    peer: str
    cost: float
    ratio: float | None
    rate: float
    p50: float | None
    p99: float | None
    errors: int


def rows(scenario: str, samples: Mapping[str, Sequence[Sample]]) -> list[Row]:
    """The lines of a scenario, without peers that have no samples."""
    reference = samples.get(REFERENCE)
    base = median(sample.cost for sample in reference) if reference else None
    return [_row(scenario, peer, runs, base) for peer, runs in samples.items() if runs]


def _row(scenario: str, peer: str, runs: Sequence[Sample], base: float | None) -> Row:
    cost = median(run.cost for run in runs)
    return Row(
        scenario=scenario,
        peer=peer,
        cost=cost,
        ratio=cost / base if base else None,
        rate=median(run.rate for run in runs),
        p50=_median([run.p50 for run in runs]),
        p99=_median([run.p99 for run in runs]),
        errors=sum(run.errors for run in runs),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def number(value: float | None) -> str:
    """Format a number with three digits or more, and commas between thousands.

    >>> number(1.234), number(14.32), number(20479.6), number(None)
    ('1.23', '14.3', '20,480', '-')
    """
    if value is None:
        return ABSENT
    decimals = max(0, 3 - len(str(int(abs(value))))) if value else 0
    return f"{value:,.{decimals}f}"


_MILLISECOND = 1e-3


def latency(seconds: float | None) -> str:
    """Format a latency in µs, ms or s.

    >>> latency(0.00085), latency(0.00123), latency(2.1)
    ('850 µs', '1.23 ms', '2.10 s')
    """
    if seconds is None:
        return ABSENT
    if seconds < _MILLISECOND:
        return f"{number(seconds * 1e6)} µs"
    return f"{number(seconds * 1e3)} ms" if seconds < 1 else f"{number(seconds)} s"


def _heading(unit: Unit) -> list[str]:
    latencies = ["p50", "p99"] if unit.latency else []
    return ["scenario", "proxy", unit.cost, f"ratio to {REFERENCE}", unit.rate, *latencies, "errors"]


def _cells(unit: Unit, row: Row) -> list[str]:
    ratio = ABSENT if row.ratio is None else f"{row.ratio:.2f}"
    latencies = [latency(row.p50), latency(row.p99)] if unit.latency else []
    return [row.scenario, row.peer, number(row.cost), ratio, number(row.rate), *latencies, f"{row.errors:,}"]


_NAMES = 2  # leading columns that hold names and are aligned to the left


def text_table(unit: Unit, lines: Sequence[Row]) -> str:
    """A table for a terminal, with a blank line between scenarios."""
    table = [_heading(unit), *(_cells(unit, row) for row in lines)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    out: list[str] = []
    for index, cells in enumerate(table):
        if index and cells[0] != table[index - 1][0]:
            out.append("")
        out.append("  ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))))
    return "\n".join(out)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < _NAMES else cell.rjust(width)


def markdown_table(unit: Unit, lines: Sequence[Row]) -> str:
    """The table of docs/benchmarks.md; the gateway's lines are bold."""
    heading = _heading(unit)
    rule = ["---" if column < _NAMES else "---:" for column in range(len(heading))]
    table = [heading, rule]
    for row in lines:
        cells = _cells(unit, row)
        table.append([f"**{cell}**" for cell in cells] if row.peer == "gateway" else cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _both(results: Results, scenario: str, other: str) -> dict[str, tuple[float, float]]:
    """The medians of two scenarios, by peer that has both."""
    costs, base = ({row.peer: row.cost for row in rows(name, results.get(name, {}))} for name in (scenario, other))
    return {peer: (cost, base[peer]) for peer, cost in costs.items() if peer in base}


def comparisons(results: Results, beside: Mapping[str, str]) -> list[str]:
    """A line for each scenario that stands beside another: the ratio of the medians, by peer.

    Args:
        beside: the other scenario, by scenario.
    """
    lines = []
    for scenario, other in beside.items():
        costs = _both(results, scenario, other)
        found = [f"{peer} {cost / base:.2f}" for peer, (cost, base) in costs.items()]
        if found:
            lines.append(f"{scenario} as a ratio to {other}: {', '.join(found)}")
    return lines


def additions(results: Results, beside: Mapping[str, str]) -> list[str]:
    """A line for each scenario that stands beside another: what the median grows by, by peer.

    Args:
        beside: the other scenario, by scenario.
    """
    lines = []
    for scenario, other in beside.items():
        grown = {peer: cost - base for peer, (cost, base) in _both(results, scenario, other).items()}
        reference = grown.get(REFERENCE, 0.0)
        found = [
            f"{peer} {number(more)}" + (f" ({more / reference:.2f} times {REFERENCE})" if reference > 0 else "")
            for peer, more in grown.items()
        ]
        if found:
            lines.append(f"{scenario} adds to {other}: {', '.join(found)}")
    return lines


def as_json(units: Mapping[str, str], results: Results) -> dict[str, Any]:
    """Medians and all runs as JSON; latencies in seconds.

    Args:
        units: units of the costs, by scenario.
        results: the samples.
    """
    return {
        scenario: {
            "unit": units[scenario],
            "peers": {
                row.peer: asdict(row) | {"runs": [asdict(run) for run in samples[row.peer]]}
                for row in rows(scenario, samples)
            },
        }
        for scenario, samples in results.items()
    }
