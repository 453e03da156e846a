// Tweets to read: search, near-duplicates folded, why the model thinks so, and labels.

import * as api from './api.js';
import { attempt, field, nameField } from './dialogs.js';
import { dialog, h, marked } from './dom.js';
import { chosen, dated, number, percent, t } from './words.js';

const LABELS = ['NEGATIVE', 'NEUTRAL', 'POSITIVE'];
const iso = (seconds) => (seconds === undefined ? undefined : new Date(seconds * 1000).toISOString());

/** Opens the tweets of a brand between two times in seconds; both may be missing. */
export function openTweets({ brand, brands, from, to, label = '', q = '', you }) {
  const list = h('ol.tweets');
  const state = h('p.quiet', { role: 'status' });
  const more = h('button', { type: 'button', hidden: true, click: () => load(true) }, t('more'));
  const select = (name, text, options, value) => field(name, text, {}, h('select', { id: `field-${name}`, name },
    options.map(([key, word]) => h('option', { value: key, selected: key === value }, word))));
  const form = h('form.filters', { role: 'search', submit: (event) => { event.preventDefault(); load(false); }, change: () => load(false) },
    select('brand', t('brand'), brands.map((name) => [name, name]), brand),
    select('label', t('called'), [['', t('anyLabel')], ...LABELS.map((it) => [it, t(it)])], label),
    field('q', t('search'), { type: 'search', value: q, placeholder: t('searchHint'), maxlength: 200 }),
    h('button.primary', { type: 'submit' }, t('search')));
  const when = from === undefined ? null : h('p.quiet', null, `${dated(from * 1000)} – ${dated(to * 1000)}`);
  const box = dialog(t('tweetsOf', brand), t('close'), null, form, when, state, list, more);
  box.classList.add('wide');
  let cursor = null, asked = 0;

  async function load(isMore) {
    const mine = ++asked;
    const values = Object.fromEntries(new FormData(form));
    box.querySelector('h2').textContent = t('tweetsOf', values.brand);
    try {
      const found = await api.tweets({ ...values, from: iso(from), to: iso(to), cursor: isMore ? cursor : null });
      if (mine !== asked) return;
      if (!isMore) list.replaceChildren();
      list.append(...found.tweets.map((tweet) => tweetItem(tweet, you)));
      cursor = found.next;
      more.hidden = !cursor;
      state.textContent = list.children.length ? t('found', number(list.children.length)) : t('nothing');
    } catch (error) { state.textContent = t('failed', error.message); }
  }
  load(false);
}

/** One tweet, with what can be done about it. */
export function tweetItem(tweet, you) {
  const text = h('p.text', { lang: '', dir: 'auto' }, tweet.text);
  const about = h('p.quiet', null);
  const say = (corrected) => about.replaceChildren([
    tweet.author && `@${String(tweet.author).replace(/^@/, '')}`, dated(tweet.created_at),
    tweet.followers && t('followers', number(tweet.followers)), tweet.retweets && t('retweets', number(tweet.retweets)),
    tweet.alike > 1 && t('alike', number(tweet.alike)),
    corrected && t('labelledBy', t(corrected.label), corrected.by, dated(corrected.at)),
  ].filter(Boolean).join(' · '));
  say(tweet.corrected);
  const why = h('button.plainly', {
    type: 'button',
    click: async () => {
      try {
        const { marks } = await api.explain(tweet.tweet_id);
        text.replaceChildren(...marked(tweet.text, marks));
        why.replaceWith(h('span.quiet', { role: 'status' }, t(marks.length ? 'whyHint' : 'noWords')));
      } catch (error) { why.replaceWith(h('span.quiet', { role: 'status' }, t('failed', error.message))); }
    },
  }, t('sayWhy'));
  const wrong = you.may_act && h('details', null, h('summary', null, t('wrong')),
    h('div.choice', { role: 'group', 'aria-label': t('itIs') }, !you.name && !chosen.name && nameField(you), LABELS.map((label) => h('button', {
      type: 'button', 'data-label': label, disabled: label === (tweet.corrected?.label ?? tweet.label),
      click: (event) => {
        const group = event.target.closest('.choice');
        const by = group.querySelector('input')?.value ?? you.name ?? chosen.name;
        if (!by) { group.querySelector('input').reportValidity(); return; }
        chosen.set('name', by);
        attempt(() => api.label({ tweet_id: tweet.tweet_id, label, by }), () => {
          say({ label, by, at: new Date() });
          group.closest('details').open = false;
        });
      },
    }, t(label)))));
  return h('li', null,
    h(`span.badge.${tweet.label.toLowerCase()}`, null, t(tweet.label), tweet.label === 'NEGATIVE' ? ` ${percent(tweet.negative)}` : ''),
    text, about, h('div.under', null, why, wrong));
}

/** Labels the tweets of a random sample one after the other, by button or key. */
export async function labelSample(id, you, after) {
  const { tweets } = await api.sample(id);
  const card = h('div.labelling', null);
  const box = dialog(t('samples'), t('close'), after, card);
  box.classList.add('wide');
  let at = tweets.findIndex((tweet) => !tweet.label);
  const name = nameField(you);
  const give = async (label) => {
    const by = name.querySelector('input').value.trim();
    if (!by) { name.querySelector('input').reportValidity(); return; }
    chosen.set('name', by);
    if (await attempt(() => api.labelSample(id, { labels: [{ place: tweets[at].place, label }], by }))) {
      tweets[at].label = label;
      step();
    }
  };
  const step = () => {
    at = tweets.findIndex((tweet, n) => n > at && !tweet.label);
    draw();
  };
  const draw = () => {
    if (at < 0) { card.replaceChildren(h('p', null, t('allLabelled'))); return; }
    card.replaceChildren(
      h('p.quiet', { role: 'status' }, t('place', at + 1, tweets.length)),
      h('p.text', { dir: 'auto' }, tweets[at].text),
      h('div.choice', { role: 'group', 'aria-label': t('itIs') }, LABELS.map((label) => h('button', { type: 'button', 'data-label': label, click: () => give(label) }, t(label))),
        h('button.plainly', { type: 'button', click: step }, t('skip'))),
      name, h('p.quiet', null, t('keys')));
  };
  box.addEventListener('keydown', (event) => {
    const label = LABELS[Number(event.key) - 1];
    if (label && at >= 0 && event.target.tagName !== 'INPUT') give(label);
  });
  draw();
}
