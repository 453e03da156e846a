//! Whether recent tweets differ from those of before by more than days usually differ.
//!
//! Five measures compare a period of tweets with a reference, which is cut into periods of the same
//! length. Each period of the reference is compared with the other ones, too, and that gives the usual
//! range: days differ by far more than chance on the number of tweets explains. [`assess`] says which
//! measure of the recent period is beyond the limit that keeps the expected number of false alarms.
//!
//! | measure | statistic |
//! | --- | --- |
//! | unknown words | share of the words that the model's vocabulary does not have |
//! | languages | Jensen-Shannon distance of the mix of languages, in 0..=1 (Endres and Schindelin, "A new metric for probability distributions", 2003) |
//! | lengths | Kolmogorov-Smirnov distance of the number of words: the largest difference between the shares of tweets of at most so many words |
//! | scores | the same of the probability of negative |
//! | domain | area under the ROC curve of a classifier that tells recent tweets from others, cross-validated; 0.5 if it cannot (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017; compared in Rabanser, Günnemann and Lipton, "Failing loudly", NeurIPS 2019) |
//!
//! **Invariant.** Pure, and the same tweets in the same order give the same report. All periods are cut
//! to as many tweets as the recent one has, because a distance grows as tweets get fewer. Deliberately
//! absent: drawing the tweets, and what a change means for the model: only labels tell.

mod distance;
mod domain;
mod limit;
mod observed;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use observed::{KnownWords, Observed};
pub use report::{Change, Measure, Measured, Report, Verdict};

use crate::domain::Language;
use crate::text::language;
use distance::{Histogram, distances, jensen_shannon, kolmogorov_smirnov};
use limit::{Scale, upper_limit};

/// Fewest tweets of a period; with fewer it is not measured.
pub const TWEETS_MIN: usize = 100;
/// Fewest periods of the reference.
pub const PERIODS_MIN: usize = 7;
/// Days of a month, for the budget of false alarms.
const MONTH_DAYS: f64 = 30.0;
/// Longer texts count as this long, in words.
const WORDS_MAX: usize = 100;
/// Bins of the probability of negative.
const SCORE_BINS: usize = 200;
/// Most changes that a measure names.
const CHANGES_MAX: usize = 8;

/// The least that counts as a change, however alike the periods of the reference are.
const DISTANCE_MIN: f64 = 0.05;
const UNKNOWN_RISE_MIN: f64 = 0.01;
const AREA_MIN: f64 = 0.55;

/// Tweets of a period of time, in random order.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// Its name, such as its first day.
    pub name: String,
    /// A random sample of its tweets.
    pub tweets: Vec<Observed>,
}

/// How many false alarms may be expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// In 30 days, over all measures; above 0.
    pub false_alarms_per_month: f64,
    /// Length of a period in days: one period is judged in that time.
    pub period_days: f64,
}

impl Budget {
    /// The expected number of false alarms of one measure in 30 days.
    fn of_measure(self) -> f64 {
        self.false_alarms_per_month / Measure::ALL.len() as f64
    }

    /// The probability of a false alarm of one measure at one judgement; at most 0.5.
    fn probability(self) -> f64 {
        (self.of_measure() * self.period_days / MONTH_DAYS).min(0.5)
    }
}

/// Compares `recent` with the periods of the reference.
pub fn assess(reference: &[Period], recent: &Period, budget: Budget) -> Report {
    let measures = Measure::ALL.map(|measure| measured(measure, reference, recent, budget));
    Report {
        recent: recent.name.clone(),
        tweets: recent.tweets.len(),
        reference: reference.iter().map(|period| period.name.clone()).collect(),
        reference_tweets: reference.iter().map(|period| period.tweets.len()).sum(),
        measures: measures.into(),
    }
}

/// The tweets that a measure can use: those of the recent period, and those of each usable period of
/// the reference, with its place.
struct Usable<'a> {
    recent: Vec<&'a Observed>,
    reference: Vec<(usize, Vec<&'a Observed>)>,
}

impl<'a> Usable<'a> {
    fn of(measure: Measure, reference: &'a [Period], recent: &'a Period) -> Result<Self, Verdict> {
        let usable = |tweet: &&Observed| match measure {
            Measure::UnknownWords => tweet.known.is_some(),
            Measure::Scores => tweet.score.is_some(),
            Measure::Languages | Measure::Lengths | Measure::Domain => true,
        };
        let of = |period: &'a Period| period.tweets.iter().filter(usable).collect::<Vec<_>>();
        if measure == Measure::UnknownWords && recent.tweets.iter().all(|it| it.known.is_none()) {
            return Err(Verdict::NoVocabulary);
        }
        let recent = of(recent);
        if recent.len() < TWEETS_MIN {
            return Err(Verdict::TooFewTweets);
        }
        let cut = |(place, period): (usize, &'a Period)| {
            let mut tweets = of(period);
            tweets.truncate(recent.len());
            (place, tweets)
        };
        let reference: Vec<_> = (reference.iter().enumerate().map(cut))
            .filter(|(_, tweets)| tweets.len() >= TWEETS_MIN)
            .collect();
        if reference.len() < PERIODS_MIN {
            return Err(Verdict::TooFewPeriods);
        }
        Ok(Self { recent, reference })
    }

    /// The histograms of the reference and of the recent period.
    fn histograms(&self, bin: impl Fn(&Observed) -> usize) -> (Vec<Histogram>, Histogram) {
        let of = |tweets: &[&Observed]| Histogram::of(tweets.iter().map(|tweet| bin(tweet)));
        (self.reference.iter().map(|(_, tweets)| of(tweets)).collect(), of(&self.recent))
    }

    fn all_of_reference(&self) -> impl Iterator<Item = &'a Observed> {
        self.reference.iter().flat_map(|(_, tweets)| tweets.iter().copied())
    }
}

/// Values of a measure: of each period of the reference against the others, and of the recent period
/// against the reference.
type Values = (Vec<f64>, f64);

fn measured(measure: Measure, reference: &[Period], recent: &Period, budget: Budget) -> Measured {
    let false_alarms_per_month = budget.of_measure();
    let usable = match Usable::of(measure, reference, recent) {
        Ok(usable) => usable,
        Err(verdict) => return Measured::not(measure, verdict, false_alarms_per_month),
    };
    let (values, value, scale, least) = match measure {
        Measure::UnknownWords => {
            let (values, value) = unknown_shares(&usable);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (values, value, Scale::Logit, mean + UNKNOWN_RISE_MIN)
        }
        Measure::Languages => {
            let codes: BTreeMap<Option<Language>, usize> =
                (usable.all_of_reference().chain(usable.recent.iter().copied()))
                    .map(|tweet| (tweet.language, 0))
                    .collect();
            let place = |tweet: &Observed| codes.range(..tweet.language).count();
            let (values, value) = distances(usable.histograms(place), jensen_shannon);
            (values, value, Scale::Root, DISTANCE_MIN)
        }
        Measure::Lengths => {
            let histograms = usable.histograms(|tweet| tweet.words.min(WORDS_MAX));
            let (values, value) = distances(histograms, kolmogorov_smirnov);
            (values, value, Scale::Root, DISTANCE_MIN)
        }
        Measure::Scores => {
            let bin = |tweet: &Observed| {
                (f64::from(tweet.score.unwrap_or(0.0)) * SCORE_BINS as f64) as usize
            };
            let (values, value) = distances(usable.histograms(bin), kolmogorov_smirnov);
            (values, value, Scale::Root, DISTANCE_MIN)
        }
        Measure::Domain => {
            let (values, value) = domain::areas(&usable.reference, &usable.recent);
            (values, value, Scale::Plain, AREA_MIN)
        }
    };
    let limit = upper_limit(&values, scale, budget.probability()).max(least);
    let verdict = if value > limit { Verdict::Drifted } else { Verdict::Usual };
    Measured {
        measure,
        verdict,
        value: Some(value),
        limit: Some(limit),
        usual: usable.reference.iter().map(|(place, _)| *place).zip(values).collect(),
        false_alarms_per_month,
        changes: changes(measure, &usable),
    }
}

/// Shares of unknown words. Half a word is added to each side, so that no share is 0 or 1.
fn unknown_shares(usable: &Usable<'_>) -> Values {
    let share = |tweets: &[&Observed]| {
        let known = tweets.iter().filter_map(|tweet| tweet.known.as_ref());
        let (unknown, words) = known.fold((0, 0), |(unknown, words), it| {
            (unknown + it.unknown.len().min(it.words), words + it.words)
        });
        (unknown as f64 + 0.5) / (words as f64 + 1.0)
    };
    let values = usable.reference.iter().map(|(_, tweets)| share(tweets)).collect();
    (values, share(&usable.recent))
}

/// What has changed, the most important first.
fn changes(measure: Measure, usable: &Usable<'_>) -> Vec<Change> {
    let reference: Vec<&Observed> = usable.all_of_reference().collect();
    let recent = &usable.recent;
    match measure {
        Measure::UnknownWords => {
            let words = |tweet: &Observed| -> Vec<String> {
                tweet.known.as_ref().map_or_else(Vec::new, |known| known.unknown.clone())
            };
            by_share(&reference, recent, words)
        }
        Measure::Languages => by_share(&reference, recent, |tweet| {
            vec![tweet.language.map_or("unknown".into(), |it| language::name(&it).to_owned())]
        }),
        Measure::Domain => domain::telling_words(&reference, recent),
        Measure::Lengths => {
            let median = |tweets: &[&Observed]| {
                let mut words: Vec<usize> = tweets.iter().map(|tweet| tweet.words).collect();
                words.sort_unstable();
                words[words.len() / 2] as f64
            };
            let (before, now) = (median(&reference), median(recent));
            vec![Change { what: "median number of words".into(), before, now }]
        }
        Measure::Scores => {
            let mean = |tweets: &[&Observed]| {
                let scores = tweets.iter().map(|tweet| f64::from(tweet.score.unwrap_or(0.0)));
                scores.sum::<f64>() / tweets.len() as f64
            };
            let (before, now) = (mean(&reference), mean(recent));
            vec![Change { what: "mean probability of negative".into(), before, now }]
        }
    }
}

/// The kinds whose share of tweets has risen most, or if none has, changed most.
fn by_share(
    reference: &[&Observed],
    recent: &[&Observed],
    kinds: impl Fn(&Observed) -> Vec<String>,
) -> Vec<Change> {
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (side, tweets) in [reference, recent].into_iter().enumerate() {
        for tweet in tweets {
            let mut kinds = kinds(tweet);
            kinds.sort_unstable();
            kinds.dedup();
            kinds.into_iter().for_each(|kind| counts.entry(kind).or_default()[side] += 1);
        }
    }
    let share = |count: usize, tweets: &[&Observed]| count as f64 / tweets.len() as f64;
    let mut found: Vec<Change> = (counts.into_iter())
        .map(|(what, [before, now])| Change {
            what,
            before: share(before, reference),
            now: share(now, recent),
        })
        .collect();
    found.sort_by(|a, b| (b.now - b.before).total_cmp(&(a.now - a.before)));
    found.truncate(CHANGES_MAX);
    found
}
