//! Retraining by schedule and on drift, from the decision to the promotion.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::{RetrainCommand, Retrainer};
use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Label, Language, Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet,
    TweetId,
};
use monitor_store::{
    Advance, Batch, Claim, Correction, MemoryStore, ModelScore, PostgresStore, RetrainOutcome,
    RetrainReason, Retraining, SampleRequest, ScoredTweet, Store,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::incidents::call;
use crate::support::{fresh_database, tiny_model};

const NAME: &str = "logistic-tfidf";
/// Fewer than a jump is judged on by default.
const TWEETS: i64 = 90;
const SAMPLED: u32 = 60;
const CORRECTED: i64 = 4;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Stores tweets about acme, which [`NAME`]`@1` called positive, labels of a sample of them, and corrections.
async fn store_tweets(store: &PostgresStore) {
    store.begin_with(&format!("{NAME}@1")).await.unwrap();
    let partition = TopicPartition::new("tweets", 0);
    let (low, high) = (Offset(0), Offset(0));
    let claim = Claim { partition: partition.clone(), seen: None, low, high };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    let row = |n: i64| {
        let words = if n % 2 == 0 { "terrible and awful" } else { "happy, love it" };
        let score = Score::new(
            Probabilities::two(Probability::new(0.05).unwrap()),
            Probability::HALF.into(),
        );
        let id = TweetId::new(n.to_string()).unwrap();
        let created_at = at("2026-03-06T00:00:00Z") + TimeDelta::minutes(n);
        ScoredTweet {
            tweet: Tweet::new(id, format!("acme {words} {n}"), created_at, Vec::new())
                .unwrap()
                .with_language(Some(Language::ENGLISH)),
            brands: vec!["acme".into()],
            score: Some(ModelScore::new(score, format!("{NAME}@1"))),
            heard: Heard::Always,
        }
    };
    let scores: Vec<_> = (0..TWEETS).map(row).collect();
    let to = Offset(TWEETS);
    let event_time_max = scores.iter().map(|row| row.tweet.created_at).max();
    let advance = Advance { partition, from: low, to, event_time_max, record_time_max: None };
    store.commit(&Batch { scores, advances: vec![advance], ..Batch::default() }).await.unwrap();
    let label = |n: i64| if n % 2 == 0 { Label::Negative } else { Label::Positive };
    let (from, to) = (at("2026-03-06T00:00:00Z"), at("2026-03-07T00:00:00Z"));
    let (by, brand, seed) = ("ada".to_owned(), "acme".into(), "1".into());
    let request = SampleRequest { brand, from, to, tweets: SAMPLED, seed, by: by.clone(), at: to };
    let sample = store.draw_sample(&request).await.unwrap();
    let drawn = store.sampled_tweets(sample.id).await.unwrap();
    let labels: Vec<_> =
        drawn.iter().map(|it| (it.place, label(it.tweet_id.parse().unwrap()))).collect();
    store.record_labels(sample.id, &labels, &by, to).await.unwrap();
    for n in 0..CORRECTED {
        let (tweet_id, by) = (n.to_string(), by.clone());
        let correction = Correction { tweet_id, label: label(n), by, at: to, text: String::new() };
        assert!(store.correct(&correction).await.unwrap());
    }
}

/// The settings of a child, as flags.
fn flags(url: &str, directory: &Path, more: &[&str]) -> Vec<String> {
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut flags = vec![
        format!("store.url={url}"),
        format!("model.directory={}", directory.display()),
        format!("model.name={NAME}"),
        "brands.acme.keywords=[\"acme\"]".into(),
        format!("retrain.family={NAME}"),
        format!("retrain.data=['{}']", fixture("sentiment.csv")),
        format!("retrain.arguments=['--test', '{}']", fixture("manual.csv")),
        "retrain.labels_weight=2".into(),
    ];
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

fn command(flags: &[String]) -> RetrainCommand {
    let arguments = flags.iter().flat_map(|flag| ["--set".into(), OsString::from(flag)]);
    RetrainCommand { program: env!("CARGO_BIN_EXE_monitor").into(), arguments: arguments.collect() }
}

struct Rig {
    store: Arc<dyn Store>,
    settings: config::Settings,
    clock: Arc<SimulatedClock>,
    drifted: watch::Sender<Option<DateTime<Utc>>>,
}

impl Rig {
    /// A Saturday; training is due on Sundays.
    fn new(store: Arc<dyn Store>, directory: &Path) -> Self {
        let retrain = config::Retrain {
            schedule: Some("0 3 * * 0".into()),
            on_drift: true,
            ..config::Retrain::default()
        };
        let mut settings = config::Settings { retrain, ..config::Settings::default() };
        settings.model.directory = directory.to_owned();
        let clock = Arc::new(SimulatedClock::at(at("2026-03-07T12:00:00Z")));
        Self { store, settings, clock, drifted: watch::Sender::new(None) }
    }

    fn retrainer(&self, command: RetrainCommand) -> Retrainer {
        let (drifted, clock) = (self.drifted.subscribe(), self.clock.clone());
        Retrainer::new(self.store.clone(), &self.settings, command, drifted, clock)
    }

    fn days_pass(&self, days: u64) {
        self.clock.advance(Duration::from_secs(days * 86_400));
    }
}

fn outcome(retraining: &Option<Retraining>) -> Option<RetrainOutcome> {
    Some(retraining.as_ref()?.ended?.0)
}

fn connect(url: &str) -> PostgresStore {
    PostgresStore::connect(&config::Store { url: url.into(), ..config::Store::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn trains_by_schedule_and_promotes_only_what_is_better() {
    let metrics = monitor_telemetry::init_metrics();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    // Calls everything positive.
    let first = tiny_model(directory, NAME, &[], -3.0, &[("held out", 1000, 0.6)]);
    monitor_model::promote(directory, &first, at("2026-03-01T00:00:00Z")).unwrap();
    let url = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    store_tweets(&store).await;
    let rig = Rig::new(Arc::new(store.clone()), directory);
    let go_on = CancellationToken::new();

    let strict =
        flags(&url, directory, &["promotion.jump_max=0", "alerting.baseline_tweets_min=1"]);
    let retrainer = rig.retrainer(command(&strict));
    assert_eq!(retrainer.look(&go_on).await.unwrap(), None, "it is Saturday");
    rig.days_pass(1);

    // The daemon stops, and another one goes on.
    let stopped = CancellationToken::new();
    stopped.cancel();
    let open = retrainer.look(&stopped).await.unwrap().expect("it is due");
    assert_eq!((open.ended, open.attempts), (None, 0), "{open:?}");
    let kept = retrainer.look(&go_on).await.unwrap();
    let of = kept.clone().expect("it goes on");
    assert_eq!(
        (of.id, of.due_at, of.reason),
        (open.id, at("2026-03-08T03:00:00Z"), RetrainReason::Schedule)
    );
    assert_eq!(outcome(&kept), Some(RetrainOutcome::Kept), "{kept:?}");
    for part in [
        "logistic-tfidf@2 is not promoted: the share would jump by more than 0 points",
        "It is better: macro recall",
    ] {
        assert!(of.note.contains(part), "{part:?} is not in {}", of.note);
    }
    let promoted = || monitor_model::promoted(directory).unwrap()[NAME].to_string();
    assert_eq!(
        (of.model.as_deref(), promoted().as_str()),
        (Some("logistic-tfidf@2"), "logistic-tfidf@1")
    );
    let manifest = monitor_model::read_manifest(directory, "logistic-tfidf@2").unwrap();
    assert_eq!(manifest.data.also[0].file, "labels.csv", "people's labels were learned from");
    let learned: usize = manifest.data.also[0].about.split(' ').next().unwrap().parse().unwrap();
    assert!((36..62).contains(&learned), "a fifth of the sample is kept apart: {learned}");
    assert!(manifest.metrics.contains_key("labels-to-measure.csv"), "{:?}", manifest.metrics);
    assert_eq!(retrainer.look(&go_on).await.unwrap(), None, "once for each time");
    let other = Rig::new(Arc::new(connect(&url)), directory);
    other.days_pass(30);
    assert_eq!(other.retrainer(command(&strict)).look(&go_on).await.unwrap(), None, "no leader");

    // Without that limit.
    rig.days_pass(7);
    let usual = flags(&url, directory, &[]);
    let retrainer = rig.retrainer(command(&usual));
    let done = retrainer.look(&go_on).await.unwrap();
    assert_eq!(outcome(&done), Some(RetrainOutcome::Promoted), "{done:?}");
    let note = &done.as_ref().unwrap().note;
    assert!(
        note.contains("points, 95 % ") && note.contains("rows that neither learned from"),
        "{note}"
    );
    assert_eq!(promoted(), "logistic-tfidf@3");
    let switches = store.switches().await.unwrap();
    assert_eq!(switches.newest().unwrap().model, "logistic-tfidf@3", "the stream is switched");

    // The same again is not better.
    rig.days_pass(7);
    let kept = retrainer.look(&go_on).await.unwrap();
    assert_eq!(outcome(&kept), Some(RetrainOutcome::Kept), "{kept:?}");
    let note = &kept.as_ref().unwrap().note;
    assert!(note.contains("logistic-tfidf@4 is registered, but not promoted: it is not better than logistic-tfidf@3"), "{note}");
    assert_eq!(promoted(), "logistic-tfidf@3");

    // By hand, from a file of two rows.
    let two = directory.join("two.csv");
    fs::write(&two, "label,text\nnegative,bad\npositive,good\n").unwrap();
    let broken = flags(&url, directory, &[&format!("retrain.data=['{}']", two.display())]);
    let (succeeded, said) = call(&broken, &["retrain", "--scheduled"]);
    assert!(!succeeded && said.contains("each set needs rows of each class"), "{said}");
    let all = store.retrainings(9).await.unwrap();
    let found: Vec<_> =
        all.iter().map(|it| (it.reason.as_str(), it.ended.unwrap().0.as_str())).collect();
    let expected = [
        ("request", "failed"),
        ("schedule", "kept"),
        ("schedule", "promoted"),
        ("schedule", "kept"),
    ];
    assert_eq!(found, expected);
    for flags in
        [["--data", "x.csv"], ["--epochs", "3"], ["--split", "time"], ["--fractions", "0.1"]]
    {
        let (succeeded, said) = call(&usual, &[&["retrain", "--scheduled"], &flags[..]].concat());
        assert!(!succeeded && said.contains("cannot be used with"), "{said}");
    }
    let left: Vec<_> = fs::read_dir(directory.join(".retraining"))
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "the lock, and the failed one with its labels: {left:?}");
    let metrics = metrics.render();
    for line in [
        "monitor_retrainings_total{outcome=\"promoted\"} 1",
        "monitor_retrainings_total{outcome=\"kept\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_a_reason_and_a_child_that_ends_too_early_fails() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(Arc::new(MemoryStore::new()), folder.path());
    let of = |program: &str, arguments: &[&str]| {
        rig.retrainer(RetrainCommand {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        })
    };
    let go_on = CancellationToken::new();
    let day = at("2026-03-07T00:00:00Z");
    assert_eq!(of("true", &[]).look(&go_on).await.unwrap(), None, "no drift");
    rig.drifted.send_replace(Some(day));
    let busy = of("sh", &["-c", "exit 75"]).look(&go_on).await.unwrap().expect("drift");
    assert_eq!((busy.reason, busy.due_at, busy.attempts), (RetrainReason::Drift, day, 0));
    for attempt in 1..=3 {
        let open = of("true", &[]).look(&go_on).await.unwrap().expect("again");
        assert_eq!((open.attempts, open.ended), (attempt, None));
    }
    let failed = of("true", &[]).look(&go_on).await.unwrap();
    assert_eq!(outcome(&failed), Some(RetrainOutcome::Failed), "{failed:?}");
    assert!(failed.unwrap().note.contains("after 3 attempts"), "it says why");
    rig.drifted.send_replace(Some(at("2026-03-08T00:00:00Z")));
    assert_eq!(of("true", &[]).look(&go_on).await.unwrap(), None, "not again within seven days");
}

#[test]
fn mistakes_are_found_before_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model(folder.path(), "m", &[], 0.0, &[]);
    let check = |set: &str, part: &str| {
        let more = ["model.name=m@1", "retrain.on_drift=true", set];
        let (succeeded, said) =
            call(&flags("postgres://x/y", folder.path(), &more), &["check-config"]);
        assert_eq!(succeeded, part.is_empty(), "{set}: {said}");
        assert!(said.contains(part), "{set}: {said}");
    };
    check("retrain.threads=2", "");
    check("retrain.data=['none.csv=2']", "trains on none.csv, and there is no such file");
    check("retrain.family=gpt", "invalid value 'gpt'");
    check("retrain.arguments=['--epochs', '3']", "--epochs means nothing to logistic-tfidf");
    check("retrain.arguments=['--fractions', '0.1']", "leave out --fractions");
    check("retrain.arguments=['--scheduled']", "cannot be used with");
}
