//! Tweets, batches and decisions for the checks of the contract.

use std::time::Duration;

use chrono::{DateTime, Utc};
use monitor_core::alerting::{Heard, SuppressReason};
use monitor_core::domain::{
    Cause, Counts, Evidence, IncidentId, Interval, LagEvidence, Minute, Offset, Phase,
    Probabilities, Probability, QuietEvidence, Score, Severity, ShareEvidence, StartAt,
    TopicPartition, Transition, Tweet, TweetId, VolumeEvidence, Watch,
};
use monitor_core::words::word_weights;
use monitor_store::{
    Advance, Batch, Claim, Committed, DeadLetter, Decision, Delivery, DetectorState, Drivers,
    Example, ModelScore, Notification, OutboxRow, OutboxState, ScoredTweet, Step, Store,
    Suppressed,
};
use serde_json::json;

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A minute of the day of these tests.
pub fn minute(n: i64) -> Minute {
    Minute::of(at("2015-02-23T00:00:00Z")).plus(n)
}

pub fn partition(n: i32) -> TopicPartition {
    TopicPartition::new("tweets", n)
}

pub fn scored(
    id: &str,
    text: &str,
    created_at: DateTime<Utc>,
    brands: &[&str],
    p: f32,
) -> ScoredTweet {
    let id = TweetId::new(id).expect("an id");
    ScoredTweet {
        tweet: Tweet::new(id, text, created_at, Vec::new()).expect("a tweet"),
        brands: brands.iter().map(|&b| b.to_owned()).collect(),
        score: Some(ModelScore::new(
            Score::new(
                Probabilities::two(Probability::new(p).expect("p")),
                Probability::HALF.into(),
            ),
            "test@1",
        )),
        heard: Heard::Always,
    }
}

pub fn tweet(id: &str, brands: &[&str], p: f32) -> ScoredTweet {
    scored(id, &format!("text of {id}"), minute(5).start(), brands, p)
}

/// Without the parts of each brand.
pub fn sums(committed: Committed) -> Committed {
    Committed { by_brand: Vec::new(), ..committed }
}

pub fn advance(n: i32, from: i64, to: i64) -> Advance {
    Advance {
        partition: partition(n),
        from: Offset(from),
        to: Offset(to),
        event_time_max: None,
        record_time_max: None,
    }
}

pub fn batch(scores: Vec<ScoredTweet>, advances: Vec<Advance>) -> Batch {
    Batch { scores, advances, ..Batch::default() }
}

pub fn claim(n: i32, low: i64, high: i64) -> Claim {
    Claim { partition: partition(n), seen: None, low: Offset(low), high: Offset(high) }
}

pub async fn claim_empty(store: &dyn Store, partitions: i32) {
    let claims: Vec<_> = (0..partitions).map(|n| claim(n, 0, 1000)).collect();
    store.claim(&claims, StartAt::Earliest).await.expect("claimed");
}

pub async fn positions(store: &dyn Store) -> Vec<i64> {
    let progress = store.progress("tweets").await.expect("progress");
    progress.iter().map(|p| p.position.0).collect()
}

pub async fn all_counts(store: &dyn Store, brand: &str) -> Vec<(Minute, Counts)> {
    store.minute_counts(brand, minute(-10_000), minute(10_000)).await.expect("counts")
}

pub fn evidence(cause: Cause) -> Evidence {
    match cause {
        Cause::Share => Evidence::Share(ShareEvidence {
            rule: "e-detector",
            since: minute(-3),
            window_minutes: 64,
            observed: Counts { total: 120, negative: 94 },
            observed_interval: Interval { low: 0.7, high: 0.85 },
            recent_minutes: 15,
            recent: Counts { total: 30, negative: 25 },
            baseline: Counts { total: 800, negative: 440 },
            expected_share: 0.55,
            expected_interval: Interval { low: 0.5, high: 0.6 },
            statistic: 5.25,
            threshold: 4.0,
            dispersion: 1.5,
        }),
        Cause::NegativeVolume => Evidence::NegativeVolume(volume()),
        Cause::Surge => Evidence::Surge(volume()),
        Cause::Quiet => Evidence::Quiet(QuietEvidence {
            last: Some(at("2015-02-22T23:30:30Z")),
            minutes: 31,
            expected_tweets: 120.25,
            limit_minutes: 30,
        }),
        Cause::BrandQuiet => Evidence::BrandQuiet(QuietEvidence {
            last: Some(at("2015-02-22T23:31:00Z")),
            minutes: 61,
            expected_tweets: 40.25,
            limit_minutes: 60,
        }),
        Cause::Lag => Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
    }
}

fn volume() -> VolumeEvidence {
    VolumeEvidence {
        since: minute(-2),
        observed: 900,
        expected: 300.5,
        tweets: Counts { total: 1800, negative: 900 },
        usual_share: 0.45,
        statistic: 11.0,
        threshold: 4.5,
    }
}

pub fn example(text: &str) -> Example {
    Example {
        tweet_id: "1".into(),
        text: text.into(),
        created_at: minute(59).start(),
        negative: 0.9,
        author: None,
        reach: None,
        alike: 1,
        words: word_weights(text, [(0..text.len(), 0.5)]),
    }
}

pub fn notification(brand: &str, cause: Cause, transition: Transition) -> Notification {
    Notification {
        incident_id: 0,
        transition: transition.as_str().into(),
        test: false,
        brand: brand.into(),
        severity: "warning".into(),
        at: minute(60).start(),
        opened_at: minute(60).start(),
        reason: format!("because of {brand}"),
        evidence: evidence(cause),
        phases: Vec::new(),
        corrected: None,
        drivers: Drivers::default(),
        examples: vec![example(brand)],
        curve: Vec::new(),
        curve_minutes: 60,
        echoes: 0,
        also: Vec::new(),
        thread: String::new(),
        url: Some("https://monitor.example.com/".into()),
        digest: None,
        missed: Vec::new(),
    }
}

/// A delivery at once, in its own row.
pub fn delivery(receiver: &str) -> Delivery {
    Delivery { receiver: receiver.into(), not_before: None, group: false }
}

/// A receiver that is not notified, with the reason.
pub fn suppressed(receiver: &str) -> Suppressed {
    let detail = "route office".into();
    Suppressed { receiver: receiver.into(), reason: SuppressReason::TooMild, detail }
}

/// A decision about the share of `brand` from one minute to another, with a step or without;
/// `comms` and `hook` are notified.
pub fn decision(brand: &str, before: Option<i64>, now: i64, step: Option<Transition>) -> Decision {
    Decision {
        brand: brand.into(),
        watch: Watch::Buzz,
        evaluated_before: before.map(minute),
        evaluated: minute(now),
        state: json!({ "evaluated": now }),
        step: step.map(|transition| Step {
            transition,
            minute: minute(now),
            severity: Severity::Warning,
            evidence: evidence(Cause::Share),
            phases: vec![Phase::new(minute(now), evidence(Cause::Share))],
            notification: notification(brand, Cause::Share, transition),
            deliveries: vec![delivery("comms"), delivery("hook")],
            suppressed: vec![suppressed("desk")],
            missed: false,
        }),
    }
}

/// The same decision for another cause.
pub fn of_cause(mut decision: Decision, cause: Cause) -> Decision {
    decision.watch = cause.watch();
    if let Some(step) = &mut decision.step {
        step.evidence = evidence(cause);
        step.phases = vec![Phase::new(step.minute, evidence(cause))];
        step.notification = notification(&decision.brand, cause, step.transition);
    }
    decision
}

/// The same decision with other deliveries.
pub fn notifying(mut decision: Decision, deliveries: Vec<Delivery>) -> Decision {
    decision.step.as_mut().expect("a step").deliveries = deliveries;
    decision
}

/// The same decision with another severity.
pub fn as_bad_as(mut decision: Decision, severity: Severity) -> Decision {
    decision.step.as_mut().expect("a step").severity = severity;
    decision
}

pub async fn decide(store: &dyn Store, decision: Decision) -> Option<IncidentId> {
    store.decide(&decision).await.expect("decided")
}

/// Opens an incident at a brand's first evaluation.
pub async fn open(store: &dyn Store, brand: &str, now: i64) -> IncidentId {
    let opened = decide(store, decision(brand, None, now, Some(Transition::Opened))).await;
    opened.expect("an incident")
}

pub async fn detector_state(store: &dyn Store, brand: &str) -> DetectorState {
    store.detector_state(brand, Watch::Buzz).await.expect("read").expect("evaluated before")
}

/// When senders read the outbox.
pub fn noon() -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z")
}

/// All pending rows, even if leased or due later; counts as an attempt.
pub async fn lease_all(store: &dyn Store) -> Vec<OutboxRow> {
    let far = at("2100-01-01T00:00:00Z");
    store.outbox_lease(far, Duration::ZERO, 1000, &[], &[]).await.expect("leased")
}

/// Sends all pending rows, and returns them.
pub async fn send_all(store: &dyn Store) -> Vec<OutboxRow> {
    let mut sent = Vec::new();
    loop {
        let rows = lease_all(store).await;
        if rows.is_empty() {
            sent.sort_by_key(|row: &OutboxRow| row.id);
            return sent;
        }
        for row in rows {
            store
                .outbox_record(row.id, row.attempts, noon(), &OutboxState::Sent)
                .await
                .expect("recorded");
            sent.push(row);
        }
    }
}

/// Sends all pending rows, and returns their keys.
pub async fn keys(store: &dyn Store) -> Vec<String> {
    send_all(store).await.into_iter().map(|row| row.key).collect()
}

pub fn dead_letter(partition_number: i32, offset: i64, reason: &str) -> DeadLetter {
    DeadLetter {
        partition: partition(partition_number),
        offset: Offset(offset),
        record_time: Some(noon()),
        reason: reason.into(),
        payload: b"\xff\x00not text".to_vec(),
        payload_bytes: 5_000_000,
    }
}
