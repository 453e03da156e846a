//! How much the evaluator reads of the store, minute by minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Probabilities,
    Probability, Resume, Score, StartAt, TopicPartition, Tweet, TweetId, Watch,
};
use monitor_store::{
    Advance, Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example,
    MemoryStore, ModelScore, OutboxRow, OutboxState, PartitionProgress, ScoredTweet, Silence,
    Store, StoreError, StoredTweet, Totals, each_store_call,
};

/// A store that counts the minutes and hours in its answers.
#[derive(Default)]
struct Spy {
    store: MemoryStore,
    counts: AtomicUsize,
}

macro_rules! spied {
    ($($group:ident {
        $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for Spy {
            $($(async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                let answer = self.store.$method($($argument),*).await?;
                let counts = format!("{answer:?}").matches("Counts {").count();
                self.counts.fetch_add(counts, Ordering::Relaxed);
                Ok(answer)
            })*)*
        }
    };
}
each_store_call!(spied);

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Two tweets a minute of `minutes` from the start on, stored as one batch.
async fn add(store: &Spy, clock: &SimulatedClock, minutes: std::ops::Range<i64>) {
    let tweet = |n: i64| {
        let at = start() + TimeDelta::seconds(n * 30);
        let id = TweetId::new(n.to_string()).unwrap();
        let p = Probability::new(if n % 5 == 0 { 0.9 } else { 0.1 }).unwrap();
        let score = Score::new(Probabilities::two(p), Probability::HALF.into());
        ScoredTweet {
            tweet: Tweet::new(id, format!("acme {n}"), at, Vec::new()).unwrap(),
            brands: vec!["acme".into()],
            score: Some(ModelScore::new(score, "any@1")),
            heard: Heard::Always,
        }
    };
    let scores: Vec<_> = (2 * minutes.start..2 * minutes.end).map(tweet).collect();
    let newest = scores.last().map(|row| row.tweet.created_at);
    let partition = TopicPartition::new("tweets", 0);
    let (from, to) = (Offset(minutes.start), Offset(minutes.end));
    let advance = Advance {
        partition: partition.clone(),
        from,
        to,
        event_time_max: newest,
        record_time_max: newest,
    };
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.unwrap();
    store.mark_at_end(&partition, to, true).await.unwrap();
    clock.advance(Duration::from_secs(60 * (minutes.end - minutes.start).unsigned_abs()));
}

#[tokio::test]
async fn a_minute_reads_what_can_matter_to_it() {
    let store = Arc::new(Spy::default());
    let clock = Arc::new(SimulatedClock::at(start()));
    let partition = TopicPartition::new("tweets", 0);
    let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(0) };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    let mut settings = Settings::default();
    settings
        .brands
        .insert("acme".into(), Brand { keywords: vec!["acme".into()], ..Brand::default() });
    // The share alone; a volume reads as far back as it needs to end.
    settings.alerting.surge = false;
    settings.alerting.negative_volume = false;
    let evaluator = Evaluator::new(store.clone(), &settings, clock.clone());
    let mut minutes = 9 * 1440 + 30;
    add(&store, &clock, 0..minutes).await;
    let evaluated = evaluator.evaluate().await.unwrap().expect("minutes are closed");
    let mut last = evaluated;
    let (mut within, mut across) = (0, 0);
    for _ in 0..70 {
        add(&store, &clock, minutes..minutes + 1).await;
        minutes += 1;
        store.counts.store(0, Ordering::Relaxed);
        let evaluated = evaluator.evaluate().await.unwrap().expect("minutes are closed");
        assert_eq!(evaluated, last.plus(1));
        let read = store.counts.load(Ordering::Relaxed);
        if evaluated.hour() == last.hour() {
            within += 1;
            assert!((1440..=1600).contains(&read), "{read} in {}", evaluated.start());
        } else {
            across += 1;
            assert!(read > 9000, "{read}: a baseline is learned in {}", evaluated.start());
        }
        last = evaluated;
    }
    assert!(within >= 68 && (1..=2).contains(&across), "{within} {across}");
}
