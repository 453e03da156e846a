// Whether the tweets of the last day differ from those of the days before.

import { h } from './dom.js';
import { dayUtc, languageName, number, percent, t } from './words.js';

/** Changes named of a measure, at most. */
const CHANGES_MAX = 5;

/** What the newest comparison says; `latest` is null without one. */
export function drift({ latest }) {
  if (!latest) return h('p.quiet', null, t('driftNone'));
  const drifted = latest.measures.filter((it) => it.verdict === 'drifted');
  const measured = latest.measures.filter((it) => it.value !== null);
  const day = dayUtc(latest.day);
  const verdict = drifted.length ? t('driftChanged', day) : measured.length ? `✓ ${t('driftUsual', day)}` : t('driftUnknown', day);
  return [
    h(`p.${drifted.length ? 'wrong' : measured.length ? 'ok' : 'quiet'}`, null, verdict),
    h('ul', null, latest.measures.map((it) => h('li', null, h(it.verdict === 'drifted' ? 'strong' : 'span', null, t('measures')[it.measure] ?? it.measure), `${t('colon')}${t('verdicts')[it.verdict] ?? it.verdict}`,
      it.verdict === 'drifted' && it.changes.length > 0 && h('div.quiet', null, it.changes.slice(0, CHANGES_MAX).map((change) => changed(it.measure, change)).join(', '))))),
    h('p.quiet', null, t('driftHint', number(latest.tweets), number(latest.reference_days))),
  ];
}

function changed(measure, { what, before, now }) {
  const figure = measure === 'lengths' ? number : percent;
  const name = { languages: () => languageName(what), lengths: () => t('medianWords'), scores: () => t('meanNegative') }[measure]?.() ?? what;
  return `${name} ${figure(before)} → ${figure(now)}`;
}
