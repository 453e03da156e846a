// The parts of the page: what needs attention, brands with aligned charts, alerts, and behind the
// scenes.

import * as api from './api.js';
import { chart, table, usual } from './chart.js';
import { attempt, field, nameField, silence } from './dialogs.js';
import { h, show } from './dom.js';
import { drift } from './drift.js';
import { actions, brandName, bullet, detail, headline } from './incident.js';
import { labelSample, openTweets } from './tweets.js';
import { chosen, dated, languageName, moment, number, percent, percents, span, t } from './words.js';

/** A card for each open incident, worst first. */
export function attention(state, host) {
  const rank = { critical: 0, warning: 1, notice: 2 };
  const open = state.incidents.filter((it) => !it.resolved_at).sort((a, b) => rank[a.severity] - rank[b.severity] || Date.parse(b.opened_at) - Date.parse(a.opened_at));
  show(host, [open, state.details, state.selected, state.you, chosen.language, chosen.zone, Math.floor(state.now / 60_000)],
    () => open.map((incident) => card(incident, state)));
  host.closest('section').hidden = open.length === 0;
}

function card(incident, state) {
  const whole = state.details[incident.id];
  const states = new Map();
  for (const it of whole?.deliveries ?? []) if (states.get(it.receiver) !== 'sent') states.set(it.receiver, it.state);
  const receivers = [...states].map(([receiver, word]) => (word === 'sent' ? receiver : `${receiver} (${t(word)})`));
  const quiet = (whole?.history ?? []).some((step) => step.not_notified.length);
  return h(`article.alert.${incident.severity}${incident.id === state.selected ? '.chosen' : ''}`, { id: `card-${incident.id}` },
    h('div.alert-head', null,
      h('h3', null, h('a', { href: `#incident-${incident.id}`, 'data-key': `card-${incident.id}` }, brandName(incident))),
      h(`span.badge.${incident.severity}`, null, t(incident.severity))),
    h('p.big', null, headline(incident)),
    bullet(incident),
    h('p.quiet', null, `${t('since')} ${moment(incident.since ?? incident.opened_at)} (${span((state.now - Date.parse(incident.since ?? incident.opened_at)) / 60_000)})`, detail(incident) && ` · ${detail(incident)}`),
    whole?.drivers.terms.length > 0 && h('p', null, `${t('themes')}${t('colon')}`, h('strong', null, whole.drivers.terms.slice(0, 5).map((term) => term.term).join(', '))),
    h('p', null, receivers.length ? `${t('told')}${t('colon')}${receivers.join(', ')}` : t('nobody'), quiet && [' · ', h('a', { href: `#incident-${incident.id}` }, t('whyNot'))]),
    incident.acknowledged && h('p.ok', null, `✓ ${t('ackBy', incident.acknowledged.by, moment(incident.acknowledged.at))}`),
    h('div.alert-foot', null, h('a.button', { href: `#incident-${incident.id}`, 'data-key': `details-${incident.id}` }, t('details')), actions(incident, state.you, state.refresh)));
}

/** A row for each brand: its numbers beside its chart. Rows are kept, so that charts are not drawn
 * anew at each change; `comes` observes them. */
export function brandRows(state, host, rows, comes) {
  const names = state.brands.map((brand) => brand.name);
  for (const [name, row] of rows) if (!names.includes(name)) { comes.unobserve(row.element); row.element.remove(); rows.delete(name); }
  state.brands.forEach((brand, place) => {
    if (!rows.has(brand.name)) {
      rows.set(brand.name, makeRow(brand.name, state));
      comes.observe(rows.get(brand.name).element);
    }
    const row = rows.get(brand.name);
    if (host.children[place] !== row.element) host.insertBefore(row.element, host.children[place] ?? null);
    show(row.facts, [brand, state.you, chosen.language], () => facts(brand, state));
    row.element.classList.toggle('open', brand.open_incidents.length > 0);
  });
}

function makeRow(name, state) {
  const facts = h('div.facts');
  const canvas = h('div.chart', { tabindex: 0, role: 'application', 'aria-roledescription': 'chart' });
  const inTable = h('div', null);
  const details = h('details.as-table', { toggle: () => row.drawTable() }, h('summary', null, t('table')), inTable);
  const row = {
    facts, canvas, element: h('article.brand', { 'data-brand': name }, facts, h('div.plot', null, canvas, details)),
    draw(isAnew) {
      const data = state.shares[name];
      // Colours and words may change while its shares are not there.
      row.isOld ||= isAnew;
      if (!data) return;
      canvas.setAttribute('aria-label', t('chart', name));
      details.firstChild.textContent = t('table');
      row.chart ??= chart(canvas, {
        onZoom: state.zoom,
        onPoint: (from, to) => openTweets({ brand: name, brands: state.brands.map((it) => it.name), from, to, you: state.you }),
      });
      const incidents = state.incidents.filter((it) => it.brand === name);
      row.chart.update({ ...data, from: state.from, to: state.to, incidents, selected: state.selected }, row.isOld);
      row.isOld = false;
      row.drawTable();
    },
    drawTable() {
      const data = state.shares[name];
      if (details.open && data) show(inTable, [data, chosen.language, chosen.zone], () => table(data.points, t('chart', name)));
    },
  };
  return row;
}

function facts(brand, state) {
  const { expected, share, corrected } = brand;
  const name = h('h3', null, brand.name);
  if (share === null) return [name, h('p.quiet', null, t('noTweets'))];
  const [low, high] = expected ? usual(expected, brand.total) : [];
  const place = expected && (share > high ? 'above' : share < low ? 'below' : 'within');
  const unjudged = Object.values(brand.not_judged).reduce((sum, n) => sum + n, 0);
  return [name,
    h('p.share', null, h('b', null, percent(share)), ` ${t('negative')} `, h('span.quiet', null, t('ofTweets', number(brand.total)))),
    h(`p.place.${place ?? 'unknown'}`, null, place ? `${t(place)} (${percents(low, high)})` : t('noBaseline')),
    corrected && h('p.quiet', null, `${t('corrected')}${t('colon')}${percent(corrected.share)} (${t('likely')} ${percents(corrected.low, corrected.high)})`),
    unjudged > 0 && h('p.quiet', null, t('notJudged', number(unjudged))),
    h('div.actions', null,
      h('button', { type: 'button', 'data-key': `read-${brand.name}`, click: () => openTweets({ brand: brand.name, brands: state.brands.map((it) => it.name), you: state.you, from: state.from, to: state.to }) }, t('readTweets')),
      state.you.may_act && h('button.plainly', { type: 'button', 'data-key': `silence-${brand.name}`, click: () => silence(brand.name, state.you, state.refresh) }, t('silence')))];
}

/** All alerts, newest first. */
export function history(state, host) {
  show(host, [state.incidents, state.selected, chosen.language, chosen.zone], () => {
    if (!state.incidents.length) return h('p.quiet', null, t('noAlerts'));
    return h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': t('history') }, h('table.alerts', null,
      h('thead', null, h('tr', null, ['alert', 'brand', 'what', 'when', 'state'].map((key) => h('th', { scope: 'col' }, t(key))))),
      h('tbody', null, state.incidents.slice(0, 100).map((it) => h(`tr${it.id === state.selected ? '.chosen' : ''}`, { id: `row-${it.id}` },
        h('td', null, h('a', { href: `#incident-${it.id}`, 'data-key': `row-${it.id}` }, `${it.id}`)),
        h('th', { scope: 'row' }, brandName(it)),
        h('td', null, h(`span.badge.${it.severity}`, null, t(it.severity)), ' ', headline(it)),
        h('td', null, dated(it.opened_at)),
        h('td', null, it.resolved_at ? `${t('ended')}, ${t('lasted')} ${span((Date.parse(it.resolved_at) - Date.parse(it.opened_at)) / 60_000)}` : h('strong', null, t('stillOpen')),
          it.acknowledged && h('div.quiet', null, t('ackBy', it.acknowledged.by, moment(it.acknowledged.at)))))))));
  });
}

/** Models, languages, delivery, silences and labels. */
export async function behind(state, host) {
  const [models, deliveries, silences, samples, labels, compared] = await Promise.all([api.models(), api.deliveries(), api.silences(), api.samples(), api.labels(), api.drift()]);
  const languages = {};
  for (const brand of state.brands) for (const [code, n] of Object.entries(brand.not_judged)) languages[code] = (languages[code] ?? 0) + n;
  const now = models.switches[models.switches.length - 1]?.model;
  const again = () => behind(state, host);
  const item = (title, ...content) => h('section.item', null, h('h3', null, t(title)), content);
  // What somebody is typing or choosing is not taken away.
  if (host.contains(document.activeElement) && ['INPUT', 'SELECT'].includes(document.activeElement.tagName)) return;
  show(host, [models, deliveries, silences, samples, labels, compared, languages, state.you, state.totals, chosen.language, chosen.zone], () => [
    item('deliveries', h('p', null, `${number(deliveries.pending)} ${t('pending')}, ${number(deliveries.dead)} ${t('dead')}`),
      deliveries.given_up.length > 0 && h('ul', null, deliveries.given_up.map((it) => h('li', null, `${it.receiver}: ${it.error}`, h('span.quiet', null, ` ${dated(it.at)}`))))),
    item('parts', h('ul.parts', null, Object.entries(deliveries.parts).map(([part, word]) => h(`li.${word === 'ready' ? 'good' : 'bad'}`, null, `${part}: ${word === 'ready' ? t('ready') : word}`))),
      h('p.quiet', null, t('totals', number(state.totals.tweets_scored), number(state.totals.dead_letters)))),
    item('models', h('ul', null, models.models.map((it) => h('li', null, h('strong', null, it.model), it.model === now && ` (${t('scoresNow')})`,
      ` · ${it.languages.map(languageName).join(', ') || t('allLanguages')}`, it.finds !== null && h('div.quiet', null, t('modelLine', percent(it.finds), percent(it.mistakes))))))),
    item('drift', drift(compared)),
    item('languages', Object.keys(languages).length ? h('p', null, Object.entries(languages).sort((a, b) => b[1] - a[1]).map(([code, n]) => `${languageName(code)} ${number(n)}`).join(', ')) : h('p.quiet', null, t('none'))),
    item('silences', silences.silences.length ? h('ul', null, silences.silences.map((it) => h('li', null, h('strong', null, it.brand ?? t('everyBrand')), ` ${t('until')} ${dated(it.ends_at)} ${t('by')} ${it.by}${t('colon')}${it.reason} `,
      state.you.may_act && h('button.plainly', { type: 'button', click: () => attempt(() => api.endSilence(it.id), again) }, t('endNow'))))) : h('p.quiet', null, t('none'))),
    item('samples', h('p.quiet', null, t('samplesHint')), state.you.may_act && sampleForm(state, again),
      h('ul', null, samples.samples.slice(0, 5).map((it) => h('li', null, `${it.brand}, ${dated(it.from)}${t('colon')}${t('ofLabelled', number(it.labelled), number(it.tweets))} · ${it.by} `,
        state.you.may_act && it.labelled < it.tweets && h('button.plainly', { type: 'button', 'data-sample': it.id, click: () => labelSample(it.id, state.you, again) }, t('labelNext')))))),
    item('corrections', labels.labels.length ? h('ul', null, labels.labels.slice(0, 8).map((it) => h('li', null, h('span.cut', { dir: 'auto' }, it.text), h('span.quiet', null, t('labelledBy', t(it.label), it.by, dated(it.at)))))) : h('p.quiet', null, t('none'))),
  ]);
}

function sampleForm(state, after) {
  const form = h('form.filters', {
    submit: (event) => {
      event.preventDefault();
      const { brand, tweets, by } = Object.fromEntries(new FormData(form));
      chosen.set('name', by);
      const iso = (seconds) => new Date(seconds * 1000).toISOString();
      document.activeElement.blur();
      attempt(() => api.drawSample({ brand, from: iso(state.from), to: iso(state.to), tweets: Number(tweets), by }), after);
    },
  },
  field('sample-brand', t('brand'), {}, h('select', { id: 'field-sample-brand', name: 'brand' }, state.brands.map((it) => h('option', null, it.name)))),
  field('tweets', t('howMany'), { type: 'number', min: 1, max: 1000, value: 200, required: true }),
  nameField(state.you), h('button', { type: 'submit' }, t('draw')));
  return form;
}
