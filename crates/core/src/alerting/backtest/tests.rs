use super::*;
use crate::alerting::{ShareRule, Volume, VolumePolicy};

const DAY: i64 = 1440;

const POLICY: SharePolicy = SharePolicy {
    rule: ShareRule::EDetector { false_alarms_per_month: 1.0 },
    tweets_min: 30,
    rise_min: 0.05,
    baseline_tweets_min: 100,
    short_minutes: 15,
    for_minutes: 0,
    resolve_minutes: 30,
    new_normal_minutes: 2 * 1440,
    zone: crate::domain::Zone::UTC,
};

/// Ten tweets a minute, two of them negative (eight while `high`); none while `away`.
fn counts(
    days: i64,
    high: impl Fn(i64) -> bool,
    away: impl Fn(i64) -> bool,
) -> Vec<(Minute, Counts)> {
    (0..days * DAY)
        .filter(|minute| !away(*minute))
        .map(|minute| {
            let negative = if high(minute) { 8 } else { 1 + (minute % 3) as u64 };
            (Minute(minute), Counts { total: 10, negative })
        })
        .collect()
}

/// The share and these volumes; each rise is an incident of its own.
fn with(volumes: &[VolumePolicy]) -> BuzzPolicy {
    let thresholds = Thresholds { warning_rise: 0.1, critical_rise: 0.9, ..Thresholds::default() };
    BuzzPolicy { share: POLICY, volumes: volumes.to_vec(), reopen_minutes: 0, thresholds }
}

fn run(counts: &[(Minute, Counts)], from: i64, to: i64) -> Backtest {
    backtest(&with(&[]), counts, Minute(from), Minute(to))
}

#[test]
fn finds_rises_and_counts_every_minute() {
    let check = |name: &str, high: &[(i64, i64)], from: i64, opened: &[usize]| {
        let risen = |minute| high.iter().any(|(a, b)| (*a..*b).contains(&minute));
        let counts = counts(6, risen, |_| false);
        let found = run(&counts, from, 6 * DAY - 1);
        let at: Vec<usize> = found
            .alerts
            .iter()
            .map(|alert| {
                let place = |(a, b): &(i64, i64)| (*a..*b).contains(&alert.opened.0);
                high.iter().position(place).unwrap_or_else(|| panic!("{name}: {alert:?}"))
            })
            .collect();
        assert_eq!(at, opened, "{name}");
        let quiet: u64 = found.minutes_quiet.values().sum();
        assert_eq!(found.minutes, quiet + found.minutes_open, "{name}");
        assert_eq!(found.minutes as i64, 6 * DAY - from, "{name}");
        assert_eq!(found.tweets.total, 10 * found.minutes, "{name}");
        assert_eq!(found.hours.len() as u64, found.minutes.div_ceil(60), "{name}");
    };
    check("calm", &[], 0, &[]);
    let twice = [(3 * DAY, 3 * DAY + 90), (5 * DAY, 5 * DAY + 60)];
    check("two rises", &twice, 0, &[0, 1]);
    check("starts between the rises", &twice, 4 * DAY, &[1]);
    check("starts within a rise", &twice, 3 * DAY + 60, &[1]);
    check("before there is a baseline", &[(30, 60)], 0, &[]);
}

#[test]
fn an_alert_has_its_opening_and_its_worst_evidence() {
    let start = 3 * DAY;
    let found = run(&counts(4, |m| (start..start + 120).contains(&m), |_| false), 0, 4 * DAY - 1);
    let [alert] = &found.alerts[..] else { panic!("{:?}", found.alerts) };
    let (resolved, why) = alert.resolved.expect("the alert resolved");
    assert_eq!(why, ResolveReason::Calm);
    assert!((start..start + 20).contains(&alert.opened.0), "{alert:?}");
    assert!((start + 120..start + 180).contains(&resolved.0), "{alert:?}");
    let share = |evidence: &Evidence| evidence.share().map_or(0.0, |e| e.observed_share());
    assert!(share(alert.worst()) >= share(&alert.opening), "{alert:?}");
    let [phase] = &alert.phases[..] else { panic!("{alert:?}") };
    assert!(phase.peak_at >= alert.opened && phase.peak_at < resolved, "{alert:?}");
    assert_eq!((phase.began, phase.ended), (alert.opened, Some(resolved)));
    assert_eq!(alert.spans, [(alert.opened, Some(resolved))]);
    assert_eq!(alert.severity, Severity::Warning);
    assert_eq!(found.minutes_open as i64, resolved.0 - alert.opened.0 + 1);
    // During the incident, the expected share is the one from before it.
    let within = found.hours.iter().find(|hour| hour.start == Minute(start + 60)).unwrap();
    let (expected, band) = within.expected.unwrap();
    assert!((expected - 0.2).abs() < 0.02 && band.high < 0.4, "{within:?}");
}

#[test]
fn a_lasting_rise_becomes_the_new_normal_and_a_recent_one_stays_open() {
    let found = run(&counts(9, |m| m >= 3 * DAY, |_| false), 0, 9 * DAY - 1);
    let [alert] = &found.alerts[..] else { panic!("{:?}", found.alerts) };
    assert!(matches!(alert.resolved, Some((_, ResolveReason::NewNormal))), "{alert:?}");
    let found = run(&counts(4, |m| m >= 4 * DAY - 60, |_| false), 0, 4 * DAY - 1);
    let [alert] = &found.alerts[..] else { panic!("{:?}", found.alerts) };
    assert_eq!(alert.resolved, None);
}

#[test]
fn a_gap_and_empty_counts_raise_no_alert() {
    let away = |minute| (3 * DAY..3 * DAY + 600).contains(&minute);
    let found = run(&counts(5, |_| false, away), 0, 5 * DAY - 1);
    assert_eq!(found.alerts, []);
    assert_eq!(found.minutes as i64, 5 * DAY, "a minute without tweets is evaluated too");
    assert_eq!(found.hours.iter().filter(|hour| hour.counts.total == 0).count(), 10);
    assert_eq!(run(&[], 0, 100), Backtest::default());
}

#[test]
fn finds_surges_only_with_a_volume_policy() {
    let more = |minute: i64| if (4 * DAY..4 * DAY + 120).contains(&minute) { 10 } else { 1 };
    let counts: Vec<_> = (0..5 * DAY)
        .map(|m| (Minute(m), Counts { total: 10 * more(m), negative: 2 * more(m) }))
        .collect();
    let alerts = |volumes: &[VolumePolicy]| {
        backtest(&with(volumes), &counts, Minute(0), Minute(5 * DAY - 1)).alerts
    };
    assert_eq!(alerts(&[]), []);
    let found = alerts(&[VolumePolicy::of(Volume::All)]);
    let [alert] = &found[..] else { panic!("one surge") };
    assert!((4 * DAY..4 * DAY + 30).contains(&alert.opened.0), "{alert:?}");
    assert!(matches!(alert.resolved, Some((_, ResolveReason::Calm))), "{alert:?}");
    assert!(matches!(alert.worst(), Evidence::Surge(_)));
}
