// The page's words, and how it writes numbers and times. English here, French in words_fr.js.

import french from './words_fr.js';

const english = {
  colon: ': ',
  calm: 'All calm', trouble: (n) => (n === 1 ? '1 open alert' : `${n} open alerts`),
  live: 'live', lost: 'no connection, trying again', updated: (at) => `newest tweet ${at}`,
  day: 'Day', week: 'Week', month: 'Month', unzoom: 'Whole period', period: 'Period',
  zone: 'Times', local: 'Local', theme: 'Colours', auto: 'Auto', light: 'Light', dark: 'Dark',
  language: 'Language', signOut: 'Sign out', close: 'Close', cancel: 'Cancel', options: 'Display',
  now: 'Needs attention', brands: 'Brands', history: 'Alerts', behind: 'Behind the scenes',
  noAlerts: 'No alert so far.', noTweets: 'No tweet yet.', noBrands: 'No brand is configured.',
  notice: 'notice', warning: 'warning', critical: 'critical',
  negative: 'negative', ofTweets: (n) => `of ${n} tweets in 24 hours`, usual: 'usual',
  expected: 'expected', corrected: 'Corrected for the model’s errors', likely: 'likely',
  above: 'above the usual range', within: 'within the usual range', below: 'below the usual range',
  noBaseline: 'too few tweets yet to say what is usual',
  notJudged: (n) => `${n} tweets not judged (no model for the language)`,
  since: 'since', opened: 'opened', ended: 'ended', stillOpen: 'open', lasted: 'lasted', ago: (time) => `${time} ago`,
  shareHead: (seen, usual) => `${seen} negative, expected ${usual}`,
  volumeHead: (seen, usual) => `${seen} negative tweets, expected ${usual}`,
  surgeHead: (seen, usual) => `${seen} tweets, expected ${usual}`,
  quietHead: (minutes) => `no tweets for ${minutes}`, lagHead: (minutes) => `${minutes} behind the stream`,
  ofWindow: (n, total, time) => `${n} of ${total} tweets in ${time}`,
  stream: 'The stream itself', alert: 'Alert', brand: 'Brand', when: 'When', what: 'What', state: 'State',
  why: 'Typical words', themes: 'What they write about', repeats: 'Repeated and shared', hourly: (counts) => `tweets by hour: ${counts}`, tweetsN: (n) => `${n} tweets`,
  firstBy: (who) => `first by ${who}`, oneTweet: (share) => `${share} of the negative tweets repeat one tweet.`,
  sharedLink: (link, n) => `Most shared link: ${link}, in ${n} tweets.`, repeater: (who, n) => `${who} posted nearly the same tweet ${n} times.`,
  examples: 'Tweets', told: 'Told', nobody: 'Nobody was told.',
  whyNot: 'Why was I not told?', everybody: 'Everybody was told.', noReceiver: 'No receiver was set up then.', whyNotIntro: 'For each step: who was not told, and why.',
  deliveries: 'Delivery', pending: 'waiting', sent: 'sent', dead: 'given up', attempts: (n) => `${n} attempts`,
  steps: 'History', updatedStep: 'updated', resolved: 'ended', acknowledged: 'acknowledged',
  resolvedStep: 'ended', openedStep: 'opened', acknowledgedStep: 'acknowledged',
  ackBy: (who, at) => `Acknowledged by ${who}, ${at}`, unacked: 'Nobody has acknowledged it yet.',
  acknowledge: 'Acknowledge', resolve: 'End', silence: 'Silence', readTweets: 'Read tweets', details: 'Details',
  yourName: 'Your name', note: 'Note', optional: 'optional', reason: 'Reason', howLong: 'For how long',
  ackTitle: 'Acknowledge the alert', ackHint: 'It is not repeated, unless it gets worse. Its end is still told.',
  resolveTitle: 'End the alert', resolveHint: 'Whoever was told of it is told that it is over. If the rise goes on, another alert follows.',
  silenceTitle: (brand) => `Silence ${brand}`, silenceHint: 'Nobody is told of its alerts in that time. They are still recorded.',
  done: 'Done.', failed: (error) => `That did not work: ${error}`, readOnly: 'Your token may only read.',
  minutes: (n) => `${n} min`, hours: (n) => `${n} h`, days: (n) => (n === 1 ? '1 day' : `${n} days`),
  tweetsOf: (brand) => `Tweets about ${brand}`, search: 'Search', searchHint: 'words in a row', anyLabel: 'All tweets', called: 'The model says',
  NEGATIVE: 'Negative', NEUTRAL: 'Neutral', POSITIVE: 'Positive', more: 'Earlier tweets', found: (n) => `${n} shown`,
  nothing: 'No tweet matches.', alike: (n) => `${n} say the same`, sayWhy: 'Why?', whyHint: 'Underlined: the words that made the model call it negative.',
  noWords: 'No single word stands out.', wrong: 'Wrong?', itIs: 'This tweet is', labelledBy: (label, who, at) => `${who} says: ${label}, ${at}`,
  followers: (n) => `${n} followers`, reach: (n) => `reached ${n}`, retweets: (n) => `${n} retweets`, posted: (n) => `posted ${n} times`,
  table: 'Show as table', chart: (brand) => `Share of negative tweets about ${brand} over time`,
  time: 'Time', tweets: 'Tweets', share: 'Share', range: 'Usual range', interval: 'Corrected',
  legendShare: 'negative share', legendExpected: 'expected', legendBand: 'usual range', legendBars: 'tweets, negative ones coloured', legendAlert: 'alert',
  chartHint: 'Drag to zoom, click a point to read its tweets.', rolling: { minute: 'share over 60 minutes', hour: 'share over 3 hours', day: 'share of the day' },
  models: 'Models', scoresNow: 'scores the stream', modelLine: (finds, mistakes) => `finds ${finds} of the negative tweets, calls ${mistakes} of the others negative`,
  allLanguages: 'any language', languages: 'Languages not judged', none: 'None.', parts: 'Parts of the monitor', ready: 'works',
  silences: 'Silences', until: 'until', by: 'by', everyBrand: 'all brands', endNow: 'End now',
  samples: 'Label a random sample', samplesHint: 'Labels of a random sample show how often the model errs on this brand; from 200 on, shares are corrected by them.',
  draw: 'Draw', howMany: 'Tweets', labelNext: 'Label', ofLabelled: (n, all) => `${n} of ${all} labelled`, place: (n, all) => `Tweet ${n} of ${all}`,
  allLabelled: 'Every tweet of this sample has a label.', corrections: 'Labels given', skip: 'Skip', keys: 'Keys: 1 negative, 2 neutral, 3 positive',
  totals: (scored, dead) => `${scored} tweets scored, ${dead} records that are no tweets`, gone: 'There is no such alert.',
  voice: 'Share of voice', voiceHint: 'Tweets about each brand, of the tweets about all brands, in the time shown. A tweet about two brands counts for both.',
  drift: 'Drift of the tweets', driftNone: 'Not compared yet: that needs a whole day of tweets and a week before it.',
  driftUsual: (day) => `On ${day}, tweets were as usual.`, driftChanged: (day) => `On ${day}, tweets differed more than days usually do; the model may err more often.`,
  driftUnknown: (day) => `For ${day}, nothing could be compared yet.`,
  driftHint: (tweets, days) => `${tweets} tweets of that day (UTC), compared with ${days} days before. Drift notifies nobody.`,
  medianWords: 'words of a middle tweet', meanNegative: 'mean probability of negative',
  measures: {
    unknown_words: 'Words that the model does not know', languages: 'Languages', lengths: 'Lengths', scores: 'How negative they are called', domain: 'What they write about',
  },
  verdicts: {
    usual: 'as usual', drifted: 'changed', too_few_tweets: 'too few tweets', too_few_periods: 'too few days to compare with', no_vocabulary: 'the model has no list of words',
  },
  reasons: {
    silenced: 'a silence covers the brand', acknowledged: 'somebody has acknowledged it', catching_up: 'the monitor was catching up with old tweets',
    no_route: 'no route names the receiver', other_brand: 'its routes are for other brands', other_cause: 'its routes are for other causes',
    too_mild: 'its routes are for worse alerts', quiet_hours: 'quiet hours', repeat_not_due: 'it was told before, and a repeat is not due yet',
    repeats_off: 'it was told before, and repeats are off', never_notified: 'it was never told that it opened',
  },
};

const stored = (key, value) => {
  try {
    if (value !== undefined) localStorage.setItem(`monitor.${key}`, value);
    return localStorage.getItem(`monitor.${key}`);
  } catch { return null; }
};

/** What the reader has chosen; kept in the browser. */
export const chosen = {
  get language() { return stored('language') ?? (navigator.language?.startsWith('fr') ? 'fr' : 'en'); },
  get theme() { return stored('theme') ?? 'auto'; },
  get zone() { return stored('zone') ?? 'local'; },
  get name() { return stored('name') ?? ''; },
  set: (key, value) => stored(key, value),
};

/** The words of a key in the chosen language. */
export function t(key, ...values) {
  const words = (chosen.language === 'fr' ? french : english)[key] ?? english[key] ?? key;
  return typeof words === 'function' ? words(...values) : words;
}

/** For tests: the keys of both languages. */
export const keys = { english: Object.keys(english), french: Object.keys(french) };

const locale = () => (chosen.language === 'fr' ? 'fr-FR' : 'en-GB');
const zone = () => (chosen.zone === 'UTC' ? 'UTC' : undefined);

export const number = (n) => new Intl.NumberFormat(locale(), { maximumFractionDigits: n < 10 && n % 1 ? 1 : 0 }).format(n);
export const percent = (share) => (share === null || share === undefined ? '–' : `${number(Math.round(share * 100))}\u00a0%`);
export const percents = (low, high) => `${Math.round(low * 100)}–${Math.round(high * 100)}\u00a0%`;

const format = (options) => (at) =>
  new Intl.DateTimeFormat(locale(), { timeZone: zone(), hourCycle: 'h23', ...options }).format(new Date(at));
export const moment = format({ weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
export const dated = format({ day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' });
export const clock = format({ hour: '2-digit', minute: '2-digit' });
/** A day of UTC, whatever the reader's zone. */
export const dayUtc = (at) => new Intl.DateTimeFormat(locale(), { timeZone: 'UTC', weekday: 'short', day: 'numeric', month: 'short' }).format(new Date(at));
export const day = format({ day: 'numeric', month: 'short' });
export const zoneName = () => (chosen.zone === 'UTC' ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone);

/** A length of time in its largest sensible unit. */
export function span(minutes) {
  if (minutes < 120) return t('minutes', Math.max(0, Math.round(minutes)));
  if (minutes < 48 * 60) return t('hours', Math.round(minutes / 60));
  return t('days', Math.round(minutes / 1440));
}

export const languageName = (code) => {
  try { return new Intl.DisplayNames([locale()], { type: 'language' }).of(code); } catch { return code; }
};
