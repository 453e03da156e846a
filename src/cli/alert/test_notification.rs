//! The test notification: its figures are invented, and its text says so.

use chrono::{DateTime, TimeDelta, Utc};

use monitor_core::domain::{
    Counts, Evidence, Interval, Minute, Severity, ShareEvidence, Transition,
};
use monitor_store::{CurvePoint, Driver, Drivers, Example, Notification};

/// Hours of the curve, and the last hours, in which the share is higher.
const HOURS: i64 = 24;
const RISE_HOURS: i64 = 2;

/// A test notification with every part that a real one may have.
pub fn build(
    receiver: &str,
    brand: &str,
    key: &str,
    public_url: Option<&str>,
    now: DateTime<Utc>,
) -> Notification {
    let minute = Minute::of(now);
    let evidence = Evidence::Share(ShareEvidence {
        rule: "e-detector",
        since: minute.plus(1 - 60 * RISE_HOURS),
        window_minutes: 60 * RISE_HOURS as u32,
        observed: Counts { total: 120, negative: 66 },
        observed_interval: Interval { low: 0.46, high: 0.64 },
        recent_minutes: 15,
        recent: Counts { total: 15, negative: 9 },
        baseline: Counts { total: 1320, negative: 330 },
        expected_share: 0.25,
        expected_interval: Interval { low: 0.23, high: 0.27 },
        statistic: 20.0,
        threshold: 10.0,
        dispersion: 1.1,
    });
    let point = |hours: i64| CurvePoint {
        at: minute.plus(1 - 60 * hours).start(),
        total: 60,
        negative: if hours <= RISE_HOURS { 33 } else { 15 },
    };
    let example = |id: &str, text: &str, minutes: i64, alike| Example {
        tweet_id: id.into(),
        text: text.into(),
        created_at: now - TimeDelta::minutes(minutes),
        negative: 0.97,
        author: Some("example".into()),
        reach: Some(1200),
        alike,
        words: Vec::new(),
    };
    let driver = |term: &str, kind: &str, tweets, z| Driver {
        term: term.into(),
        kind: kind.into(),
        tweets,
        baseline_tweets: 3,
        z,
    };
    Notification {
        incident_id: 0,
        transition: Transition::Opened.as_str().into(),
        test: true,
        brand: brand.into(),
        severity: Severity::Notice.as_str().into(),
        at: minute.start(),
        opened_at: minute.start(),
        reason: format!(
            "This is a test of the receiver {receiver}: nothing has happened, and all figures \
             are made up."
        ),
        evidence,
        phases: Vec::new(),
        corrected: None,
        drivers: Drivers {
            terms: vec![driver("test", "word", 31, 6.5), driver("#test", "hashtag", 12, 4.0)],
            one_tweet_share: 0.2,
            tweets: 66,
            ..Drivers::default()
        },
        examples: vec![
            example("1", "This is not a tweet, but a test.", 20, 4),
            example("2", "Nor is this one. <b>No bold</b> & no harm.", 5, 1),
        ],
        curve: (1..=HOURS).rev().map(point).collect(),
        curve_minutes: 60,
        echoes: 0,
        also: Vec::new(),
        thread: key.into(),
        url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
        digest: None,
        missed: Vec::new(),
    }
}
