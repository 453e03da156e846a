use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::alerting::Series;
use crate::domain::{Minute, Zone};

const POLICY: SharePolicy = SharePolicy {
    rule: ShareRule::EDetector { false_alarms_per_month: 1.0 },
    tweets_min: 30,
    rise_min: 0.05,
    baseline_tweets_min: 100,
    short_minutes: 15,
    for_minutes: 0,
    resolve_minutes: 30,
    new_normal_minutes: 2 * 1440,
    zone: Zone::UTC,
};
const DAY: i64 = 1440;

/// Counts for `minutes` minutes, with `a_minute` tweets per minute on average.
fn stream(
    minutes: i64,
    a_minute: impl Fn(i64) -> u64,
    share: impl Fn(i64) -> f64,
    seed: u64,
) -> Vec<(Minute, Counts)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..minutes)
        .map(|m| {
            let total = random.random_range(0..=2 * a_minute(m));
            let negative = (0..total).filter(|_| random.random_bool(share(m))).count() as u64;
            (Minute(m), Counts { total, negative })
        })
        .collect()
}

/// Evaluates minutes as the daemon does.
struct Daemon<'a> {
    policy: SharePolicy,
    counts: &'a [(Minute, Counts)],
    series: Series,
    hours: Vec<(Minute, Counts)>,
    baseline: Option<Baseline>,
    state: ShareState,
    steps: Vec<(i64, &'static str)>,
}

impl<'a> Daemon<'a> {
    fn new(policy: SharePolicy, counts: &'a [(Minute, Counts)]) -> Self {
        let series = Series::new(Minute(0), counts[counts.len() - 1].0, counts, &[]);
        let hours = (0..counts.len() as i64 / 60)
            .map(|h| (Minute(h * 60), series.sum(Minute(h * 60), Minute(h * 60 + 59))))
            .collect();
        Self {
            policy,
            counts,
            series,
            hours,
            baseline: None,
            state: ShareState::default(),
            steps: Vec::new(),
        }
    }

    fn evaluate(&mut self, m: i64) -> ShareVerdict {
        let minute = Minute(m);
        // Every two hours is often enough for a test.
        if m % 120 == 0 {
            let (hours, excluded) = (&self.hours, self.state.excluded());
            self.baseline = Baseline::learn(&self.policy, hours, &excluded, &self.series, minute);
        }
        let (next, verdict) =
            self.policy.evaluate(&self.series, self.baseline.as_ref(), &self.state, minute);
        match &verdict {
            ShareVerdict::Open(_) => self.steps.push((m, "opened")),
            ShareVerdict::Resolve(_, reason) => {
                self.steps.push((m, reason.as_str()));
                let last = self.counts[self.counts.len() - 1].0;
                self.series = Series::new(Minute(0), last, self.counts, &next.excluded());
            }
            ShareVerdict::Quiet(_) | ShareVerdict::Firing(..) => {}
        }
        self.state = next;
        verdict
    }

    fn run(mut self, from: i64) -> Vec<(i64, &'static str)> {
        for m in from..self.counts.len() as i64 {
            self.evaluate(m);
        }
        self.steps
    }
}

#[test]
fn quiet_streams_stay_quiet() {
    // `scripts/bench detection` has more.
    let uneven = |m: i64| if m % DAY < 400 { 0 } else { 1 + 30 * u64::from(m % 97 == 0) };
    let check = |name: &str, a_minute: &dyn Fn(i64) -> u64, share: f64| {
        let counts = stream(3 * DAY, a_minute, |_| share, 1);
        assert_eq!(Daemon::new(POLICY, &counts).run(DAY), [], "{name}");
    };
    check("few tweets", &|_| 1, 0.2);
    check("many tweets", &|_| 10, 0.6);
    check("uneven", &uneven, 0.4);
    check("hardly any negatives", &|_| 5, 0.001);
    check("hardly any others", &|_| 5, 0.999);
    check("no negatives", &|_| 2, 0.0);
    check("negatives only", &|_| 2, 1.0);
    check("no tweets", &|_| 0, 0.5);
}

#[test]
fn a_shift_opens_once_and_resolves_once() {
    let shifted = |m: i64| if (2000..2180).contains(&m) { 0.5 } else { 0.2 };
    for seed in 0..3 {
        let counts = stream(2600, |_| 5, shifted, seed);
        let found = Daemon::new(POLICY, &counts).run(1800);
        let [(opened, "opened"), (resolved, "calm")] = found[..] else {
            panic!("seed {seed}: {found:?}")
        };
        assert!((2000..2020).contains(&opened), "seed {seed}: opened at {opened}");
        assert!((2180..2300).contains(&resolved), "seed {seed}: resolved at {resolved}");
    }
}

#[test]
fn a_share_that_stays_becomes_the_new_normal() {
    // It is told once, and does not open again on the two days that follow.
    for seed in 0..8 {
        let counts = stream(2000 + 4 * DAY, |_| 5, |m| if m < 2000 { 0.2 } else { 0.5 }, seed);
        let found = Daemon::new(POLICY, &counts).run(1800);
        let [(opened, "opened"), (ended, "new normal")] = found[..] else { panic!("{found:?}") };
        assert_eq!(ended - opened, 2 * DAY);
    }
}

#[test]
fn a_share_that_still_changes_is_no_new_normal() {
    // Higher by day, lower by night, and each day worse.
    let share = |m: i64| match m - 2000 {
        ..0 => 0.2,
        since => 0.4 + 0.08 * (since / DAY) as f64 + if since % DAY < 700 { 0.0 } else { 0.05 },
    };
    let counts = stream(2000 + 4 * DAY, |_| 10, share, 1);
    let found = Daemon::new(POLICY, &counts).run(1800);
    let [(_, "opened")] = found[..] else { panic!("{found:?}") };
}

#[test]
fn a_rise_above_the_new_normal_opens() {
    let share = |m: i64| match m - 2000 {
        ..0 => 0.2,
        0..4000 => 0.4,
        _ => 0.7,
    };
    let counts = stream(2000 + 4200, |_| 10, share, 1);
    let found = Daemon::new(POLICY, &counts).run(1800);
    let steps: Vec<_> = found.iter().map(|step| step.1).collect();
    assert_eq!(steps, ["opened", "new normal", "opened"], "{found:?}");
}

#[test]
fn a_past_incident_does_not_hide_the_next() {
    // The first incident lasts nine hours. A baseline that had learned from it would not see
    // 0.35 as a rise.
    let share = |m: i64| match m {
        1500..2040 => 0.9,
        3300..3400 => 0.35,
        _ => 0.2,
    };
    let counts = stream(3500, |_| 10, share, 3);
    let found = Daemon::new(POLICY, &counts).run(1400);
    let opened: Vec<_> = found.iter().filter(|step| step.1 == "opened").map(|s| s.0).collect();
    let [first, second] = opened[..] else { panic!("{found:?}") };
    assert!((1500..1510).contains(&first) && (3300..3330).contains(&second), "{found:?}");
}

#[test]
fn a_known_season_is_expected() {
    let day = |m: i64| if (m / 60) % 24 < 8 { 0.5 } else { 0.2 };
    let counts = stream(6 * DAY, |_| 10, day, 1);
    let daemon = Daemon::new(POLICY, &counts);
    let last = Minute(6 * DAY - 1);
    let learn = |hours| Baseline::learn(&POLICY, hours, &[], &daemon.series, last).expect("tweets");
    let (flat, seasonal) = (learn(&daemon.hours[..24]), learn(&daemon.hours[..]));
    for hour in 0..48 {
        let minute = last.plus(1 + 60 * hour);
        let truth = day(minute.0);
        let error = (seasonal.expected(minute) - truth).abs();
        assert!(error < 0.04, "hour {hour}: {} against {truth}", seasonal.expected(minute));
        assert!(error < (flat.expected(minute) - truth).abs(), "better than flat");
    }
    // The flat baseline measures the season as wander.
    let width = |baseline: &Baseline| baseline.interval(last).high - baseline.interval(last).low;
    assert!(width(&seasonal) < 0.3 * width(&flat));
}

#[test]
fn the_scatter_is_measured() {
    // Pairs of tweets with the same label have twice the variance.
    let check =
        |name: &str, share: &dyn Fn(i64) -> f64, twins: u64, dispersion: f64, wander: f64| {
            let counts: Vec<_> = stream(8 * DAY, |_| 4, share, 2)
                .into_iter()
                .map(|(m, c)| (m, Counts { total: c.total * twins, negative: c.negative * twins }))
                .collect();
            let series = Series::new(Minute(0), Minute(8 * DAY), &counts, &[]);
            let baseline =
                Baseline::learn(&POLICY, &[], &[], &series, Minute(8 * DAY)).expect("tweets");
            let interval = baseline.interval(Minute(8 * DAY));
            let deviation = (interval.high - interval.low) / 2.0 / 1.96;
            assert!((baseline.dispersion() - dispersion).abs() < 0.1, "{name}: {baseline:?}");
            assert!((deviation - wander).abs() < 0.01, "{name}: {deviation}");
        };
    check("independent", &|_| 0.3, 1, 1.0, 0.0);
    check("twins", &|_| 0.3, 2, 2.0, 0.0);
    check("wanders", &|m| if (m / 60) % 7 < 4 { 0.3 } else { 0.4 }, 1, 1.0, 0.05);
}

/// A series of two days of baseline, then `now`; returns it with its last minute.
fn two_days_then(share: f64, now: &[(u64, u64)]) -> (Series, Minute) {
    let mut counts: Vec<_> = (0..2 * DAY)
        .map(|m| {
            // Exactly the share over every hundred tweets.
            let below = |m: i64| ((10 * m) as f64 * share).round() as u64;
            (Minute(m), Counts { total: 10, negative: below(m + 1) - below(m) })
        })
        .collect();
    counts.extend(
        (2 * DAY..).zip(now).map(|(m, (negative, total))| {
            (Minute(m), Counts { total: *total, negative: *negative })
        }),
    );
    let last = counts[counts.len() - 1].0;
    (Series::new(Minute(0), last, &counts, &[]), last)
}

#[test]
fn says_why_it_is_quiet() {
    let check = |name: &str, policy: SharePolicy, now: &[(u64, u64)], expected: &str| {
        let (series, last) = two_days_then(0.2, now);
        let baseline = Baseline::learn(&policy, &[], &[], &series, Minute(2 * DAY));
        let mut state = ShareState::default();
        let mut found = String::new();
        for m in 2 * DAY..=last.0 {
            let verdict;
            (state, verdict) = policy.evaluate(&series, baseline.as_ref(), &state, Minute(m));
            found = match verdict {
                ShareVerdict::Quiet(reason) => reason.as_str().to_owned(),
                ShareVerdict::Open(evidence) => format!("opened by {}", evidence.rule),
                other => format!("{other:?}"),
            };
        }
        assert_eq!(found, expected, "{name}");
    };
    let unknown = SharePolicy { baseline_tweets_min: 1_000_000, ..POLICY };
    let lasting = SharePolicy { for_minutes: 2, ..POLICY };
    let large = SharePolicy { rise_min: 0.5, ..POLICY };
    let above =
        SharePolicy { rule: ShareRule::ShareAbove { share: 0.5, window_minutes: 5 }, ..POLICY };
    let times =
        SharePolicy { rule: ShareRule::TimesPrevious { times: 2.0, window_minutes: 5 }, ..POLICY };
    let slight = SharePolicy { rise_min: 0.3, ..times };
    check("no history", unknown, &[(100, 100)], "no baseline");
    check("no change", POLICY, &[(2, 10); 20], "chance");
    check("no tweets", POLICY, &[(0, 0); 20], "chance");
    check("a large rise on few tweets", POLICY, &[(20, 20)], "too few tweets");
    check("enough tweets", POLICY, &[(40, 40)], "opened by e-detector");
    check("a small rise on many tweets", large, &[(60, 100); 20], "rise too small");
    check("not yet long enough", lasting, &[(40, 40); 2], "too short");
    check("long enough", lasting, &[(40, 40); 3], "opened by e-detector");
    check("below", above, &[(9, 20); 5], "below the threshold");
    check(
        "above, on few tweets",
        above,
        &[(0, 0), (0, 0), (0, 0), (0, 0), (9, 9)],
        "too few tweets",
    );
    check("above", above, &[(0, 10), (0, 10), (0, 10), (0, 10), (70, 70)], "opened by share-above");
    check("not twice", times, &[(7, 20); 5], "below the threshold");
    check("twice", times, &[(9, 20); 4], "opened by times-previous");
    check("twice a small share", slight, &[(9, 20); 5], "rise too small");
}

#[test]
fn a_rise_seen_only_in_the_long_window_is_already_over() {
    let mut now = vec![(17, 20); 2];
    now.extend([(2, 10); 15]);
    // Without `for_minutes` the statistic would have decreased again.
    let policy = SharePolicy { for_minutes: 60, ..POLICY };
    let (series, last) = two_days_then(0.2, &now);
    let baseline = Baseline::learn(&policy, &[], &[], &series, Minute(2 * DAY));
    let mut state = ShareState::default();
    let mut found = Vec::new();
    for m in 2 * DAY..=last.0 {
        let (next, verdict) = policy.evaluate(&series, baseline.as_ref(), &state, Minute(m));
        let ShareVerdict::Quiet(reason) = verdict else { panic!("{verdict:?}") };
        found.push(reason);
        state = next;
    }
    found.dedup();
    let expected = [QuietReason::TooFewTweets, QuietReason::TooShort, QuietReason::AlreadyOver];
    assert_eq!(found, expected);
}

#[test]
fn the_simple_rules_open_and_resolve() {
    let check = |name: &str, rule: ShareRule, expected: [(i64, &str); 2]| {
        let mut now = vec![(2, 10); 30];
        now.extend([(8, 10); 60]);
        now.extend([(2, 10); 90]);
        let (series, last) = two_days_then(0.2, &now);
        let policy = SharePolicy { rule, ..POLICY };
        let (mut state, mut found) = (ShareState::default(), Vec::new());
        for m in 2 * DAY..=last.0 {
            let (next, verdict) = policy.evaluate(&series, None, &state, Minute(m));
            match verdict {
                ShareVerdict::Open(evidence) => {
                    assert_eq!(evidence.rule, rule.name());
                    found.push((m - 2 * DAY, "opened"));
                }
                ShareVerdict::Resolve(_, reason) => found.push((m - 2 * DAY, reason.as_str())),
                ShareVerdict::Quiet(_) | ShareVerdict::Firing(..) => {}
            }
            state = next;
        }
        assert_eq!(found, expected, "{name}");
    };
    // (2 (10 - i) + 8 i) / 100 reaches 0.5 with the fifth minute, and twice 0.2 with the
    // fourth. The first rule is calm below 0.475, the second below 0.225.
    let above = ShareRule::ShareAbove { share: 0.5, window_minutes: 10 };
    check("share above", above, [(34, "opened"), (125, "calm")]);
    let times = ShareRule::TimesPrevious { times: 2.0, window_minutes: 10 };
    check("times previous", times, [(33, "opened"), (129, "calm")]);
}

#[test]
fn evidence_contains_the_figures_behind_the_verdict() {
    let (series, last) = two_days_then(0.2, &[(2, 10), (2, 10), (40, 50)]);
    let baseline = Baseline::learn(&POLICY, &[], &[], &series, Minute(2 * DAY));
    let mut state = ShareState::default();
    for m in 2 * DAY..=last.0 {
        let (next, verdict) = POLICY.evaluate(&series, baseline.as_ref(), &state, Minute(m));
        state = next;
        if m < last.0 {
            assert_eq!(verdict, ShareVerdict::Quiet(QuietReason::Chance));
            continue;
        }
        let ShareVerdict::Open(found) = verdict else { panic!("{verdict:?}") };
        assert_eq!(found.since, last);
        assert_eq!(found.observed, Counts { total: 50, negative: 40 });
        assert_eq!(found.recent_minutes, 15);
        assert_eq!(found.recent, Counts { total: 190, negative: 68 });
        assert_eq!(found.baseline.total, 10 * (2 * DAY - 719) as u64);
        assert!((found.expected_share - 0.2).abs() < 1e-3, "{found:?}");
        // Wilson's interval of 40 in 50, from R: prop.test(40, 50, correct = FALSE).
        let Interval { low, high } = found.observed_interval;
        assert!((low - 0.6696).abs() < 1e-3 && (high - 0.8876).abs() < 1e-3, "{found:?}");
        assert!((found.statistic - 1.0).abs() < 1e-6 && found.threshold == 1.0, "{found:?}");
    }
}

#[test]
fn a_stored_state_gives_the_same_verdicts() {
    let shifted = |m: i64| if (2000..2100).contains(&m) { 0.4 } else { 0.2 };
    let counts = stream(2300, |_| 5, shifted, 4);
    let (mut one, mut other) = (Daemon::new(POLICY, &counts), Daemon::new(POLICY, &counts));
    for m in 1800..2300 {
        let json = serde_json::to_string(&other.state).expect("the state can be serialized");
        other.state = serde_json::from_str(&json).expect("the state can be deserialized");
        let (expected, found) = (one.evaluate(m), other.evaluate(m));
        // JSON may lose the last bit of a statistic.
        let plain = |verdict: &ShareVerdict| format!("{verdict:.9?}");
        assert_eq!(plain(&found), plain(&expected), "minute {m}");
    }
    assert_eq!(one.steps.len(), 2, "an incident opened and resolved: {:?}", one.steps);
}

#[test]
fn a_verdict_does_not_depend_on_the_length_of_the_series() {
    let shifted = |m: i64| if (2000..2100).contains(&m) { 0.4 } else { 0.2 };
    let counts = stream(2300, |_| 5, shifted, 5);
    let mut daemon = Daemon::new(POLICY, &counts);
    let mut state = ShareState::default();
    for m in 1800..2300 {
        let expected = daemon.evaluate(m);
        let first = Minute(m - POLICY.evaluation_minutes());
        let known = &counts[..=usize::try_from(m).unwrap()];
        let series = Series::new(first, Minute(m), known, &[]);
        let found;
        (state, found) = POLICY.evaluate(&series, daemon.baseline.as_ref(), &state, Minute(m));
        assert_eq!(found, expected, "minute {m}");
    }
}
