// The page: loads what it shows, follows the daemon's events, and keeps the reader's choices.

import * as api from './api.js';
import { h, show } from './dom.js';
import { openIncident } from './incident.js';
import { attention, behind, brandRows, history } from './overview.js';
import { openTweets } from './tweets.js';
import { voice } from './voice.js';
import { chosen, moment, t, zoneName } from './words.js';

const PERIODS = { day: 86_400, week: 7 * 86_400, month: 30 * 86_400 };
/** However many events come, the page reads no more often, in milliseconds. */
const READ_EVERY = 3000;
/** A chart is read when it comes so near to what is seen, in heights of the window. */
const NEAR = 0.5;

const state = {
  brands: [], incidents: [], details: {}, shares: {}, voices: [], you: { name: null, may_act: false }, totals: {},
  period: 'week', zoomed: null, from: 0, to: 0, now: Date.now(), selected: null,
  refresh: () => read(), zoom,
};
const rows = new Map();
/** The newest reading of each brand's chart. */
const charts = new Map();
let readings = 0;
const comes = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) readChart(target.dataset.brand).catch(lost);
}, { rootMargin: `${100 * NEAR}% 0px` });
let opened = null, connection = 'live', reading = null, again = false, lastRead = -READ_EVERY;

const parts = {};
const part = (name, element) => (parts[name] = element);

function build() {
  const main = h('main', { id: 'app' },
    h('header', null, part('title', h('div.title')), part('tools', h('div.tools'))),
    h('p.unseen', { id: 'said', role: 'status' }),
    h('section', { id: 'attention', hidden: true }, part('nowTitle', h('h2')), part('attention', h('div.alerts-open'))),
    h('section', { id: 'brands' }, part('brandsHead', h('div.section-head')), part('legend', h('div.legend')), part('brands', h('div.rows'))),
    h('section', { id: 'voice', hidden: true }, part('voiceTitle', h('h2')), part('voice', h('div'))),
    h('section', { id: 'history' }, part('historyTitle', h('h2')), part('history', h('div'))),
    h('section', { id: 'behind' }, part('behindTitle', h('h2')), part('behind', h('div.items'))));
  document.body.append(main);
  document.querySelector('#plain')?.remove();
}

/** What follows from the reader's choices and the state, besides the lists. */
function frame() {
  document.documentElement.lang = chosen.language;
  const open = state.incidents.filter((it) => !it.resolved_at).length;
  document.title = open ? `(${open}) Monitor` : 'Monitor';
  // Before the first answer nobody knows.
  const known = 'tweets_scored' in state.totals;
  show(parts.title, [open, known, connection, state.now, chosen.language, chosen.zone],
    h('h1', null, 'Monitor'), known && h(`p.status.${open ? 'trouble' : 'calm'}`, null, open ? t('trouble', open) : `✓ ${t('calm')}`),
    h(`p.connection.${connection}`, { role: 'status' }, `● ${t(connection)}`), state.now && h('p.quiet', null, t('updated', moment(state.now))));
  const choice = (key, label, options) => h('label', null, label, h('select', { 'data-key': key, name: key, change: (event) => choose(key, event.target.value) },
    options.map(([value, word]) => h('option', { value, selected: value === chosen[key] }, word))));
  show(parts.tools, [chosen.language, chosen.zone, chosen.theme, state.you, state.brands.map((it) => it.name)],
    h('form.find', { role: 'search', submit: (event) => { event.preventDefault(); search(new FormData(event.target).get('find')); } },
      h('input', { type: 'search', name: 'find', 'aria-label': t('search'), placeholder: t('search'), maxlength: 200, 'data-key': 'find' })),
    choice('language', t('language'), [['en', 'English'], ['fr', 'Français']]),
    choice('zone', t('zone'), [['local', t('local')], ['UTC', 'UTC']]),
    choice('theme', t('theme'), [['auto', t('auto')], ['light', t('light')], ['dark', t('dark')]]),
    state.you.name && h('form', { method: 'post', action: '/logout' }, h('button.plainly', { type: 'submit' }, `${t('signOut')} (${state.you.name})`)));
  show(parts.nowTitle, t('now'), t('now'));
  show(parts.voiceTitle, t('voice'), t('voice'));
  show(parts.historyTitle, t('history'), t('history'));
  show(parts.behindTitle, t('behind'), t('behind'));
  show(parts.brandsHead, [state.period, state.zoomed, chosen.language, chosen.zone],
    h('h2', null, t('brands')),
    h('div.periods', { role: 'group', 'aria-label': t('period') }, Object.keys(PERIODS).map((key) => h('button', {
      type: 'button', 'data-key': `period-${key}`, 'aria-pressed': String(!state.zoomed && state.period === key), click: () => { state.period = key; zoom(null); },
    }, t(key))), state.zoomed && h('button.primary', { type: 'button', 'data-key': 'unzoom', click: () => zoom(null) }, t('unzoom'))),
    h('p.quiet', null, `${t('chartHint')} (${zoneName()})`));
  show(parts.legend, chosen.language, ['Share', 'Expected', 'Band', 'Bars', 'Alert'].map((key) => h(`span.key.${key.toLowerCase()}`, null, t(`legend${key}`))));
  if (known && !state.brands.length) show(parts.brands, chosen.language, h('p.quiet.empty', null, t('noBrands')));
  else parts.brands.querySelector('.empty')?.remove();
}

function choose(key, value) {
  chosen.set(key, value);
  if (key === 'theme') {
    if (value === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
  }
  draw(true);
  behind(state, parts.behind);
}

function search(q) {
  const brands = state.brands.map((it) => it.name);
  const busiest = state.brands.find((it) => it.open_incidents.length) ?? state.brands[0];
  if (busiest) openTweets({ brand: busiest.name, brands, q, you: state.you, from: state.from, to: state.to });
}

/** Shows `from` to `to` (seconds) in all charts, or the whole period. */
function zoom(from, to) {
  state.zoomed = from === null ? null : [from, to];
  // What was read is of another time: a chart keeps it until the new one is there.
  state.shares = {};
  range();
  frame();
  readTime().catch(lost);
}

/** Sets the time shown. What was read before is old then. */
function range() {
  const end = Math.ceil(state.now / 60_000) * 60 + 60;
  [state.from, state.to] = state.zoomed ?? [end - PERIODS[state.period], end];
  readings += 1;
}

const iso = (seconds) => new Date(seconds * 1000).toISOString();

/** Reads what depends on the time shown. Charts that are far from what is seen are read when they come near. */
async function readTime() {
  const isNear = ([, { element }]) => {
    const { top, bottom } = element.getBoundingClientRect(), more = NEAR * innerHeight;
    return bottom >= -more && top <= innerHeight + more;
  };
  const now = readings;
  const voices = api.voices({ from: iso(state.from), to: iso(state.to) }).then(({ brands }) => {
    if (now !== readings) return;
    state.voices = brands;
    voice(state, parts.voice);
  });
  await Promise.all([voices, ...[...rows].filter(isNear).map(([name]) => readChart(name))]);
}

/** Reads a brand's shares once for each reading, and draws them. */
function readChart(name) {
  const known = charts.get(name);
  if (known?.reading === readings) return known.drawn;
  // Before the first reading there is no time.
  if (!readings) return Promise.resolve();
  const drawn = (async (now) => {
    if ((state.brands.find((it) => it.name === name)?.share ?? null) === null) return;
    const step = state.to - state.from <= 6 * 3600 ? 'minute' : 'hour';
    // A rolling share needs what came before its first point.
    const before = step === 'minute' ? 3600 : 3 * 3600;
    const shares = await api.shares(name, { from: iso(state.from - before), to: iso(state.to), step });
    if (now !== readings) return;
    state.shares[name] = shares;
    rows.get(name)?.draw(false);
  })(readings);
  charts.set(name, { reading: readings, drawn });
  // What failed is tried again.
  drawn.catch(() => { if (charts.get(name)?.drawn === drawn) charts.delete(name); });
  return drawn;
}

function draw(isAnew) {
  frame();
  attention(state, parts.attention);
  brandRows(state, parts.brands, rows, comes);
  for (const row of rows.values()) row.draw(isAnew);
  voice(state, parts.voice);
  history(state, parts.history);
}

function lost(error) {
  connection = 'lost';
  frame();
  console.warn(error);
}

/** Reads everything and shows it; while that goes on, another call waits for one more. */
async function read() {
  if (reading) { again = true; return reading; }
  reading = (async () => {
    try {
      const [all, { incidents }] = await Promise.all([api.brands(), api.incidents()]);
      const { brands, you, ...totals } = all;
      Object.assign(state, { brands, you, totals, incidents });
      const newest = brands.map((it) => Date.parse(it.newest_minute ?? '')).filter(Number.isFinite);
      state.now = newest.length ? Math.max(...newest) : Date.now();
      const open = incidents.filter((it) => !it.resolved_at).slice(0, 10);
      const details = await Promise.all(open.map(async ({ id }) => [id, await api.incident(id)]));
      state.details = Object.fromEntries(details);
      connection = 'live';
      range();
      draw(false);
      await readTime();
      await Promise.all([behind(state, parts.behind), opened?.refresh()]);
    } catch (error) {
      lost(error);
    }
  })();
  await reading;
  reading = null;
  lastRead = performance.now();
  document.documentElement.dataset.ready = 'true';
  if (again) { again = false; setTimeout(read, READ_EVERY); }
}

/** Opens the incident that the address names, as the link in a mail does. */
function follow() {
  const id = Number(/^#incident-(\d+)$/.exec(location.hash)?.[1] ?? NaN);
  state.selected = Number.isNaN(id) ? null : id;
  if (opened && opened.id !== id) { const old = opened; opened = null; old.close(); }
  if (state.selected !== null && !opened) {
    opened = openIncident(id, {
      you: () => state.you, brands: () => state.brands.map((it) => it.name), now: () => state.now, after: read,
      onClose: () => { if (opened?.id === id) { opened = null; leave(); } },
    });
  }
  draw(false);
}

/** Takes the incident out of the address, but keeps it highlighted in the lists. */
function leave() {
  const kept = state.selected;
  window.history.replaceState(null, '', location.pathname + location.search);
  state.selected = kept;
}

build();
frame();
await read();
follow();
addEventListener('hashchange', follow);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => draw(true));

let waits = null;
/** Reads soon, but not more often than every few seconds, and not while nobody looks. */
function soon() {
  if (waits || document.hidden) { again = document.hidden; return; }
  waits = setTimeout(() => { waits = null; read(); }, Math.max(0, lastRead + READ_EVERY - performance.now()));
}
document.addEventListener('visibilitychange', () => { if (!document.hidden && again) { again = false; soon(); } });
api.follow(soon, (now) => { if (connection !== now) { connection = now; frame(); } });
