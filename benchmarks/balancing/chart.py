"""Draws latencies by group and series as an SVG for light and dark pages. Pure.

Each value is a dot on a stem, because the area of a bar has no meaning on a logarithmic axis. Series differ by place,
shape and colour, in the legend's order; a browser shows a dot's value under the mouse.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from benchmarks.cost.report import latency

WIDTH, HEIGHT = 960, 460
LEFT, RIGHT, TOP, BOTTOM = 84, 16, 92, 64  # margins around the plot's area
RADIUS = 5
FILL = 0.72  # share of a group's width for its dots
STEPS = (1, 2, 5)  # multiples of a decade with a grid line

# Five hues that people with any kind of colour vision can tell apart (M. Okabe, K. Ito, Color Universal Design, 2008),
# darker on white and lighter on black.
LIGHT = ("#0072b2", "#c44e00", "#007a5a", "#a8487e", "#5c5c5c")
DARK = ("#56b4e9", "#ff9248", "#2bc795", "#e89ac4", "#c0c0c0")

STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.page { fill: #ffffff }
.grid { stroke: #d0d7de }
.axis { stroke: #57606a }
"""
STYLE_DARK = """\
text { fill: #e6edf3 }
.page { fill: #0d1117 }
.grid { stroke: #30363d }
.axis { stroke: #8b949e }
"""

Values = Mapping[str, Mapping[str, float | None]]  # seconds, by group and series


def svg(values: Values, title: str, axis: str, groups: str) -> str:
    """Draw a chart.

    Args:
        values: latencies > 0, or None for no dot; all groups have the same series, at most five.
        title: title of the chart.
        axis: label of the values' axis.
        groups: label of the groups' axis.

    Raises:
        ValueError: all values are None.
    """
    known = [value for group in values.values() for value in group.values() if value is not None]
    ticks = list(_ticks(min(known), max(known)))
    series = list(next(iter(values.values())))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}{_colours(LIGHT)}@media (prefers-color-scheme: dark) {{\n{STYLE_DARK}{_colours(DARK)}}}",
            "</style>",
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            f'<text class="title" x="{LEFT}" y="30">{escape(title)}</text>',
            *_legend(series),
            *_grid(ticks, f"{axis} (logarithmic)", groups),
            *_groups(values, series, ticks),
            "</svg>\n",
        ]
    )


def _ticks(least: float, most: float) -> Iterator[float]:
    """Values with a grid line, from the greatest at or below all values to the least at or above all values."""
    decades = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)  # rounding may cost one
    every = [step * 10.0**decade for decade in decades for step in STEPS]
    first = max(tick for tick in every if tick <= least)
    last = min(tick for tick in every if tick >= most and tick > first)
    return (tick for tick in every if first <= tick <= last)


def _colours(colours: Sequence[str]) -> str:
    return "".join(f".s{number} {{ fill: {each}; stroke: {each} }}\n" for number, each in enumerate(colours))


def _y(value: float, ticks: Sequence[float]) -> float:
    """The y coordinate of a value."""
    share = math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _legend(series: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(series):
        x = LEFT + 8 + number * 150
        yield f'<g class="s{number}">{_mark(number, x, 56)}</g><text x="{x + 14}" y="60.5">{escape(name)}</text>'


def _grid(ticks: Sequence[float], label: str, label_below: str) -> Iterator[str]:
    for tick in ticks:
        y = _y(tick, ticks)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{_round(tick)}</text>'
    bottom = HEIGHT - BOTTOM
    yield f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>'
    middle = (TOP + bottom) / 2
    yield f'<text transform="translate(18 {middle})rotate(-90)" text-anchor="middle">{escape(label)}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(label_below)}</text>'


def _round(seconds: float) -> str:
    """The label of a grid line.

    >>> _round(0.0005), _round(0.02), _round(5.0)
    ('0.5 ms', '20 ms', '5 s')
    """
    return f"{seconds * 1e3:g} ms" if seconds < 1 else f"{seconds:g} s"


def _groups(values: Values, series: Sequence[str], ticks: Sequence[float]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / len(values)
    step = FILL * width / len(series)
    bottom = HEIGHT - BOTTOM
    for index, (group, found) in enumerate(values.items()):
        middle = LEFT + (index + 0.5) * width
        yield f'<text x="{middle:.1f}" y="{bottom + 24}" text-anchor="middle">{escape(group)}</text>'
        for number, name in enumerate(series):
            value = found[name]
            if value is None:
                continue
            x, y = middle + (number - (len(series) - 1) / 2) * step, _y(value, ticks)
            shown = escape(f"{group}, {name}: {latency(value)}")
            stem = f'<path stroke-width="2" d="M{x:.1f} {bottom}V{y:.1f}"/>'
            yield f'<g class="s{number}"><title>{shown}</title>{stem}{_mark(number, x, y)}</g>'


def _mark(number: int, x: float, y: float) -> str:
    """The mark of a series: a circle, a square, a diamond, or one of two triangles."""
    r = RADIUS
    outlines = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r + 1:.1f} {y - r + 1:.1f}h{2 * r - 2}v{2 * r - 2}h{2 - 2 * r}z",
        f"M{x - r:.1f} {y:.1f}l{r} {-r}l{r} {r}l{-r} {r}z",
        f"M{x - r:.1f} {y + r - 1:.1f}h{2 * r}l{-r} {1 - 2 * r}z",
        f"M{x - r:.1f} {y - r + 1:.1f}h{2 * r}l{-r} {2 * r - 1}z",
    )
    return f'<path d="{outlines[number]}"/>'
