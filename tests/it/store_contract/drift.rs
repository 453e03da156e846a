//! Comparisons of a day's tweets with those before.

use monitor_core::drift::{Change, Measure, Measured, Report, Verdict};
use monitor_store::{DriftDay, Store};

use super::fixtures::*;

pub async fn keeps_the_newest_drift(store: &dyn Store) {
    let measured = |verdict, value| Measured {
        measure: Measure::Languages,
        verdict,
        value,
        limit: value.map(|value| value / 2.0),
        usual: vec![(0, 0.1), (2, 0.125)],
        false_alarms_per_month: 0.2,
        changes: vec![Change { what: "fr".into(), before: 0.01, now: 0.3 }],
    };
    let day = |day: i64, verdict, value| DriftDay {
        day: minute(day * 1440).start(),
        model: "m@1".into(),
        report: Report {
            recent: format!("day {day}"),
            tweets: 2000,
            reference: vec!["a".into(), "b".into(), "c".into()],
            reference_tweets: 6000,
            measures: vec![measured(verdict, value)],
        },
    };
    assert_eq!(store.latest_drift().await.expect("none"), None);
    let second = day(2, Verdict::Drifted, Some(0.3));
    for drift in [&day(1, Verdict::Usual, Some(0.1)), &second] {
        store.record_drift(drift).await.expect("stored");
    }
    assert_eq!(store.latest_drift().await.expect("one"), Some(second));
    let again = day(2, Verdict::TooFewPeriods, None);
    store.record_drift(&again).await.expect("stored again");
    store.record_drift(&day(0, Verdict::Usual, Some(0.1))).await.expect("an earlier day");
    assert_eq!(store.latest_drift().await.expect("the newest"), Some(again));
}
