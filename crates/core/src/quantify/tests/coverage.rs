//! Of the simulated 95 % intervals, 93 to 97 % contain the true share.

use super::*;

const RUNS: u32 = 3000;

/// How many of `n` draws succeed.
fn binomial(n: u64, probability: f64, random: &mut ChaCha8Rng) -> u64 {
    (0..n).filter(|_| random.random_bool(probability)).count() as u64
}

/// Share of `RUNS` simulated intervals that contain `truth`. An estimate that was refused does
/// not count as containing it.
fn coverage(truth: f64, mut one: impl FnMut(&mut ChaCha8Rng) -> Option<Estimate>) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let contains = |estimate: Estimate| {
        let Interval { low, high } = estimate.interval;
        (low..=high).contains(&truth)
    };
    let hits = (0..RUNS).filter(|_| one(&mut random).is_some_and(contains)).count();
    hits as f64 / f64::from(RUNS)
}

#[test]
fn intervals_of_adjusted_counts_cover_the_truth() {
    let check = |name: &str, truth: f64, (t, f): (f64, f64), sizes: [u64; 3]| {
        let [n, negatives, others] = sizes;
        let found = coverage(truth, |random| {
            let rates = Rates::measured(
                counts(negatives, binomial(negatives, t, random)),
                counts(others, binomial(others, f, random)),
            );
            let q = truth * t + (1.0 - truth) * f;
            adjusted_count(counts(n, binomial(n, q, random)), &rates.unwrap(), 1.0)
        });
        assert!((0.93..=0.97).contains(&found), "{name}: {found}");
    };
    check("usual", 0.2, (0.76, 0.18), [1000, 400, 1200]);
    check("half", 0.5, (0.76, 0.18), [500, 300, 300]);
    check("few labels", 0.2, (0.76, 0.18), [1000, 60, 60]);
    check("few tweets", 0.3, (0.83, 0.15), [60, 400, 1200]);
    check("nearly none", 0.01, (0.76, 0.18), [2000, 400, 1200]);
    check("nearly all", 0.99, (0.76, 0.18), [2000, 400, 1200]);
}

#[test]
fn a_design_effect_keeps_the_coverage_where_tweets_of_a_minute_agree() {
    // A tweet repeats what its minute says with probability 1/2, so two tweets of a minute have a
    // correlation of 1/4.
    let (minutes, a_minute, q) = (100, 10, 0.296);
    let of_a_minute = |random: &mut ChaCha8Rng| {
        let common = u64::from(random.random_bool(q));
        let one = |random: &mut ChaCha8Rng| {
            if random.random_bool(0.5) { common } else { u64::from(random.random_bool(q)) }
        };
        (0..a_minute).map(|_| one(random)).sum::<u64>()
    };
    let found = |design_effect: f64| {
        coverage(0.2, |random| {
            let negative = (0..minutes).map(|_| of_a_minute(random)).sum();
            let rates = rates(0.76, 0.18, 1_000_000, 1_000_000);
            adjusted_count(counts(minutes * a_minute, negative), &rates, design_effect)
        })
    };
    let (with, without) = (found(1.0 + 9.0 * 0.25), found(1.0));
    assert!((0.93..=0.97).contains(&with), "{with}");
    assert!(without < 0.8, "{without}");
}

#[test]
fn intervals_of_three_classes_cover_the_truth() {
    // For each true class, how often the model calls it negative, neutral and positive.
    let model = [[0.75, 0.18, 0.07], [0.15, 0.65, 0.20], [0.05, 0.20, 0.75]];
    let truth = [0.2, 0.5, 0.3];
    let draw = |n: u64, shares: &[f64; 3], random: &mut ChaCha8Rng| -> [u64; 3] {
        let negative = binomial(n, shares[0], random);
        let neutral = binomial(n - negative, shares[1] / (shares[1] + shares[2]), random);
        [negative, neutral, n - negative - neutral]
    };
    let mixed = std::array::from_fn(|i| (0..3).map(|j| truth[j] * model[j][i]).sum());
    for (class, truth) in truth.into_iter().enumerate() {
        let found = coverage(truth, |random| {
            let labelled = model.map(|shares| draw(300, &shares, random));
            Some(adjusted_shares(&draw(1000, &mixed, random), &labelled, 1.0)?[class])
        });
        assert!((0.93..=0.97).contains(&found), "class {class}: {found}");
    }
}

#[test]
fn prediction_powered_intervals_cover_the_truth() {
    let thirds = |score: f64| if score < 0.3 { 0 } else { 1 + u32::from(score >= 0.8) };
    let check = |name: &str, tuning: Tuning, tweets: usize, each: &[usize]| {
        let found = coverage(SCORED, |random| {
            let stream = scored(tweets, random);
            let stratum = |score| if each.len() == 1 { 0 } else { thirds(score) };
            prediction_powered(count_of(&stream), &sample(&stream, stratum, each), tuning, 1.0)
        });
        assert!((0.93..=0.97).contains(&found), "{name}: {found}");
    };
    check("plain", Tuning::Plain, 4000, &[200]);
    check("tuned", Tuning::Power, 4000, &[200]);
    check("half of the stream", Tuning::Power, 800, &[400]);
    check("strata", Tuning::Power, 4000, &[60, 120, 90]);
    check("strata, plain", Tuning::Plain, 4000, &[60, 120, 90]);
}
