//! A new version of the model takes over while tweets flow.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use monitor::pipeline::{Pipeline, ScoringModels, Settings, follow, open_models};
use monitor_config as config;
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Offset, StartAt, TopicPartition};
use monitor_core::text::BrandMatcher;
use monitor_ingest::{Control, Event, Load, Record, Source, WireLimits};
use monitor_model::{self as classifier, Encoding, ModelHandle};
use monitor_store::{Claim, MemoryStore, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::tiny_model;

fn settings(directory: &Path, name: &str) -> config::Model {
    let directory = directory.to_owned();
    config::Model { name: name.into(), directory, threads: 1, ..config::Model::default() }
}

fn promote(directory: &Path, id: &str) {
    classifier::promote(directory, &id.parse().unwrap(), SystemClock::new().now()).unwrap();
}

fn models(directory: &Path, name: &str) -> ScoringModels {
    ScoringModels::spawn(open_models(&settings(directory, name)).unwrap())
}

/// The model of tweets whose language is unknown.
fn current(models: &ScoringModels) -> &ModelHandle {
    models.get(models.slot_of(None).unwrap())
}

/// A folder of models whose versions differ in their bias; `m` opens `m@1`.
fn versions(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for version in 1..=count {
        tiny_model(folder.path(), "m", &[], version as f32, &[]);
    }
    promote(folder.path(), "m@1");
    folder
}

struct Deaf;

impl Control for Deaf {
    fn reclaim(&self, partition: &TopicPartition) {
        panic!("nobody else reads {partition}");
    }
    fn stored(&self, _: &[(TopicPartition, Offset)]) {}
}

/// Sends tweets one after the other, with their offsets as ids, until `stop`; counts them in
/// `sent`.
async fn feed(events: mpsc::Sender<Event>, sent: Arc<AtomicI64>, stop: CancellationToken) {
    let partition = TopicPartition::new("tweets", 0);
    events.send(Event::Assigned(vec![(partition.clone(), Offset(0))])).await.unwrap();
    let load = Load::default();
    for offset in 0.. {
        if stop.is_cancelled() {
            return;
        }
        if offset % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let payload =
            format!(r#"{{"id":"{offset}","text":"a tweet","created_at":"2015-02-20T10:00:00Z"}}"#);
        let record = Record {
            partition: partition.clone(),
            offset: Offset(offset),
            timestamp: None,
            payload_bytes: payload.len(),
            weight: load.add(payload.len()),
            payload: payload.into_bytes(),
        };
        events.send(Event::Record(record)).await.unwrap();
        sent.store(offset + 1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_every_tweet_once_with_the_current_model() {
    let folder = versions(4);
    let directory = folder.path();
    fs::write(directory.join("m/3/weights.safetensors"), "damaged").unwrap();
    let (promoted, mut model) = watch::channel(models(directory, "m"));
    let first = Arc::downgrade(&current(&model.borrow()).encoder());
    let follower = follow(settings(directory, "m"), Duration::from_millis(5), promoted);
    let follower = tokio::spawn(follower);

    let store = Arc::new(MemoryStore::new());
    let partition = TopicPartition::new("tweets", 0);
    let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(0) };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    let pipeline = Pipeline::new(
        Settings {
            batching: BatchPolicy { rows_max: 7, wait_max: Duration::from_millis(5) },
            limits: WireLimits { record_bytes_max: 10_000, future_max: TimeDelta::hours(1) },
            retry_wait_max: Duration::from_millis(1),
            drain_max: Duration::from_secs(30),
        },
        store.clone(),
        model.clone(),
        BrandMatcher::new([]).unwrap(),
        Arc::new(SystemClock::new()),
    );
    let (sender, events) = mpsc::channel(64);
    let thread = std::thread::spawn(|| Ok(()));
    let pipeline = tokio::spawn(
        pipeline.run(Source { events, control: Arc::new(Deaf), thread }, std::future::pending()),
    );
    let (sent, stop) = (Arc::new(AtomicI64::new(0)), CancellationToken::new());
    let feeder = tokio::spawn(feed(sender, sent.clone(), stop.clone()));
    let stored = async || store.totals().await.unwrap().scores as i64;
    let flow = async |more: i64| {
        let goal = stored().await + more;
        while stored().await < goal {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    // For each switch: tweets stored before it, and tweets sent when it was complete.
    let mut switches = Vec::new();
    flow(200).await;
    for next in ["m@2", "m@4"] {
        let before = stored().await;
        if next == "m@4" {
            // Its files are damaged after the promotion.
            fs::write(directory.join("promoted.json"), r#"{"m": "m@3"}"#).unwrap();
            flow(300).await;
        }
        promote(directory, next);
        model.wait_for(|models| current(models).id().to_string() == next).await.unwrap();
        switches.push((next, before, sent.load(Ordering::SeqCst)));
        flow(200).await;
    }
    stop.cancel();
    feeder.await.unwrap();
    pipeline.await.unwrap().unwrap();

    let scores = store.scores();
    let sent = sent.load(Ordering::SeqCst);
    assert_eq!(scores.len() as i64, sent, "none dropped");
    assert_eq!(store.totals().await.unwrap().dead_letters, 0);
    let mut last = 1;
    for offset in 0..sent {
        let row = &scores[&offset.to_string()];
        let row = row.score.as_ref().unwrap();
        let version: u32 = row.model.strip_prefix("m@").unwrap().parse().unwrap();
        let computed = row.score.probabilities.negative().get();
        let own = 1.0 / (1.0 + (-(version as f32)).exp());
        assert!((computed - own).abs() < 1e-3, "{offset}: {} computed {computed}", row.model);
        assert!(version >= last, "{offset}: {} after m@{last}", row.model);
        last = version;
        assert_ne!(version, 3, "{offset}: the damaged one");
        for (next, before, after) in &switches {
            let next: u32 = next[2..].parse().unwrap();
            assert!(offset >= *before || version < next, "{offset}: {} too early", row.model);
            assert!(offset < *after || version >= next, "{offset}: {} too late", row.model);
        }
    }
    assert_eq!(last, 4);
    assert!(first.upgrade().is_none(), "a model that scores no more is gone");
    drop(model);
    follower.await.unwrap();
}

const EVERY: Duration = Duration::from_millis(5);
/// Much longer than a machine under load needs.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn follows_the_promoted_version() {
    let folder = versions(4);
    let directory = folder.path();
    let (sender, model) = watch::channel(models(directory, "m"));
    let follower = tokio::spawn(follow(settings(directory, "m"), EVERY, sender));
    let takes = async |step: &str, expected: &str| {
        let mut model = model.clone();
        let taken = model.wait_for(|models| current(models).id().to_string() == expected);
        let taken = tokio::time::timeout(LONG, taken).await;
        assert!(taken.is_ok_and(|taken| taken.is_ok()), "{step}");
    };
    let stays = async |step: &str, expected: &str| {
        tokio::time::sleep(20 * EVERY).await;
        assert_eq!(current(&model.borrow()).id().to_string(), expected, "{step}");
    };
    stays("nothing new", "m@1").await;
    promote(directory, "m@2");
    takes("promoted", "m@2").await;
    classifier::rollback(directory, "m", SystemClock::new().now()).unwrap();
    takes("rolled back", "m@1").await;

    let plain = |text: &str| fs::write(directory.join("promoted.json"), text).unwrap();
    plain("{");
    stays("promoted.json is damaged", "m@1").await;
    plain(r#"{"m": "m@9"}"#);
    stays("no such version", "m@1").await;
    plain("{}");
    stays("nothing is promoted", "m@1").await;
    let weights = directory.join("m/2/weights.safetensors");
    let sound = fs::read(&weights).unwrap();
    fs::write(&weights, "half").unwrap();
    plain(r#"{"m": "m@2"}"#);
    stays("damaged", "m@1").await;
    fs::write(&weights, sound).unwrap();
    takes("its files have arrived", "m@2").await;

    // A batch that waits for the model before the current one.
    let waiting = model.borrow().clone();
    promote(directory, "m@3");
    takes("one after the other", "m@3").await;
    promote(directory, "m@4");
    stays("a third would be one too many", "m@3").await;
    let scores = current(&waiting).classify(vec![Encoding::new(vec![0])]).await.unwrap();
    assert!(
        (scores[0].as_ref().unwrap().negative().get() - 0.8808).abs() < 1e-3,
        "m@2 still answers"
    );
    drop(waiting);
    takes("now there is room", "m@4").await;
    drop(model);
    tokio::time::timeout(LONG, follower).await.expect("it ends with the pipeline").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_if_the_version_cannot_change() {
    let folder = versions(1);
    for (case, name, every) in [("a version", "m@1", EVERY), ("switched off", "m", Duration::ZERO)]
    {
        let (sender, _model) = watch::channel(models(folder.path(), name));
        let follower = follow(settings(folder.path(), name), every, sender);
        tokio::time::timeout(LONG, follower).await.expect(case);
    }
}
