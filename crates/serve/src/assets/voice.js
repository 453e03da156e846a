// Share of voice: whose tweets they are, of those about all brands, in the time shown.

import { h, show, svg } from './dom.js';
import { chosen, number, percent, t } from './words.js';

/** A bar from 0 to 100 %; the number beside it says the same. */
function bar(share) {
  const picture = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', class: 'bar', 'aria-hidden': 'true' });
  picture.append(svg('rect', { class: 'track', width: 100, height: 10 }), svg('rect', { class: 'of', width: share * 100, height: 10 }));
  return picture;
}

/** A row for each of `state.voices`; hidden without tweets. */
export function voice({ voices }, host) {
  host.closest('section').hidden = voices.length < 2 || voices[0].tweets === 0;
  show(host, [voices, chosen.language], () => h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': t('voice') }, h('table.voice', null,
    h('caption', null, t('voiceHint')),
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, t('brand')), h('th', { scope: 'col' }, t('voice')), h('th.number', { scope: 'col' }, t('tweets')))),
    h('tbody', null, voices.map(({ name, tweets, share }) => h('tr', null,
      h('th', { scope: 'row' }, name),
      h('td', null, bar(share), h('span', null, percent(share))),
      h('td.number', null, number(tweets))))))));
}
