//! A daemon dies between any two steps of open, notify and resolve, and another takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Receiver, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Probabilities,
    Probability, Resume, Score, StartAt, TopicPartition, Tweet, TweetId, Watch,
};
use monitor_notify::Dispatcher;
use monitor_store::{
    Advance, Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example,
    MemoryStore, ModelScore, OutboxRow, OutboxState, PartitionProgress, ScoredTweet, Silence,
    Store, StoreError, StoredTweet, Totals,
};
use tokio_util::sync::CancellationToken;

use crate::notify::rig::{self, HttpReceiver};

/// When a daemon dies: before or after its n-th call that writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Death {
    Before(usize),
    After(usize),
    Never,
}

/// The store of a daemon that dies: after its death every call fails without effect.
pub struct Mortal {
    inner: Arc<MemoryStore>,
    death: Death,
    writes: AtomicUsize,
}

impl Mortal {
    pub fn new(inner: &Arc<MemoryStore>, death: Death) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), death, writes: AtomicUsize::new(0) })
    }

    pub fn is_dead(&self) -> bool {
        let writes = self.writes.load(Ordering::SeqCst);
        matches!(self.death, Death::Before(n) | Death::After(n) if writes > n)
    }

    async fn unless_dead<T>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let dead = || Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        if self.is_dead() {
            return dead();
        }
        if !["decide", "tell_missed", "outbox_lease", "outbox_record"].contains(&call) {
            return work.await;
        }
        let index = self.writes.fetch_add(1, Ordering::SeqCst);
        if self.death == Death::Before(index) {
            return dead();
        }
        let answer = work.await;
        if self.death == Death::After(index) { dead() } else { answer }
    }
}

macro_rules! mortal {
    ($($group:ident {
        $($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for Mortal {
            $($(async fn $call(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.unless_dead(stringify!($call), self.inner.$call($($argument),*)).await
            })*)*
        }
    };
}

monitor_store::each_store_call!(mortal);

pub fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// Three days of a brand with two tweets a minute, 20 % of them negative. In two hours of the last day, and again
/// six hours later, there are six a minute, 70 % of them negative.
pub async fn days_with_a_crisis() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let partition = TopicPartition::new("tweets", 0);
    let (low, high) = (Offset(0), Offset(1));
    let claim = Claim { partition: partition.clone(), seen: None, low, high };
    store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
    let tweet = |n: i64| {
        // Ten seconds apart; most of the time only each third one is there.
        let hour = n / 360;
        let risen = (58..60).contains(&hour) || (66..68).contains(&hour);
        let negative = if risen { n % 10 < 7 } else { n / 3 % 10 < 2 };
        let at = start() + TimeDelta::seconds(n * 10);
        let id = TweetId::new(n.to_string()).expect("an id");
        let p = Probability::new(if negative { 0.9 } else { 0.1 }).expect("p");
        (risen || n % 3 == 0).then(|| ScoredTweet {
            tweet: Tweet::new(id, format!("acme, number {n}"), at, Vec::new()).expect("a tweet"),
            brands: vec!["acme".into()],
            score: Some(ModelScore::new(
                Score::new(Probabilities::two(p), Probability::HALF.into()),
                "any@1",
            )),
            heard: Heard::Always,
        })
    };
    let scores: Vec<_> = (0..72 * 360).filter_map(tweet).collect();
    let advance = Advance {
        partition: partition.clone(),
        from: low,
        to: high,
        event_time_max: scores.iter().map(|s| s.tweet.created_at).max(),
        record_time_max: None,
    };
    store
        .commit(&Batch { scores, advances: vec![advance], ..Batch::default() })
        .await
        .expect("stored");
    store.mark_at_end(&partition, high, true).await.expect("marked");
    store
}

/// Runs a daemon: it evaluates, and sends until nothing is left or it is dead.
pub async fn run_daemon(store: Arc<Mortal>, settings: &Settings, clock: &Arc<SimulatedClock>) {
    let evaluated = Evaluator::new(store.clone(), settings, clock.clone()).evaluate().await;
    assert!(evaluated.is_ok() || store.is_dead(), "{evaluated:?}");
    let receivers = &settings.receivers;
    let dispatcher =
        Dispatcher::new(store.clone(), receivers, rig::delivery(), None, clock.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn(dispatcher.expect("a dispatcher").run(stop.clone()));
    loop {
        if store.is_dead() {
            // Like a kill: the rest is never done.
            running.abort();
            break;
        }
        if store.inner.totals().await.expect("totals").outbox_pending == 0 {
            stop.cancel();
            let _ = running.await;
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The incidents, and the bodies that the receiver got, by key.
type Outcome = (Vec<Incident>, BTreeMap<String, Vec<String>>);

/// One daemon that dies at `death`, then another; also returns whether the first died.
async fn two_daemons(death: Death) -> (bool, Outcome) {
    let store = days_with_a_crisis().await;
    let receiver = HttpReceiver::start(Vec::new()).await;
    let mut settings = Settings::default();
    settings
        .brands
        .insert("acme".into(), Brand { keywords: vec!["acme".into()], ..Brand::default() });
    settings.receivers.insert("hook".into(), Receiver::Webhook(rig::webhook(&receiver)));
    settings.stream.quiet_minutes_max = 0;
    settings.stream.lag_minutes_max = 0;
    let clock = Arc::new(SimulatedClock::at(start() + TimeDelta::days(3)));

    let first = Mortal::new(&store, death);
    run_daemon(first.clone(), &settings, &clock).await;
    let died = first.is_dead();
    // The leases of the dead daemon expire.
    clock.advance(Duration::from_millis(rig::delivery().lease_ms + 1));
    run_daemon(Mortal::new(&store, Death::Never), &settings, &clock).await;

    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (headers, body) in receiver.requests() {
        sent.entry(rig::header(&headers, "webhook-id").to_owned()).or_default().push(body);
    }
    (died, (store.incidents(10).await.expect("incidents"), sent))
}

#[tokio::test]
async fn a_death_between_any_two_steps_loses_and_repeats_nothing() {
    rig::install_tls();
    let (_, (incidents, sent)) = two_daemons(Death::Never).await;
    assert_eq!(incidents.len(), 1, "one crisis: {incidents:?}");
    assert!(incidents[0].resolved.is_some(), "and it ends");
    let keys: BTreeSet<_> = sent.keys().cloned().collect();
    for step in ["opened", "updated", "resolved", "reopened"] {
        let step = format!("incident-1-{step}-");
        assert!(keys.iter().any(|key| key.starts_with(&step)), "{keys:?}");
    }

    let mut deaths = 0;
    for index in 0.. {
        let mut died = false;
        for death in [Death::Before(index), Death::After(index)] {
            let (dead, (found, received)) = two_daemons(death).await;
            died |= dead;
            deaths += usize::from(dead);
            assert_eq!(found, incidents, "{death:?}");
            assert_eq!(received.keys().cloned().collect::<BTreeSet<_>>(), keys, "{death:?}");
            for (key, bodies) in &received {
                assert!(bodies.len() <= 2, "{death:?}: {key} was sent {} times", bodies.len());
                assert!(bodies.iter().all(|b| *b == sent[key][0]), "{death:?}: {key} differs");
            }
        }
        // Leases that find nothing count as writes too; the work is done before the limit.
        if !died || index == 24 {
            break;
        }
    }
    assert!(deaths >= 24, "it died {deaths} times");
}
