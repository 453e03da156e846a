//! Streams whose days vary: how often nothing is called drift, and whether drift is.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Words of the simulated language, by falling frequency.
const WORDS: usize = 2000;
/// Words from here on are not in the model's vocabulary.
const UNKNOWN_FROM: usize = 1900;
/// Topics, each with its own frequent words.
const TOPICS: usize = 6;
const TWEETS: usize = 200;
const BUDGET: Budget = Budget { false_alarms_per_month: 1.0, period_days: 1.0 };

/// What differs from the usual in a day.
#[derive(Debug, Clone, Copy, Default)]
struct Shift {
    /// Share of words that are new.
    new_words: f64,
    /// More French, in log-odds.
    french: f64,
    /// Longer texts, in log.
    longer: f64,
    /// More negative, in log-odds.
    negative: f64,
    /// Share of tweets about a new topic, of known words.
    topic: f64,
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (a, b): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// A day of tweets. Its topics, languages, lengths and scores vary more than chance on the number of
/// tweets explains.
fn day(number: usize, shift: Shift, random: &mut ChaCha8Rng) -> Period {
    let topics: [f64; TOPICS] = std::array::from_fn(|_| (0.4 * normal(random)).exp());
    let french = crate::logit::sigmoid(-2.2 + 0.3 * normal(random) + shift.french);
    let length = 2.3 + 0.06 * normal(random) + shift.longer;
    let unknown = crate::logit::sigmoid(-3.0 + 0.15 * normal(random));
    let negative = -1.0 + 0.2 * normal(random) + shift.negative;
    let tweets = (0..TWEETS).map(|_| {
        let mut left = random.random::<f64>() * topics.iter().sum::<f64>();
        let topic = topics.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let topic = topic.unwrap_or(0);
        let about_new = random.random::<f64>() < shift.topic;
        let count = (length + 0.5 * normal(random)).exp().clamp(2.0, 60.0) as usize;
        let mut known = KnownWords { words: count, unknown: Vec::new() };
        let words: Vec<String> = (0..count)
            .map(|_| {
                // Zipf's law, by the inverse of its approximate distribution function.
                let mut place =
                    ((WORDS as f64).powf(random.random::<f64>()) as usize).min(WORDS - 1);
                if random.random::<f64>() < shift.new_words {
                    known.unknown.push(format!("new{}", place % 5));
                    return format!("new{}", place % 5);
                }
                if random.random::<f64>() < unknown {
                    place = UNKNOWN_FROM + place % (WORDS - UNKNOWN_FROM);
                    known.unknown.push(format!("w{place}"));
                } else if random.random::<f64>() < 0.2 {
                    // A word of the topic.
                    place = match about_new {
                        true => 1500 + place % 20,
                        false => 200 + 100 * topic + place % 100,
                    };
                }
                format!("w{place}")
            })
            .collect();
        let language = if random.random::<f64>() < french { "fr" } else { "en" };
        let score = crate::logit::sigmoid(negative + 1.5 * normal(random));
        Observed::new(words.join(" "), language.parse().ok())
            .with_known_words(Some(known))
            .with_score(Some(score as f32))
    });
    Period { name: format!("day {number}"), tweets: tweets.collect() }
}

fn days(count: usize, random: &mut ChaCha8Rng) -> Vec<Period> {
    (0..count).map(|number| day(number, Shift::default(), random)).collect()
}

#[test]
fn false_alarms_stay_within_the_budget() {
    const MONTHS: usize = 12;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut alarms = [0; 5];
    // Each month is one of a stream of its own, so that one odd day is not in each reference.
    for _ in 0..MONTHS {
        let stream = days(28 + 30, &mut random);
        for judged in 28..stream.len() {
            let report = assess(&stream[judged - 28..judged], &stream[judged], BUDGET);
            for measured in report.drifted() {
                alarms[measured.measure as usize] += 1;
            }
        }
    }
    let all: usize = alarms.iter().sum();
    println!("{alarms:?} in {MONTHS} months, expected {MONTHS} in all");
    // 12 are expected; a Poisson variable of that mean is in 4..=22 in 99 of 100 cases.
    assert!((3..=22).contains(&all), "{alarms:?}");
    assert!(
        alarms.iter().all(|count| *count <= 9),
        "no measure has more than its part: {alarms:?}"
    );
}

#[test]
fn each_measure_sees_what_it_is_for() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let reference = days(28, &mut random);
    let mut check = |measure: Measure, shift: Shift, others: &[Measure], named: &str| {
        let recent = day(99, shift, &mut random);
        let report = assess(&reference, &recent, BUDGET);
        let drifted: Vec<Measure> = report.drifted().map(|it| it.measure).collect();
        assert!(drifted.contains(&measure), "{measure:?}: {:?}", report.measures);
        let expected = |it: &Measure| *it == measure || others.contains(it);
        assert!(drifted.iter().all(expected), "{measure:?}: {drifted:?}");
        let of = report.measures.iter().find(|it| it.measure == measure).unwrap();
        let named_first = of.changes.iter().any(|change| change.what.starts_with(named));
        assert!(named_first && of.changes[0].now > of.changes[0].before, "{:?}", of.changes);
    };
    use Measure::{Domain, Languages, Lengths, Scores, UnknownWords};
    check(UnknownWords, Shift { new_words: 0.06, ..Shift::default() }, &[Domain], "new");
    check(Languages, Shift { french: 1.8, ..Shift::default() }, &[], "French");
    check(Lengths, Shift { longer: 0.5, ..Shift::default() }, &[Domain], "median");
    check(Scores, Shift { negative: 1.2, ..Shift::default() }, &[], "mean");
    check(Domain, Shift { topic: 0.7, ..Shift::default() }, &[], "w15");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let stream = days(9, &mut random);
    let check = |name: &str, reference: &[Period], recent: &Period, expected: [Verdict; 5]| {
        let report = assess(reference, recent, BUDGET);
        let found: Vec<Verdict> = report.measures.iter().map(|it| it.verdict).collect();
        assert_eq!(found, expected, "{name}");
        for measured in &report.measures {
            let is_measured = matches!(measured.verdict, Verdict::Usual | Verdict::Drifted);
            assert_eq!(measured.value.is_some() && measured.limit.is_some(), is_measured, "{name}");
            assert!((measured.false_alarms_per_month - 0.2).abs() < 1e-12, "{name}");
        }
    };
    let edited = |edit: &dyn Fn(Observed) -> Observed| {
        let edited = |it: &Period| Period {
            name: it.name.clone(),
            tweets: it.tweets.iter().cloned().map(edit).collect(),
        };
        stream.iter().map(edited).collect::<Vec<_>>()
    };
    let (usual, few) = (Verdict::Usual, Verdict::TooFewTweets);
    check("all is there", &stream[..8], &stream[8], [usual; 5]);
    check("six days", &stream[..6], &stream[8], [Verdict::TooFewPeriods; 5]);
    let mut short = stream[8].clone();
    short.tweets.truncate(TWEETS_MIN - 1);
    check("99 tweets", &stream[..8], &short, [few; 5]);
    let hashed = edited(&|tweet| tweet.with_known_words(None));
    let no_list = [Verdict::NoVocabulary, usual, usual, usual, usual];
    check("a model that hashes words", &hashed[..8], &hashed[8], no_list);
    let by_another = edited(&|tweet| tweet.with_score(None));
    let mixed = [&by_another[..4], &stream[4..8]].concat();
    let new_model = [usual, usual, usual, Verdict::TooFewPeriods, usual];
    check("another model until now", &mixed, &stream[8], new_model);
}

#[test]
fn fewer_tweets_than_usual_are_no_drift() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let reference = days(28, &mut random);
    let drifted: usize = (0..20)
        .map(|number| {
            let mut recent = day(number, Shift::default(), &mut random);
            recent.tweets.truncate(TWEETS_MIN);
            assess(&reference, &recent, BUDGET).drifted().count()
        })
        .sum();
    assert!(drifted <= 3, "0.7 are expected: {drifted}");
}
