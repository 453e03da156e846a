// Share of voice: whose tweets they are, of those about all brands, in the time shown.

import { h, show, svg } from './dom.js';
import { chosen, number, percent, t } from './words.js';

/** A bar from 0 to 100 %; the number beside it says the same. */
function bar(share) {
  const picture = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', class: 'bar', 'aria-hidden': 'true' });
  picture.append(svg('rect', { class: 'track', width: 100, height: 10 }), svg('rect', { class: 'of', width: share * 100, height: 10 }));
  return picture;
}

/** A row for each brand with its tweets from `state.from` to `state.to`, most first; hidden without tweets. */
export function voice(state, host) {
  const of = (name) => (state.shares[name]?.points ?? [])
    .filter((point) => { const at = Date.parse(point.at) / 1000; return at >= state.from && at < state.to; })
    .reduce((sum, point) => sum + point.tweets, 0);
  const brands = state.brands.map(({ name }) => ({ name, tweets: of(name) })).sort((a, b) => b.tweets - a.tweets);
  const all = brands.reduce((sum, it) => sum + it.tweets, 0);
  host.closest('section').hidden = all === 0 || brands.length < 2;
  show(host, [brands, chosen.language], () => h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': t('voice') }, h('table.voice', null,
    h('caption', null, t('voiceHint')),
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, t('brand')), h('th', { scope: 'col' }, t('voice')), h('th.number', { scope: 'col' }, t('tweets')))),
    h('tbody', null, brands.map(({ name, tweets }) => h('tr', null,
      h('th', { scope: 'row' }, name),
      h('td', null, bar(tweets / all), h('span', null, percent(tweets / all))),
      h('td.number', null, number(tweets))))))));
}
