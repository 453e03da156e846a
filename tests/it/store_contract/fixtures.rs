//! Tweets, batches and decisions for the contract's checks.

use chrono::{DateTime, Utc};
use monitor::domain::{
    Counts, Evidence, IncidentId, Minute, Offset, Probability, Score, StartAt, TopicPartition,
    Transition, Tweet, TweetId,
};
use monitor::store::{
    Advance, Batch, Claim, DeadLetter, Decision, Notification, ScoredTweet, Step, Store,
};

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A minute of the day on which these tests play.
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
        score: Score::new(Probability::new(p).expect("p"), Probability::new(0.5).expect("p")),
        model: "test@1".into(),
    }
}

pub fn tweet(id: &str, brands: &[&str], p: f32) -> ScoredTweet {
    scored(id, &format!("text of {id}"), minute(5).start(), brands, p)
}

pub fn advance(n: i32, from: i64, to: i64) -> Advance {
    Advance { partition: partition(n), from: Offset(from), to: Offset(to), event_time_max: None }
}

pub fn batch(scores: Vec<ScoredTweet>, advances: Vec<Advance>) -> Batch {
    Batch { scores, advances, dead_letters: Vec::new() }
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

pub fn evidence() -> Evidence {
    Evidence {
        window_minutes: 60,
        observed: Counts { total: 120, negative: 94 },
        baseline: Counts { total: 800, negative: 440 },
        expected_share: 0.55,
        z: 5.25,
        z_min: 4.0,
    }
}

pub fn notification(brand: &str, transition: Transition) -> Notification {
    Notification {
        incident_id: 0,
        transition: transition.as_str().into(),
        brand: brand.into(),
        at: minute(60).start(),
        opened_at: minute(60).start(),
        window_minutes: 60,
        observed: evidence().observed.into(),
        baseline: evidence().baseline.into(),
        expected_share: 0.55,
        z: 5.25,
        z_min: 4.0,
        reason: "because".into(),
        examples: Vec::new(),
        curve: Vec::new(),
    }
}

/// A decision that moves `brand` from one minute to another, with a step or without.
pub fn decision(brand: &str, before: Option<i64>, now: i64, step: Option<Transition>) -> Decision {
    Decision {
        brand: brand.into(),
        judged_before: before.map(minute),
        judged: minute(now),
        calm_since: None,
        step: step.map(|transition| Step {
            transition,
            minute: minute(now),
            evidence: evidence(),
            notification: notification(brand, transition),
        }),
        receivers: vec!["comms".into(), "hook".into()],
    }
}

pub async fn decide(store: &dyn Store, decision: Decision) -> Option<IncidentId> {
    store.decide(&decision).await.expect("decided")
}

pub fn dead_letter(partition_number: i32, offset: i64, reason: &str) -> DeadLetter {
    DeadLetter {
        partition: partition(partition_number),
        offset: Offset(offset),
        reason: reason.into(),
        payload: b"\xff\x00not text".to_vec(),
        payload_bytes: 5_000_000,
    }
}
