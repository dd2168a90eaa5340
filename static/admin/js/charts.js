// The last hour as charts: the only module that uses uPlot.

import { milliseconds, short, timeOfDay } from './format.js';

/* global uPlot */

const CHARTS = [
  { title: 'Requests/s', write: short, lines: [['rate', 'requests', '--accent'], ['failures', 'failures', '--bad']] },
  { title: 'Duration', write: milliseconds, lines: [['p50Ms', 'p50', '--good'], ['p95Ms', 'p95', '--accent'], ['p99Ms', 'p99', '--second']] },
  { title: 'Open streams', write: short, lines: [['streams', 'streams', '--accent']] },
  { title: 'Event loop delay', write: milliseconds, lines: [['loopDelayMs', 'delay', '--wait']] },
];

const HEIGHT = 118;
const HALF = 30; // px of half a time: a time nearer to an edge would be cut, or cover the lowest number
const LETTER = 6.5; // px of a character of the axes

export function makeCharts(root) {
  const charts = CHARTS.map((chart) => new Chart(root, chart));
  const observer = new ResizeObserver(() => charts.forEach((chart) => chart.resize()));
  observer.observe(root);
  return {
    show: (model) => charts.forEach((chart) => chart.show(model.points)),
    recolour: () => charts.forEach((chart) => chart.draw()),
  };
}

class Chart {
  constructor(root, { title, write, lines }) {
    this.write = write;
    this.lines = lines;
    this.points = [];
    this.figure = document.createElement('figure');
    this.figure.className = 'chart';
    this.figure.style.margin = '0';
    const heading = document.createElement('h2');
    heading.textContent = title;
    const legend = document.createElement('ul');
    legend.className = 'legend';
    for (const [, label, colour] of lines) {
      const item = document.createElement('li');
      item.textContent = label;
      item.style.setProperty('--key', `var(${colour})`);
      legend.append(item);
    }
    this.canvas = document.createElement('div');
    this.canvas.setAttribute('role', 'img');
    this.title = title;
    const line = document.createElement('div');
    line.className = 'title';
    line.append(heading, ...(lines.length > 1 ? [legend] : []));
    this.figure.append(line, this.canvas);
    root.append(this.figure);
  }

  show(points) {
    this.points = points;
    const data = this.data();
    if (this.plot) this.plot.setData(data);
    else this.draw();
    this.canvas.setAttribute('aria-label', this.said());
  }

  data() {
    return [this.points.map((point) => point.at), ...this.lines.map(([name]) => this.points.map((point) => point[name]))];
  }

  /** The chart in a sentence, for those who do not see the chart. */
  said() {
    const parts = this.lines.map(([name, label]) => {
      const values = this.points.map((point) => point[name]).filter((value) => value !== null);
      if (!values.length) return `${label}: none`;
      return `${label}: now ${this.write(values.at(-1))}, at most ${this.write(Math.max(...values))}`;
    });
    return `${this.title}. ${parts.join('; ')}`;
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  /** Draws anew: uPlot reads colours once. */
  draw() {
    if (!this.points.length) return;
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => resolved(style.getPropertyValue(name));
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: `11px ${style.getPropertyValue('--sans')}` };
    const options = {
      width: this.canvas.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 4, 0, 0],
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.05] } },
      axes: [{ ...axis, space: 76, size: 22, gap: 5, values: times }, { ...axis, size: widest, values: (_, ticks) => ticks.map((tick) => this.write(tick)) }],
      series: [{}, ...this.lines.map(([, label, name]) => ({ label, stroke: colour(name), width: 1.5, points: { show: false }, spanGaps: true }))],
    };
    this.plot = new uPlot(options, this.data(), this.canvas);
  }
}

/** The texts of the axis of time. */
function times(plot, ticks) {
  const width = plot.bbox.width / devicePixelRatio;
  return ticks.map((at) => {
    const place = plot.valToPos(at, 'x');
    return place < HALF || place > width - HALF ? '' : timeOfDay(at);
  });
}

/** The width of the other axis, by the longest text. */
function widest(_, texts) {
  return 8 + LETTER * Math.max(2, ...(texts ?? []).map((text) => text.length));
}

/** A colour as the canvas understands colours: light-dark() is for styles only. */
function resolved(value) {
  const probe = document.createElement('span');
  probe.style.color = value;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
