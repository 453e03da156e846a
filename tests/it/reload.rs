//! The stream is switched to another version of the model while tweets flow.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::{FollowSettings, Lineup, Pipeline, Settings, follow};
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::SystemClock;
use monitor_core::domain::{Minute, Offset, StartAt, StreamFormat, TopicPartition};
use monitor_core::text::BrandMatcher;
use monitor_ingest::{Control, Event, Headers, Load, Record, Source, WireLimits};
use monitor_model::{self as classifier, ModelHandle};
use monitor_store::{Advance, Batch, Claim, MemoryStore, Store};
use monitor_telemetry::Readiness;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::tiny_model;
use monitor::settings::open_options;

fn settings(directory: &Path, name: &str) -> config::Model {
    let directory = directory.to_owned();
    config::Model { name: name.into(), directory, threads: 1, ..config::Model::default() }
}

fn handle(directory: &Path, name: &str) -> ModelHandle {
    ModelHandle::spawn(classifier::open(&open_options(&settings(directory, name)), name).unwrap())
}

/// A folder of models whose versions differ in their bias.
fn versions(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for version in 1..=count {
        tiny_model(folder.path(), "m", &[], version as f32, &[]);
    }
    folder
}

const EVERY: Duration = Duration::from_millis(5);
/// Much longer than a machine under load needs.
const LONG: Duration = Duration::from_secs(60);
/// Tweets of a minute.
const MINUTE_TWEETS: i64 = 40;

fn start() -> DateTime<Utc> {
    "2015-02-20T10:00:00Z".parse().unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition::new("tweets", 0)
}

async fn store_with_a_partition() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let (low, high) = (Offset(0), Offset(0));
    let claim = Claim { partition: partition(), seen: None, low, high };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    store
}

fn following(directory: &Path, every: Duration) -> FollowSettings {
    FollowSettings {
        model: settings(directory, "m"),
        every,
        topic: "tweets".into(),
        lateness: TimeDelta::seconds(60),
        rows_per_s_max: 0,
    }
}

/// Whether the partition has to be claimed again.
#[derive(Default)]
struct Reclaimed(AtomicBool);

impl Control for Reclaimed {
    fn reclaim(&self, _: &TopicPartition) {
        self.0.store(true, Ordering::SeqCst);
    }
    fn stored(&self, _: &[(TopicPartition, Offset)]) {}
}

/// Sends tweets one after the other, with their offsets as ids, until `stop`; begins again at the
/// stored position when told to. Some tweets are half an hour late.
async fn feed(
    store: Arc<MemoryStore>,
    events: mpsc::Sender<Event>,
    control: Arc<Reclaimed>,
    stop: CancellationToken,
) {
    let load = Load::default();
    let mut offset = None;
    while !stop.is_cancelled() || control.0.load(Ordering::SeqCst) {
        if control.0.swap(false, Ordering::SeqCst) || offset.is_none() {
            let position = store.progress("tweets").await.unwrap()[0].position;
            events.send(Event::Assigned(vec![(partition(), position)])).await.unwrap();
            offset = Some(position.0);
        }
        let n = offset.expect("set above");
        offset = Some(n + 1);
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let late = if n % 7 == 0 { 30 } else { 0 };
        let at = start() + TimeDelta::minutes(n / MINUTE_TWEETS - late);
        let at = at.format("%Y-%m-%dT%H:%M:%SZ");
        let payload = format!(r#"{{"id":"{n}","text":"a tweet","created_at":"{at}"}}"#);
        let record = Record {
            partition: partition(),
            offset: Offset(n),
            timestamp: None,
            headers: Headers::default(),
            payload_bytes: payload.len(),
            weight: load.add(payload.len()),
            payload: payload.into_bytes(),
        };
        events.send(Event::Record(record)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_minute_is_scored_by_the_model_in_force() {
    let folder = versions(4);
    let directory = folder.path();
    std::fs::write(directory.join("m/3/weights.safetensors"), "damaged").unwrap();
    let store = store_with_a_partition().await;
    store.begin_with("m@1").await.unwrap();
    let lineup = watch::Sender::new(Lineup::of(handle(directory, "m@1")));
    let first = Arc::downgrade(&handle_encoder(&lineup));
    // It never looks by itself: only a refused batch tells it of a switch, as of a daemon that
    // is behind.
    let following = following(directory, Duration::ZERO);
    let readiness = Arc::new(Readiness::default());
    let follower =
        tokio::spawn(follow(following, store.clone(), lineup.clone(), readiness.clone()));

    let pipeline = Pipeline::new(
        Settings {
            batching: BatchPolicy { rows_max: 7, wait_max: Duration::from_millis(5) },
            counting: Counting::new(Voice::Tweet, &[]),
            count_deleted: true,
            limits: WireLimits {
                record_bytes_max: 10_000,
                future_max: TimeDelta::hours(1),
                format: StreamFormat::Auto,
            },
            retry_wait_max: Duration::from_millis(1),
            drain_max: Duration::from_secs(30),
        },
        store.clone(),
        lineup.clone(),
        BrandMatcher::new([]).unwrap(),
        Arc::new(SystemClock::new()),
    );
    let (sender, events) = mpsc::channel(64);
    let thread = std::thread::spawn(|| Ok(()));
    let control = Arc::new(Reclaimed::default());
    let source = Source { events, control: control.clone(), thread };
    let pipeline = tokio::spawn(pipeline.run(source, std::future::pending()));
    let stop = CancellationToken::new();
    let feeder = tokio::spawn(feed(store.clone(), sender, control, stop.clone()));
    let stored = async || store.totals().await.unwrap().scores as i64;
    let flow = async |more: i64| {
        let goal = stored().await + more;
        tokio::time::timeout(LONG, async {
            while stored().await < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("tweets flow");
    };

    flow(400).await;
    store.switch_to("m@2", Minute(0)).await.unwrap();
    flow(600).await;
    let problem = || readiness.parts()["model"].clone().err().unwrap_or_default();
    assert_eq!(problem(), "");
    let damaged = store.switch_to("m@3", Minute(0)).await.unwrap();
    let fence = damaged.newest().unwrap().from;
    let waits = async {
        while !problem().contains("m@3 scores") {
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(LONG, waits).await.expect("it reports the damaged version");
    let newest = |store: &MemoryStore| store.scores().values().map(|s| s.tweet.created_at).max();
    assert!(newest(&store) < Some(fence.start()), "tweets from the fence on wait");
    // Nothing is lost, and the way out is another switch.
    store.switch_to("m@4", Minute(0)).await.unwrap();
    lineup.send_modify(|_| {});
    flow(600).await;
    stop.cancel();
    feeder.await.unwrap();
    pipeline.await.unwrap().unwrap();

    let scores = store.scores();
    let read = store.progress("tweets").await.unwrap()[0].position.0;
    assert_eq!(scores.len() as i64, read, "each tweet once");
    assert_eq!(store.totals().await.unwrap().dead_letters, 0);
    let switches = store.switches().await.unwrap();
    let models: Vec<_> = switches.as_slice().iter().map(|s| s.model.as_str()).collect();
    assert_eq!(models, ["m@1", "m@2", "m@4"]);
    let mut of_before = 0;
    for row in scores.values() {
        let (id, minute) = (&row.tweet.id, Minute::of(row.tweet.created_at));
        let score = row.score.as_ref().unwrap();
        let version: u32 = score.model.strip_prefix("m@").unwrap().parse().unwrap();
        let computed = score.score.probabilities.negative().get();
        let own = 1.0 / (1.0 + (-(version as f32)).exp());
        assert!((computed - own).abs() < 1e-3, "{id}: {} computed {computed}", score.model);
        let in_force = switches.at(minute).unwrap();
        if score.model != in_force.model {
            // A late one: the model of its minute is gone.
            assert!(switches.allow(&score.model, minute), "{id} of {minute:?} by {}", score.model);
            assert_eq!(id.as_str().parse::<i64>().unwrap() % 7, 0, "{id} is not late");
            of_before += 1;
        }
    }
    assert!(of_before > 0, "late tweets are scored by the model of today");
    assert!(first.upgrade().is_none(), "a model that scores no more is gone");
    follower.abort();
}

/// The encoder of the only model.
fn handle_encoder(lineup: &watch::Sender<Lineup>) -> Arc<dyn classifier::Encoder> {
    lineup.borrow().main_for(Minute(0)).unwrap().encoder()
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_the_switches_and_not_the_folder() {
    let folder = versions(4);
    let directory = folder.path();
    let store = store_with_a_partition().await;
    store.begin_with("m@1").await.unwrap();
    let lineup = watch::Sender::new(Lineup::of(handle(directory, "m@1")));
    let readiness = Arc::new(Readiness::default());
    let follower = tokio::spawn(follow(
        following(directory, EVERY),
        store.clone(),
        lineup.clone(),
        readiness.clone(),
    ));
    let minute = Minute::of(start());
    let takes = async |step: &str, at: Minute, expected: &str| {
        let mut lineup = lineup.subscribe();
        let is = |lineup: &Lineup| {
            lineup.main_for(at).is_some_and(|model| model.id().to_string() == expected)
        };
        let taken = tokio::time::timeout(LONG, lineup.wait_for(is)).await;
        assert!(taken.is_ok_and(|taken| taken.is_ok()), "{step}");
    };
    let model_for = |at: Minute| lineup.borrow().main_for(at).map(|model| model.id().to_string());
    fs::write(directory.join("promoted.json"), r#"{"m": "m@2"}"#).unwrap();
    tokio::time::sleep(20 * EVERY).await;
    assert_eq!(model_for(minute).as_deref(), Some("m@1"), "a promotion switches nothing");

    // Event time stands at `minute`.
    let advance = async |from: i64, at: DateTime<Utc>| {
        let advance = Advance {
            partition: partition(),
            from: Offset(from),
            to: Offset(from + 1),
            event_time_max: Some(at),
            record_time_max: None,
        };
        let batch = Batch { advances: vec![advance], ..Batch::default() };
        store.commit(&batch).await.unwrap();
    };
    advance(0, start()).await;
    let fence = store.switch_to("m@2", Minute(0)).await.unwrap().newest().unwrap().from;
    assert_eq!(fence, minute.plus(2));
    takes("loaded ahead", fence, "m@2").await;
    assert_eq!(model_for(fence.plus(-1)).as_deref(), Some("m@1"), "until the fence");
    advance(1, fence.start() + TimeDelta::minutes(3)).await;
    takes("event time has passed the fence: late tweets too", minute, "m@2").await;

    let weights = directory.join("m/3/weights.safetensors");
    let sound = fs::read(&weights).unwrap();
    fs::write(&weights, "half").unwrap();
    let fence = store.switch_to("m@3", Minute(0)).await.unwrap().newest().unwrap().from;
    tokio::time::sleep(20 * EVERY).await;
    assert_eq!(model_for(fence), None, "its tweets wait");
    assert_eq!(model_for(fence.plus(-1)).as_deref(), Some("m@2"), "others do not");
    fs::write(&weights, sound).unwrap();
    takes("its files have arrived", fence, "m@3").await;

    // A batch still waits for a model that scores no more.
    let waiting = lineup.borrow().main_for(minute).unwrap().clone();
    assert_eq!(waiting.id().to_string(), "m@2");
    advance(2, fence.start() + TimeDelta::minutes(3)).await;
    takes("the third", minute, "m@3").await;
    let fence = store.switch_to("m@4", Minute(0)).await.unwrap().newest().unwrap().from;
    tokio::time::sleep(20 * EVERY).await;
    assert_eq!(model_for(fence), None, "a third would be one too many");
    drop(waiting);
    takes("now there is room", fence, "m@4").await;
    follower.abort();
}
