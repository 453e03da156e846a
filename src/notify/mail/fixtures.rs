//! A notification to word, for tests.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Counts;
use crate::store::{CurvePoint, Example, Notification, OutboxRow};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// An outbox row of a storm over an airline.
pub(in crate::notify) fn row(transition: &str) -> OutboxRow {
    let opened_at = at("2015-02-23T14:05:00Z");
    let opened = transition == "opened";
    let observed = if opened {
        Counts { total: 120, negative: 94 }
    } else {
        Counts { total: 1_241, negative: 707 }
    };
    let curve = (0..24)
        .map(|hour| {
            let total = if hour == 3 { 0 } else { 10 + (hour * 7) % 31 };
            let percent = if hour > 20 { 78 } else { 40 + (hour * 5) % 23 };
            CurvePoint {
                at: opened_at - TimeDelta::hours(24 - hour as i64),
                total,
                negative: total * percent / 100,
            }
        })
        .collect();
    let example = |id: &str, text: &str, created_at, negative| Example {
        tweet_id: id.into(),
        text: text.into(),
        created_at: at(created_at),
        negative,
    };
    OutboxRow {
        id: 1,
        key: format!("incident-7-{transition}-comms"),
        receiver: "comms".into(),
        notification: Notification {
            incident_id: 7,
            transition: transition.into(),
            brand: "united".into(),
            at: if opened { opened_at } else { at("2015-02-23T17:25:00Z") },
            opened_at,
            window_minutes: 60,
            observed: observed.into(),
            baseline: Counts { total: 4_312, negative: 2_371 }.into(),
            expected_share: 0.55,
            z: if opened { 5.25 } else { 1.5 },
            z_min: 4.0,
            reason: if opened {
                "94 of 120 tweets are negative (78 %) where 66 would be usual; \
                 chance does not explain the rise."
                    .into()
            } else {
                "The share has been back near its usual level for 30 minutes.".into()
            },
            examples: vec![
                example(
                    "569000000000000001",
                    "@united lost my bag AGAIN & nobody answers. <3 hours on hold.\nNever again!",
                    "2015-02-23T13:58:12Z",
                    0.98,
                ),
                example(
                    "569000000000000002",
                    "stuck on the tarmac for two hours, no water, no word",
                    "2015-02-23T14:01:40Z",
                    0.93,
                ),
            ],
            curve,
        },
        attempts: 1,
    }
}
