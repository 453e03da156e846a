use std::mem::discriminant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::domain::Counts;

const DAY: i64 = 1440;

/// A Poisson count whose rate varies by a gamma law, with dispersion 1/8 (Knuth, "The
/// Art of Computer Programming", volume 2, section 3.4.1).
fn count(mean: f64, random: &mut ChaCha8Rng) -> u64 {
    let exponential = |random: &mut ChaCha8Rng| -(1.0 - random.random::<f64>()).ln();
    let rate = mean * (0..8).map(|_| exponential(random)).sum::<f64>() / 8.0;
    let (mut waited, mut count) = (exponential(random), 0);
    while waited < rate {
        waited += exponential(random);
        count += 1;
    }
    count
}

/// The volume at a time of day, relative to its mean: a third at night, more by day.
fn day_factor(minute: i64) -> f64 {
    1.0 - (minute as f64 / DAY as f64 * std::f64::consts::TAU).cos() / 1.5
}

/// A brand with `a_bucket` tweets per bucket on average, multiplied by `times`.
fn brand(days: i64, a_bucket: f64, times: impl Fn(i64) -> f64, seed: u64) -> Series {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let counts: Vec<_> = (0..days * DAY)
        .step_by(5)
        .map(|m| {
            let total = count(a_bucket * day_factor(m) * times(m), &mut random);
            (Minute(m), Counts { total, negative: 0 })
        })
        .collect();
    Series::new(Minute(0), Minute(days * DAY - 1), &counts, &[])
}

/// Evaluates every minute, as the daemon does; returns when surges open and resolve.
fn run(series: &Series, days: i64) -> Vec<(i64, VolumeVerdict)> {
    run_policy(&VolumePolicy { times_min: 3.0, ..VolumePolicy::of(Volume::All) }, series, days)
}

fn run_policy(policy: &VolumePolicy, series: &Series, days: i64) -> Vec<(i64, VolumeVerdict)> {
    let mut state = VolumeState::default();
    let mut steps = Vec::new();
    for minute in (0..days * DAY).map(Minute) {
        let verdict;
        (state, verdict) = policy.evaluate(series, state, minute);
        if matches!(verdict, VolumeVerdict::Open(_) | VolumeVerdict::Resolve(..)) {
            steps.push((minute.0, verdict));
        }
    }
    steps
}

fn opened(steps: &[(i64, VolumeVerdict)]) -> Vec<i64> {
    let open =
        |(minute, verdict): &(i64, _)| matches!(verdict, VolumeVerdict::Open(_)).then_some(*minute);
    steps.iter().filter_map(open).collect()
}

#[test]
fn stays_quiet_without_a_surge() {
    let check = |name: &str, a_bucket: f64, times: &dyn Fn(i64) -> f64| {
        for seed in 0..3 {
            let found = run(&brand(30, a_bucket, times, seed), 30);
            assert_eq!(found, [], "{name}, seed {seed}");
        }
    };
    check("two a bucket, day and night", 2.0, &|_| 1.0);
    check("ten", 10.0, &|_| 1.0);
    check("a hundred", 100.0, &|_| 1.0);
    check("twice as many from a day on", 20.0, &|m| if m < 14 * DAY { 1.0 } else { 2.0 });
    check("quiet weekends", 20.0, &|m| if m / DAY % 7 < 2 { 0.4 } else { 1.0 });
    check("ten times, in one bucket alone", 20.0, &|m| if m == 20_000 { 10.0 } else { 1.0 });
    check("eleven tweets at night", 0.1, &|m| if m / 10 == 2000 { 100.0 } else { 1.0 });
}

#[test]
fn a_surge_opens_within_minutes_and_resolves_afterwards() {
    let check = |name: &str, a_bucket: f64, times: f64, minutes_max: i64| {
        for seed in 0..5 {
            let start = 20 * DAY + 720;
            let surge = |m| if (start..start + 180).contains(&m) { times } else { 1.0 };
            let steps = run(&brand(22, a_bucket, surge, seed), 22);
            let [(from, VolumeVerdict::Open(open)), (to, VolumeVerdict::Resolve(end, why))] =
                steps[..]
            else {
                panic!("{name}, seed {seed}: {steps:?}")
            };
            let delay = from + 1 - start;
            assert!((0..=minutes_max).contains(&delay), "{name}, seed {seed}: {delay} min");
            assert!(open.observed as f64 >= 3.0 * open.expected, "{name}: {open:?}");
            assert!(open.statistic >= open.threshold && open.observed >= 30, "{open:?}");
            let over = to + 1 - start - 180;
            assert!((0..=75).contains(&over), "{name}, seed {seed}: over after {over} min");
            assert_eq!((why, end.since), (ResolveReason::Calm, open.since), "{name}");
        }
    };
    check("two a bucket", 2.0, 8.0, 15);
    check("ten", 10.0, 6.0, 15);
    check("a hundred", 100.0, 5.0, 10);
}

#[test]
fn a_surge_does_not_raise_the_forecast() {
    let surge = |m: i64| if m >= 10 * DAY && m % DAY / 60 == 12 { 8.0 } else { 1.0 };
    let found = opened(&run(&brand(15, 20.0, surge, 1), 15));
    assert_eq!(found.len(), 5, "one surge a day: {found:?}");
}

#[test]
fn a_lasting_surge_becomes_the_new_normal() {
    let steps = run(&brand(20, 20.0, |m| if m < 10 * DAY { 1.0 } else { 6.0 }, 1), 20);
    let [(from, VolumeVerdict::Open(_)), (to, VolumeVerdict::Resolve(_, why))] = steps[..] else {
        panic!("{steps:?}")
    };
    assert!((2 * DAY..2 * DAY + 60).contains(&(to - from)), "{from} to {to}");
    assert_eq!(why, ResolveReason::NewNormal);
}

#[test]
fn a_stored_state_gives_the_same_verdicts() {
    let policy = VolumePolicy::of(Volume::All);
    let series = brand(4, 10.0, |m| if m < 3 * DAY { 1.0 } else { 8.0 }, 1);
    let (mut one, mut other) = (VolumeState::default(), VolumeState::default());
    let mut fired = 0;
    for minute in (0..4 * DAY).map(Minute) {
        // serde_json may lose the last bit of a value, so values are not compared.
        let stored = serde_json::to_string(&other).expect("the state can be serialized");
        other = serde_json::from_str(&stored).expect("the state can be deserialized");
        let (found, expected);
        (one, expected) = policy.evaluate(&series, one, minute);
        (other, found) = policy.evaluate(&series, other, minute);
        assert_eq!(discriminant(&found), discriminant(&expected), "{minute:?}");
        assert_eq!((one.rise.is_some(), one.opened), (other.rise.is_some(), other.opened));
        fired += i32::from(matches!(found, VolumeVerdict::Firing(_)));
    }
    assert!(fired > 0, "the surge opens");
}

#[test]
fn negative_tweets_rise_at_the_same_share() {
    let seen = |times_positive: f64, times_negative: f64| {
        let start = 20 * DAY + 720;
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let counts: Vec<_> = (0..22 * DAY)
            .step_by(5)
            .map(|m| {
                let surge = (start..start + 180).contains(&m);
                let times = |times| if surge { times } else { 1.0 };
                let rate = 100.0 * day_factor(m);
                let negative = count(0.2 * rate * times(times_negative), &mut random);
                let others = count(0.8 * rate * times(times_positive), &mut random);
                (Minute(m), Counts { total: negative + others, negative })
            })
            .collect();
        let series = Series::new(Minute(0), Minute(22 * DAY - 1), &counts, &[]);
        opened(&run_policy(&VolumePolicy::of(Volume::Negative), &series, 22))
    };
    assert_eq!(seen(4.0, 4.0).len(), 1, "four times as many of all kinds");
    assert_eq!(seen(1.0, 4.0).len(), 1, "and of the negative ones alone");
    assert!(seen(30.0, 3.0).is_empty(), "a joke: their share falls");
    assert!(seen(4.0, 1.0).is_empty(), "praise");
}

#[test]
fn bursts_that_a_brand_often_has_are_no_news() {
    // Every other day, ten minutes at twelve times the volume.
    let bursts = |size: f64| {
        move |m: i64| {
            let (day, minute) = (m / DAY, m % DAY);
            let at = 400 + 37 * (day % 11);
            if day % 2 == 0 && (at..at + 10).contains(&minute) { size } else { 1.0 }
        }
    };
    let found = opened(&run(&brand(40, 10.0, bursts(12.0), 1), 40));
    assert!(found.iter().filter(|minute| **minute > 20 * DAY).count() <= 1, "{found:?}");
    let surge = |m: i64| {
        if (35 * DAY + 720..35 * DAY + 900).contains(&m) { 12.0 } else { bursts(12.0)(m) }
    };
    let found = opened(&run(&brand(40, 10.0, surge, 1), 40));
    assert!(found.iter().any(|minute| minute / DAY == 35), "one of three hours is: {found:?}");
}

#[test]
fn says_why_it_is_quiet() {
    let reason = |buckets: i64, (observed, expected, cusum): (u64, f64, f64), counts: Counts| {
        let mut past = Past::default();
        for bucket in (1..=buckets).rev() {
            let minute = Minute(-bucket * BUCKET_MINUTES);
            let all = Counts { total: 10, negative: 5 };
            past.learn(10, all, minute, &past.forecast(minute));
        }
        let tweets = Counts { total: observed, negative: observed };
        let rise = Some(Rise { since: -60, cusum, observed, expected, tweets });
        let state = VolumeState { past, rise, ..VolumeState::default() };
        let series = Series::new(Minute(0), Minute(4), &[(Minute(0), counts)], &[]);
        let policy = VolumePolicy { tweets_min: 100, ..VolumePolicy::of(Volume::Negative) };
        let (wait, verdict) = policy.evaluate(&series, state, Minute(3));
        assert_eq!(verdict, VolumeVerdict::Wait);
        match policy.evaluate(&series, wait, Minute(4)).1 {
            VolumeVerdict::Quiet(reason) => Some(reason),
            _ => None,
        }
    };
    let old = 2 * 288;
    let negative = |negative| Counts { total: negative, negative };
    let (short, chance) = (VolumeReason::HistoryTooShort, VolumeReason::Chance);
    assert_eq!(reason(old - 1, (90, 10.0, 99.0), negative(50)), Some(short));
    assert_eq!(reason(old, (0, 0.0, 0.0), negative(10)), Some(chance));
    assert_eq!(reason(old, (90, 200.0, 9.0), negative(80)), Some(VolumeReason::RiseTooSmall));
    assert_eq!(reason(old, (10, 5.0, 9.0), negative(80)), Some(VolumeReason::TooFewTweets));
    let joke = Counts { total: 2000, negative: 80 };
    assert_eq!(reason(old, (90, 10.0, 9.0), joke), Some(VolumeReason::ShareFell));
    assert_eq!(reason(old, (0, 0.0, 0.0), negative(120)), Some(VolumeReason::Passing));
    assert_eq!(reason(old, (90, 10.0, 9.0), negative(80)), None, "a surge opens");
}

#[test]
fn the_statistic_is_the_ratio_of_two_negative_binomials() {
    let check = |name: &str, tweets: u64, mean: f64, dispersion: f64, expected: f64| {
        let found = log_likelihood_ratio(tweets, surprise::Normal { mean, dispersion }, 3.0);
        assert!((found - expected).abs() < 1e-6, "{name}: {found}");
    };
    // With dispersion 1 the distribution is geometric: P(k) = m^k / (1 + m)^(k + 1).
    check(
        "geometric",
        3,
        2.0,
        1.0,
        3.0 * (6.0 / 7.0 / (2.0 / 3.0_f64)).ln() + (3.0 / 7.0_f64).ln(),
    );
    check("no tweets", 0, 2.0, 1.0, (3.0 / 7.0_f64).ln());
    // Without dispersion it is Poisson: k ln 3 - 2 m.
    check("Poisson", 9, 2.0, 1e-9, 9.0 * 3.0_f64.ln() - 4.0);
    check("nothing expected", 2, 0.0, 0.1, 2.0 * 3.0_f64.ln());
    let threshold = VolumePolicy::of(Volume::All).threshold();
    assert!((threshold.exp() - 8640.0).abs() < 1e-6, "one in a month of buckets");
}
