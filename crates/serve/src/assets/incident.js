// One incident: how bad, why, who was told, who was not and why, and what to do.

import * as api from './api.js';
import { acknowledge, resolve, silence } from './dialogs.js';
import { dialog, h, marked, show, svg } from './dom.js';
import { dated, moment, number, percent, percents, span, t } from './words.js';
import { openTweets } from './tweets.js';

/** The incident in a few words. */
export function headline(incident) {
  const e = incident.evidence;
  switch (e.kind) {
    case 'share': return t('shareHead', percent(e.observed.share), percent(e.expected_share));
    case 'negative_volume': return t('volumeHead', number(e.observed), number(Math.round(e.expected)));
    case 'surge': return t('surgeHead', number(e.observed), number(Math.round(e.expected)));
    case 'quiet': case 'brand_quiet': return t('quietHead', span(e.minutes));
    case 'lag': return t('lagHead', span(e.behind_minutes));
    default: return incident.cause;
  }
}

/** The numbers behind the headline. */
export function detail(incident) {
  const e = incident.evidence;
  if (e.kind === 'share') return t('ofWindow', number(e.observed.negative), number(e.observed.total), span(e.window_minutes));
  if (e.tweets) return t('ofWindow', number(e.tweets.negative), number(e.tweets.total), span((Date.parse(incident.opened_at) - Date.parse(incident.since)) / 60_000 + 1));
  return '';
}

export const brandName = (incident) => (incident.brand === '(stream)' ? t('stream') : incident.brand);

/** Observed against expected share, as one bar from 0 to 100 %. */
export function bullet(incident) {
  const e = incident.evidence;
  if (e.kind !== 'share') return null;
  const [seen, usual, range] = [e.observed.share * 100, e.expected_share * 100, e.expected_interval];
  const picture = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', class: 'bullet', role: 'img', 'aria-label': headline(incident) });
  picture.append(
    svg('rect', { class: 'track', width: 100, height: 10 }),
    svg('rect', { class: 'usual', x: range.low * 100, width: Math.max(0.5, (range.high - range.low) * 100), height: 10 }),
    svg('rect', { class: 'seen', y: 3, width: seen, height: 4 }),
    svg('rect', { class: 'middle', x: usual - 0.25, width: 0.5, height: 10 }));
  return picture;
}

/** The buttons for an incident, and `further` ones. */
export function actions(incident, you, after, further) {
  if (!you.may_act) return h('div.actions', null, further, h('span.quiet', null, t('readOnly')));
  const button = (key, click, kind = '') => h(`button${kind}`, { type: 'button', 'data-key': `${key}-${incident.id}`, click }, t(key));
  return h('div.actions', null,
    !incident.resolved_at && !incident.acknowledged && button('acknowledge', () => acknowledge(incident.id, you, after), '.primary'),
    !incident.resolved_at && button('resolve', () => resolve(incident.id, you, after)),
    button('silence', () => silence(incident.brand === '(stream)' ? null : incident.brand, you, after)),
    further);
}

/** Opens the incident; returns what refreshes it. */
export function openIncident(id, { you, brands, now, onClose, after }) {
  const content = h('div', null, h('p.quiet', null, '…'));
  const box = dialog(`${t('alert')} ${id}`, t('close'), onClose, content);
  box.classList.add('wide');
  const refresh = async () => {
    try {
      const whole = await api.incident(id);
      const changed = async () => { await refresh(); after(); };
      show(content, [whole, t('close')], () => body(whole, { you: you(), brands: brands(), now: now(), changed }));
      box.querySelector('h2').textContent = `${t('alert')} ${id}: ${brandName(whole.incident)}`;
    } catch (error) { content.replaceChildren(h('p.wrong', { role: 'alert' }, error.status === 404 ? t('gone') : t('failed', error.message))); }
  };
  refresh();
  return { id, refresh, close: () => box.close() };
}

function body(whole, { you, brands, now, changed }) {
  const { incident, history, drivers, examples, deliveries } = whole;
  const reason = history.filter((step) => step.kind !== 'acknowledged').pop();
  const readable = brands.includes(incident.brand);
  const end = incident.resolved_at ? Date.parse(incident.resolved_at) : now;
  return [
    h(`p.verdict.${incident.severity}`, null,
      h(`span.badge.${incident.severity}`, null, t(incident.severity)), h('strong', null, headline(incident))),
    bullet(incident),
    h('p', null, [detail(incident), `${t('opened')} ${dated(incident.opened_at)}`,
      `${incident.resolved_at ? `${t('ended')} ${dated(incident.resolved_at)}` : t('stillOpen')} (${span((end - Date.parse(incident.opened_at)) / 60_000)})`,
    ].filter(Boolean).join(' · ')),
    reason && h('p.reason', { lang: 'en' }, reason.note),
    h('p', null, incident.acknowledged
      ? `${t('ackBy', incident.acknowledged.by, dated(incident.acknowledged.at))}${incident.acknowledged.note && `${t('colon')}${incident.acknowledged.note}`}`
      : !incident.resolved_at && t('unacked')),
    actions(incident, you, changed, readable && h('button', { type: 'button', 'data-key': 'read', click: () => openTweets({
      brand: incident.brand, brands, you, label: 'NEGATIVE',
      from: Date.parse(incident.since ?? incident.opened_at) / 1000, to: end / 1000 + 60,
    }) }, t('readTweets'))),
    drivers.terms.length > 0 && section('why', h('ul.chips', null, drivers.terms.map((term) => h('li', null, term.term, h('span.quiet', null, ` ${number(term.tweets)}`))))),
    drivers.themes?.length > 0 && section('themes', h('ol.themes', null, drivers.themes.map((it) => theme(it, examples)))),
    repeats(drivers),
    examples.length > 0 && section('examples', h('ol.tweets', null, examples.map(example)), examples.some((it) => it.marks.length) && h('p.quiet', null, t('whyHint'))),
    section('told', told(deliveries)),
    section('whyNot', whyNot(history, deliveries)),
    section('steps', h('ol.steps', null, history.map((step) => h('li', null,
      h('strong', null, t(`${step.kind}Step`)), ` ${dated(step.at)}${step.who ? ` ${t('by')} ${step.who}` : ''}`,
      step !== reason && step.note && h('div.quiet', { lang: step.who ? null : 'en' }, step.note))))),
  ];
}

const theme = (it, examples) => {
  const typical = examples.find((one) => one.tweet_id === it.tweet_id);
  const most = Math.max(...it.hours);
  const hourly = svg('svg', { viewBox: `0 0 ${it.hours.length} 10`, preserveAspectRatio: 'none', class: 'hourly', role: 'img', 'aria-label': t('hourly', it.hours.map(number).join(', ')) },
    it.hours.map((tweets, hour) => svg('rect', { x: hour + 0.1, y: 10 - 10 * tweets / most, width: 0.8, height: 10 * tweets / most })));
  return h('li', null,
    h('ul.chips', null, it.terms.map((term) => h('li', null, term))),
    hourly,
    h('p.quiet', null, [t('tweetsN', number(it.tweets)), `${t('since')} ${dated(it.began)}`,
      it.first.length > 0 && t('firstBy', it.first.map((one) => `@${one.author.replace(/^@/, '')}${one.followers === null ? '' : ` (${t('followers', number(one.followers))})`}`).join(', ')),
    ].filter(Boolean).join(' · ')),
    typical && h('p.text', { dir: 'auto' }, typical.text));
};

function repeats({ one_tweet_share: share, shared_link: link, repeaters = [] }) {
  const lines = [
    share >= 0.1 && t('oneTweet', percent(share)),
    link && t('sharedLink', link.link, number(link.tweets)),
    ...repeaters.map((it) => t('repeater', it.author.startsWith('#') ? it.author : `@${it.author}`, number(it.tweets))),
  ].filter(Boolean);
  return lines.length > 0 && section('repeats', h('ul', null, lines.map((line) => h('li', null, line))));
}

const section = (title, ...children) => h('section', null, h('h3', null, t(title)), children);

const example = (it) => h('li', null, h('p.text', { dir: 'auto' }, marked(it.text, it.marks)), h('p.quiet', null, [
  it.author && `@${String(it.author).replace(/^@/, '')}`, dated(it.created_at),
  it.reach && t('reach', number(it.reach)), it.alike > 1 && t('posted', number(it.alike)),
].filter(Boolean).join(' · ')));

function told(deliveries) {
  if (!deliveries.length) return h('p', null, t('nobody'));
  return h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': t('told') }, h('table', null, h('tbody', null, deliveries.map((it) => h('tr', null,
    h('th', { scope: 'row' }, it.receiver), h('td', null, t(`${it.transition}Step`)),
    h('td', null, h(`span.state.${it.state}`, null, t(it.state)), it.ended_at && ` ${moment(it.ended_at)}`),
    h('td.quiet', null, it.error && `${t('attempts', it.attempts)}${t('colon')}${it.error}`))))));
}

function whyNot(history, deliveries) {
  const steps = history.filter((step) => step.not_notified.length);
  if (!steps.length) return h('p', null, t(deliveries.length ? 'everybody' : 'noReceiver'));
  return [h('p.quiet', null, t('whyNotIntro')), h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': t('whyNot') }, h('table', null, h('tbody', null,
    steps.flatMap((step) => step.not_notified.map((it) => h('tr', null,
      h('th', { scope: 'row' }, it.receiver), h('td', null, `${t(`${step.kind}Step`)} ${moment(step.at)}`),
      h('td', null, t('reasons')[it.reason] ?? it.reason, it.detail && h('span.quiet', null, ` (${it.detail})`))))))))];
}
