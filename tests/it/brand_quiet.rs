//! A brand's own stream that stops while the others go on, with the in-memory store and a simulated clock.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Receiver, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SimulatedClock};
use monitor_core::domain::{
    Cause, Offset, Probabilities, Probability, STREAM, Score, Severity, StartAt, TopicPartition,
    Tweet, TweetId, Watch,
};
use monitor_store::{Advance, Batch, Claim, MemoryStore, ModelScore, ScoredTweet, Store};

use crate::notify::rig;
use crate::serve::Site;

const BRANDS: [&str; 2] = ["acme", "globex"];
/// Minutes of the past, with two tweets a minute about each brand.
const PAST: i64 = 41 * 60;

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn partition() -> TopicPartition {
    TopicPartition::new("tweets", 0)
}

/// Two brands, and a daemon that judges each minute.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<SimulatedClock>,
    settings: Settings,
    /// Minutes since the start.
    minute: i64,
    read: i64,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let claim = Claim { partition: partition(), seen: None, low: Offset(0), high: Offset(0) };
        store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
        let mut settings = Settings::default();
        for brand in BRANDS {
            let keywords = vec![brand.to_owned()];
            settings.brands.insert(brand.into(), Brand { keywords, ..Brand::default() });
        }
        let hook = rig::webhook_at("http://127.0.0.1:1/hook".into());
        settings.receivers.insert("hook".into(), Receiver::Webhook(hook));
        let clock = Arc::new(SimulatedClock::at(start()));
        let mut world = Self { store, clock, settings, minute: 0, read: 0 };
        world.pass(PAST, &BRANDS).await;
        world
    }

    /// Lets minutes pass in which there are tweets about `brands`.
    async fn pass(&mut self, minutes: i64, brands: &[&str]) {
        let tweets = |minute: i64| {
            brands.iter().flat_map(move |brand| [0, 30].map(|s| tweet(brand, minute, s)))
        };
        let scores: Vec<_> = (self.minute..self.minute + minutes).flat_map(tweets).collect();
        let newest = scores.iter().map(|scored| scored.tweet.created_at).max();
        let (from, to) = (Offset(self.read), Offset(self.read + 1));
        if newest.is_some() {
            let partition = partition();
            let advance =
                Advance { partition, from, to, event_time_max: newest, record_time_max: newest };
            let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
            self.store.commit(&batch).await.expect("stored");
            self.store.mark_at_end(&self::partition(), to, true).await.expect("marked");
            self.read += 1;
        }
        self.minute += minutes;
        self.clock.advance(Duration::from_secs(minutes.unsigned_abs() * 60));
    }

    fn evaluator(&self) -> Evaluator {
        Evaluator::new(self.store.clone(), &self.settings, self.clock.clone())
    }

    /// Judges each of the minutes, and returns in which of them an incident took a step, counted from their first.
    async fn judge(
        &mut self,
        evaluator: &Evaluator,
        minutes: i64,
        brands: &[&str],
    ) -> Vec<(i64, String)> {
        let mut steps = Vec::new();
        for n in 1..=minutes {
            self.pass(1, brands).await;
            evaluator.evaluate().await.expect("evaluated");
            let far = self.clock.now() + TimeDelta::days(99);
            let rows = self.store.outbox_lease(far, Duration::from_secs(9), 99, &[], &[]).await;
            for row in rows.expect("rows") {
                let sent = monitor_store::OutboxState::Sent;
                self.store.outbox_record(row.id, row.attempts, far, &sent).await.expect("kept");
                let told = &row.notification;
                let step = format!("{} {} {}", told.brand, told.cause().as_str(), told.transition);
                steps.push((n, step));
            }
        }
        steps
    }
}

fn tweet(brand: &str, minute: i64, second: i64) -> ScoredTweet {
    let id = TweetId::new(format!("{brand}-{minute}-{second}")).expect("an id");
    let at = start() + TimeDelta::minutes(minute) + TimeDelta::seconds(second);
    let p = Probability::new(0.1).expect("a probability");
    let score = Score::new(Probabilities::two(p), Probability::HALF.into());
    ScoredTweet {
        tweet: Tweet::new(id, format!("{brand} {minute} {second}"), at, Vec::new()).expect("ok"),
        brands: vec![brand.into()],
        score: Some(ModelScore::new(score, "any@1")),
        heard: Heard::Always,
    }
}

fn names(steps: &[(i64, String)]) -> Vec<&str> {
    steps.iter().map(|(_, step)| step.as_str()).collect()
}

#[tokio::test]
async fn a_brand_whose_tweets_stop_is_told_and_so_is_their_return() {
    let mut world = World::new().await;
    let evaluator = world.evaluator();
    assert_eq!(world.judge(&evaluator, 30, &BRANDS).await, []);

    let steps = world.judge(&evaluator, 3 * 60, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"]);
    let after = steps[0].0;
    assert!((60..75).contains(&after), "an hour is too long for chance: {after} minutes");
    let found = world.store.incidents(10).await.expect("incidents").remove(0);
    assert_eq!((found.cause(), found.severity), (Cause::BrandQuiet, Severity::Warning));

    // The next leader knows what this one has found.
    let next = world.evaluator();
    assert_eq!(world.judge(&next, 30, &["globex"]).await, []);
    let steps = world.judge(&next, 2 * 60, &BRANDS).await;
    assert_eq!(names(&steps), ["acme brand-quiet resolved"]);
    assert!(steps[0].0 >= 60, "a single tweet is not enough: {} minutes", steps[0].0);
}

#[tokio::test]
async fn a_stream_that_stops_says_nothing_of_its_brands() {
    let mut world = World::new().await;
    let evaluator = world.evaluator();
    assert_eq!(world.judge(&evaluator, 10, &BRANDS).await, []);
    let steps = world.judge(&evaluator, 3 * 60, &[]).await;
    assert_eq!(names(&steps), [format!("{STREAM} quiet opened")]);
    // One of them is back at once, the other one 50 minutes later.
    let steps = world.judge(&evaluator, 50, &["globex"]).await;
    assert_eq!(names(&steps), [format!("{STREAM} quiet resolved")]);
    assert_eq!(world.judge(&evaluator, 60, &BRANDS).await, []);
}

#[tokio::test]
async fn an_outage_without_an_incident_of_the_stream_says_nothing_of_its_brands() {
    let mut world = World::new().await;
    world.settings.stream.quiet_minutes_max = 0;
    let evaluator = world.evaluator();
    assert_eq!(world.judge(&evaluator, 10, &BRANDS).await, []);
    assert_eq!(world.judge(&evaluator, 3 * 60, &[]).await, []);
    assert_eq!(world.judge(&evaluator, 50, &["globex"]).await, []);
    let steps = world.judge(&evaluator, 30, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"], "an hour of the others alone");
}

#[tokio::test]
async fn only_tweets_end_it() {
    let mut world = World::new().await;
    world.settings.stream.quiet_minutes_max = 0;
    world.settings.alerting.repeat_minutes = 0;
    let evaluator = world.evaluator();
    let steps = world.judge(&evaluator, 90, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"]);
    assert_eq!(world.judge(&evaluator, 2 * 60, &[]).await, []);
    assert_eq!(world.judge(&evaluator, 3 * 60, &["globex"]).await, []);
    let steps = world.judge(&evaluator, 90, &BRANDS).await;
    assert_eq!(names(&steps), ["acme brand-quiet resolved"]);
}

#[tokio::test]
async fn a_person_who_ends_it_hears_no_more_of_it_before_tweets_came_again() {
    let mut world = World::new().await;
    let evaluator = world.evaluator();
    let steps = world.judge(&evaluator, 90, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"]);
    let site = Site::around(world.store.clone(), &BRANDS, Vec::new()).await;
    let ended = reqwest::Client::new()
        .post(format!("{}/v1/incidents/1/resolve", site.url))
        .json(&serde_json::json!({"by": "ada", "note": "the account is gone"}));
    assert_eq!(ended.send().await.expect("an answer").status(), 204);
    let steps = world.judge(&evaluator, 4 * 60, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet resolved"], "by the person");
    assert_eq!(world.judge(&evaluator, 20, &BRANDS).await, []);
    let steps = world.judge(&evaluator, 90, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"]);
}

#[tokio::test]
async fn a_brand_without_a_past_is_not_missed() {
    let mut world = World::new().await;
    world.settings.brands.insert("initech".into(), Brand::default());
    let evaluator = world.evaluator();
    assert_eq!(world.judge(&evaluator, 1, &["acme", "globex", "initech"]).await, []);
    assert_eq!(world.judge(&evaluator, 30 * 60, &BRANDS).await, []);
}

#[tokio::test]
async fn switched_off_it_says_nothing() {
    let mut world = World::new().await;
    world.settings.alerting.brand_quiet_minutes_max = 0;
    let evaluator = world.evaluator();
    assert_eq!(world.judge(&evaluator, 3 * 60, &["globex"]).await, []);
    let state = world.store.detector_state("acme", Watch::BrandQuiet).await.expect("read");
    assert_eq!(state, None);
}

#[tokio::test]
async fn an_incident_of_a_brand_that_is_no_longer_watched_is_closed() {
    let mut world = World::new().await;
    let evaluator = world.evaluator();
    let steps = world.judge(&evaluator, 90, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet opened"]);
    world.settings.alerting.brand_quiet_minutes_max = 0;
    let steps = world.judge(&world.evaluator(), 2, &["globex"]).await;
    assert_eq!(names(&steps), ["acme brand-quiet resolved"]);
}
