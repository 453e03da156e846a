// A brand's shares over time, drawn by uPlot over the table that says the same.

import { h } from './dom.js';
import { clock, day, moment, number, percent, percents, t, chosen } from './words.js';

const STEP_S = { minute: 60, hour: 3600, day: 86_400 };
/** A point of the curve covers so many steps: with few tweets, a shorter share is mostly noise. */
const ROLLING = { minute: 60, hour: 3, day: 1 };
/** With fewer tweets in that time there is no point. */
const TWEETS_MIN = 10;
const HEIGHT = 190;

const LOW = 1, HIGH = 2, EXPECTED = 3, TOTAL = 4, NEGATIVE = 5, SHARE = 6;

/** Where the share of so many tweets lies on 95 of 100 normal days: how far the brand's share itself
 * moves, and how far chance moves the share of a sample. */
export function usual({ share, low, high }, tweets) {
  const chance = 1.96 * Math.sqrt(share * (1 - share) / Math.max(tweets, TWEETS_MIN));
  return [Math.max(0, share - Math.hypot(share - low, chance)), Math.min(1, share + Math.hypot(high - share, chance))];
}

/** The columns of uPlot, one row a step from `from` to `to` (seconds), without gaps. */
export function columns(points, step, from, to) {
  const length = STEP_S[step];
  // What comes before `from` is only for the first points of the curve.
  const lead = ROLLING[step];
  const start = Math.floor(from / length - lead) * length;
  const rows = Math.max(1 + lead, Math.ceil((to - start) / length));
  const columns = Array.from({ length: 7 }, () => new Array(rows).fill(null));
  for (let row = 0; row < rows; row++) {
    columns[0][row] = start + row * length + length / 2;
    columns[TOTAL][row] = columns[NEGATIVE][row] = 0;
  }
  for (const point of points) {
    const row = Math.floor((Date.parse(point.at) / 1000 - start) / length);
    if (row < 0 || row >= rows) continue;
    columns[TOTAL][row] = point.tweets;
    columns[NEGATIVE][row] = point.negative;
    if (point.expected) {
      columns[LOW][row] = point.expected.low;
      columns[HIGH][row] = point.expected.high;
      columns[EXPECTED][row] = point.expected.share;
    }
  }
  let total = 0, negative = 0;
  for (let row = 0; row < rows; row++) {
    total += columns[TOTAL][row];
    negative += columns[NEGATIVE][row];
    const gone = row - ROLLING[step];
    if (gone >= 0) { total -= columns[TOTAL][gone]; negative -= columns[NEGATIVE][gone]; }
    if (total >= TWEETS_MIN) columns[SHARE][row] = negative / total;
    const share = columns[EXPECTED][row];
    if (share !== null) [columns[LOW][row], columns[HIGH][row]] = usual({ share, low: columns[LOW][row], high: columns[HIGH][row] }, total);
  }
  return columns.map((column) => column.slice(lead));
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A chart in `host`. `onZoom(from, to)` and `onPoint(from, to)` get seconds, `onIncident` a number. */
export function chart(host, { onZoom, onPoint }) {
  let plot = null, shown = null, isOver = false;
  const tip = h('div.tip', { 'aria-hidden': 'true' });
  const spoken = h('div.unseen', { 'aria-live': 'polite' });
  host.append(tip, spoken);

  const lines = (row) => {
    const [data, point] = [plot.data, shown.byRow.get(row)];
    const all = [
      moment((data[0][row] - STEP_S[shown.step] / 2) * 1000),
      `${percent(data[SHARE][row])} ${t('negative')} (${t('rolling')[shown.step]})`,
    ];
    if (data[EXPECTED][row] !== null) all.push(`${t('expected')} ${percent(data[EXPECTED][row])}, ${t('legendBand')} ${percents(data[LOW][row], data[HIGH][row])}`);
    all.push(`${number(data[NEGATIVE][row])} / ${number(data[TOTAL][row])} ${t('tweets').toLowerCase()}`);
    if (point?.corrected) all.push(`${t('interval')}${t('colon')}${percent(point.corrected.share)} (${percents(point.corrected.low, point.corrected.high)})`);
    return all;
  };

  const showTip = () => {
    const row = plot?.cursor.idx;
    if (!isOver || row === null || row === undefined) { tip.hidden = true; return; }
    tip.hidden = false;
    tip.replaceChildren(...lines(row).map((line, n) => h(n ? 'div' : 'strong', null, line)));
    const left = plot.valToPos(plot.data[0][row], 'x') + plot.over.offsetLeft;
    tip.style.left = `${Math.min(Math.max(0, left + 14), host.clientWidth - tip.offsetWidth - 2)}px`;
    if (left + 14 + tip.offsetWidth > host.clientWidth) tip.style.left = `${Math.max(0, left - 14 - tip.offsetWidth)}px`;
  };

  const regions = (u) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    for (const incident of shown.incidents) {
      const begin = Date.parse(incident.since ?? incident.opened_at) / 1000;
      const end = incident.resolved_at ? Date.parse(incident.resolved_at) / 1000 : shown.to;
      if (end < shown.from || begin > shown.to) continue;
      const left = Math.max(u.valToPos(begin, 'x', true), bbox.left);
      const right = Math.max(Math.min(u.valToPos(end, 'x', true), bbox.left + bbox.width), left + 3 * ratio);
      const isChosen = incident.id === shown.selected;
      ctx.save();
      ctx.fillStyle = color(isChosen ? 'region-chosen' : 'region');
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.fillStyle = color('negative');
      ctx.fillRect(left, bbox.top, right - left, (isChosen ? 4 : 2) * ratio);
      ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
      ctx.textBaseline = 'top';
      ctx.textAlign = 'left';
      ctx.fillText(`${incident.id}`, left + 3 * ratio, bbox.top + 5 * ratio);
      ctx.restore();
    }
  };

  const pick = (row) => {
    if (row === null || row === undefined) return;
    const half = STEP_S[shown.step] / 2, middle = plot.data[0][row];
    onPoint(middle + half - ROLLING[shown.step] * half * 2, middle + half);
  };

  const build = () => {
    plot?.destroy();
    const muted = color('muted'), grid = color('line'), font = '11px system-ui, sans-serif';
    const line = (stroke, more) => ({ stroke, points: { show: false }, ...more });
    const bars = (fill) => ({ scale: 'n', fill, stroke: fill, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.86, 60] }) });
    plot = new uPlot({
      width: host.clientWidth, height: HEIGHT, legend: { show: false },
      tzDate: (at) => (chosen.zone === 'UTC' ? uPlot.tzDate(new Date(at * 1000), 'Etc/UTC') : new Date(at * 1000)),
      cursor: { sync: { key: 'brands', setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
      scales: {
        x: { time: true, range: () => [shown.from, shown.to] },
        y: { range: [0, 1] },
        n: { range: (u, low, high) => [0, Math.max(1, high) * 3.2] },
      },
      axes: [
        { stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 26, space: 70,
          values: (u, splits, axis, space, increment) => splits.map((at) => (increment >= 86_400 || isMidnight(at) ? day : clock)(at * 1000)) },
        { stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 42,
          splits: [0, 0.25, 0.5, 0.75, 1], values: (u, splits) => splits.map((share, n) => (n % 2 ? '' : percent(share))) },
      ],
      series: [
        {},
        line('transparent', { width: 0 }), line('transparent', { width: 0 }),
        line(color('expected'), { width: 1.5, dash: [5, 4] }),
        bars(color('all')), bars(color('negative')),
        line(color('ink'), { width: 2 }),
      ],
      bands: [{ series: [HIGH, LOW], fill: color('band') }],
      hooks: {
        drawClear: [regions],
        setCursor: [showTip],
        setSelect: [(u) => {
          if (u.select.width < 8) return;
          onZoom(u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x'));
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }],
      },
    }, shown.columns, host);
    let pressed = null;
    plot.over.addEventListener('mousedown', (event) => { pressed = event.clientX; });
    plot.over.addEventListener('click', (event) => { if (pressed !== null && Math.abs(event.clientX - pressed) < 5) pick(plot.cursor.idx); });
    plot.over.addEventListener('mouseenter', () => { isOver = true; });
    plot.over.addEventListener('mouseleave', () => { isOver = false; showTip(); });
  };

  host.addEventListener('keydown', (event) => {
    if (!plot) return;
    const last = plot.data[0].length - 1;
    const row = plot.cursor.idx ?? last;
    const to = { ArrowLeft: Math.max(0, row - 1), ArrowRight: Math.min(last, row + 1), Home: 0, End: last }[event.key];
    if (to !== undefined) {
      isOver = true;
      plot.setCursor({ left: plot.valToPos(plot.data[0][to], 'x'), top: 20 });
      spoken.textContent = lines(to).join(', ');
    } else if (event.key === 'Enter') {
      pick(row);
    } else if (event.key === '+') {
      const middle = plot.data[0][row], quarter = (shown.to - shown.from) / 4;
      onZoom(Math.max(shown.from, middle - quarter), Math.min(shown.to, middle + quarter));
    } else return;
    event.preventDefault();
  });
  host.addEventListener('blur', () => { isOver = false; if (plot) showTip(); });
  new ResizeObserver(() => { if (plot && host.clientWidth) plot.setSize({ width: host.clientWidth, height: HEIGHT }); }).observe(host);

  return {
    /** Shows `points`; a full redraw only where colours or words may have changed. */
    update(next, isAnew) {
      const length = STEP_S[next.step];
      const start = Math.floor(next.from / length) * length;
      shown = { ...next, columns: columns(next.points, next.step, next.from, next.to) };
      shown.byRow = new Map(next.points.map((point) => [Math.floor((Date.parse(point.at) / 1000 - start) / length), point]));
      if (!plot || isAnew) build();
      else plot.setData(shown.columns);
    },
  };
}

/** Whether a moment is the start of a day in the chosen zone. */
const isMidnight = (at) => clock(at * 1000) === '00:00';

/** The same as a table, newest first. */
export function table(points, caption) {
  const head = ['time', 'tweets', 'negative', 'share', 'expected', 'range', 'interval'];
  return h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', null, h('caption', null, caption),
      h('thead', null, h('tr', null, head.map((key) => h('th', { scope: 'col' }, t(key))))),
      h('tbody', null, points.slice().reverse().map((point) => h('tr', null,
        h('th', { scope: 'row' }, moment(point.at)),
        h('td', null, number(point.tweets)), h('td', null, number(point.negative)), h('td', null, percent(point.share)),
        h('td', null, percent(point.expected?.share)),
        h('td', null, point.expected ? percents(point.expected.low, point.expected.high) : '–'),
        h('td', null, point.corrected ? `${percent(point.corrected.share)} (${percents(point.corrected.low, point.corrected.high)})` : '–'))))));
}
