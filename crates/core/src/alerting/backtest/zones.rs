//! Seasons: in the time zone of a brand, over a change of the clocks, and from the first day on.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::alerting::{ShareRule, VolumePolicy};
use crate::domain::Zone;

const DAY: i64 = 1440;
/// Sunday, 29 March 2026, 01:00 UTC: clocks in Paris go from 2 to 3.
const CHANGE: Minute = Minute(29_579_100);

fn paris() -> Zone {
    Zone::parse("Europe/Paris").expect("a zone")
}

fn policy(zone: Zone) -> BuzzPolicy {
    let share = SharePolicy {
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
    let policy = BuzzPolicy {
        share,
        volumes: vec![VolumePolicy::of(Volume::Negative)],
        reopen_minutes: 1440,
        thresholds: Thresholds::default(),
    };
    policy.in_zone(zone)
}

/// Eight weeks before the change and four days after it, of people who live by the clock of Paris: 30 tweets a minute from
/// 7 to 23 o'clock, 2 at night; 20 % of them negative, and this part from 20 to 23 o'clock.
fn weeks(evening: f64, seed: u64) -> Vec<(Minute, Counts)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (CHANGE.0 - 56 * DAY..CHANGE.0 + 4 * DAY)
        .map(|at| {
            let hour = paris().hour_of_week(Minute(at)) % 24;
            let total = random.random_range(0..=if (7..23).contains(&hour) { 60 } else { 4 });
            let share = if (20..23).contains(&hour) { evening } else { 0.2 };
            let negative = (0..total).filter(|_| random.random_bool(share)).count() as u64;
            (Minute(at), Counts { total, negative })
        })
        .collect()
}

/// The incidents of the four days after the change.
fn alarms(counts: &[(Minute, Counts)], zone: Zone) -> usize {
    backtest(&policy(zone), counts, CHANGE, CHANGE.plus(4 * DAY - 1)).alerts.len()
}

#[test]
fn a_change_of_the_clocks_alarms_only_where_the_season_is_in_utc() {
    let (mut local, mut utc) = (0, 0);
    for seed in 0..3 {
        let counts = weeks(0.2, seed);
        local += alarms(&counts, paris());
        utc += alarms(&counts, Zone::UTC);
    }
    assert_eq!(local, 0, "nothing has changed for these people");
    assert!(utc >= 3, "{utc} false alarms in 3 brands: their day begins an hour earlier");
}

#[test]
fn the_expected_share_follows_the_clock() {
    let counts = weeks(0.4, 1);
    let morning = CHANGE.plus(DAY + 8 * 60);
    let expected = |zone, hour: i64| {
        let policy = policy(zone).share;
        let history = morning.plus(-policy.history_minutes());
        let series = Series::new(history, morning, between(&counts, history, morning), &[]);
        let hours = hourly(&counts[..counts.partition_point(|(at, _)| *at < morning)]);
        let baseline = Baseline::learn(&policy, &hours, &[], &series, morning);
        // Two hours ahead of UTC since the change.
        let local_midnight = CHANGE.plus(DAY - 3 * 60);
        baseline.expect("enough tweets").expected(local_midnight.plus(hour * 60))
    };
    let check = |name: &str, zone, hour, expected_share: f64| {
        let found = expected(zone, hour);
        assert!((found - expected_share).abs() < 0.05, "{name}: {found}");
    };
    check("before the evening", paris(), 19, 0.2);
    check("the evening begins", paris(), 20, 0.4);
    check("its last hour", paris(), 22, 0.4);
    check("the evening begins an hour late in UTC", Zone::UTC, 20, 0.2);
    check("and goes on into the night", Zone::UTC, 23, 0.4);
}

/// A brand that is angrier each evening, from the first day on; on the last evening it is much more so.
#[test]
fn angry_evenings_are_learned_though_each_of_them_alarms() {
    const DAYS: i64 = 15;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let share = |day: i64, hour: usize| match (day, hour) {
        (14, 20..23) => 0.75,
        (_, 20..23) => 0.45,
        _ => 0.2,
    };
    let counts: Vec<_> = (0..DAYS * DAY)
        .map(|at| {
            let (day, hour) = (at / DAY, Zone::UTC.hour_of_week(Minute(at)) % 24);
            let total = random.random_range(0..40);
            let negative =
                (0..total).filter(|_| random.random_bool(share(day, hour))).count() as u64;
            (Minute(at), Counts { total, negative })
        })
        .collect();
    let policy = BuzzPolicy { reopen_minutes: 0, ..policy(Zone::UTC) };
    let found = backtest(&policy, &counts, Minute(0), Minute(DAYS * DAY - 1));
    let days: Vec<i64> = found.alerts.iter().map(|alert| alert.opened.0 / DAY).collect();
    println!("{days:?}");
    assert!(
        days.iter().all(|day| *day <= 6 || *day == 14),
        "they are known after a week: {days:?}"
    );
    assert!(days.contains(&14), "what is more than usual is still found: {days:?}");
    assert!(days.len() > 3, "without history, they alarm at first: {days:?}");
}
