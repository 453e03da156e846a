//! The evaluator through the steps of an incident, with the in-memory store and a simulated clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Receiver, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SimulatedClock};
use monitor_core::domain::{
    Acknowledgement, Cause, Minute, Offset, Probabilities, Probability, Reach, STREAM, Score,
    Severity, StartAt, TopicPartition, Tweet, TweetId, Watch,
};
use monitor_store::{
    Advance, Batch, Claim, Decision, MemoryStore, ModelScore, Pairs, Rescored, ScoredTweet,
    Silence, Store,
};

use crate::notify::rig;
use crate::serve::Site;
use crate::store_contract::fixtures::{decision, minute, notifying};

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// A brand with two tweets a minute. 20 % of them are negative, and 70 % from hour 42 on.
struct World {
    brand: &'static str,
    store: Arc<MemoryStore>,
    clock: Arc<SimulatedClock>,
    settings: Settings,
    hours: i64,
    /// Hour from which on the share is normal again.
    calm_from: i64,
    model: &'static str,
}

/// Whether a model calls tweet `n` negative. `all@1` says so of 30 % of the tweets more than
/// `any@1`.
fn is_negative(model: &str, n: i64, calm_from: i64) -> bool {
    let risen = (42 * 120..calm_from.saturating_mul(120)).contains(&n);
    n % 10 < if risen { 7 } else { 2 } || model == "all@1" && n % 10 >= 7
}

impl World {
    async fn up_to(hours: i64) -> Self {
        Self::about("acme", i64::MAX, hours).await
    }

    async fn about(brand: &'static str, calm_from: i64, hours: i64) -> Self {
        let store = Arc::new(MemoryStore::new().ignoring(&["deals_bot".into()]));
        let partition = TopicPartition::new("tweets", 0);
        let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(0) };
        store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
        let mut settings = Settings::default();
        settings
            .brands
            .insert(brand.into(), Brand { keywords: vec![brand.into()], ..Brand::default() });
        let hook = rig::webhook_at("http://127.0.0.1:1/hook".into());
        settings.receivers.insert("hook".into(), Receiver::Webhook(hook));
        // Severe from the beginning, so that nothing gets worse.
        (settings.alerting.warning_people, settings.alerting.critical_people) = (1, 1);
        let clock = Arc::new(SimulatedClock::at(start()));
        let model = "any@1";
        let mut world = Self { store, clock, settings, brand, hours: 0, calm_from, model };
        world.advance_to(hours).await;
        world
    }

    /// Stores the tweets up to this hour, and advances the clock to it.
    async fn advance_to(&mut self, hours: i64) {
        let tweet = |n: i64| {
            let negative = is_negative(self.model, n, self.calm_from);
            let at = start() + TimeDelta::seconds(n * 30);
            let id = TweetId::new(n.to_string()).expect("an id");
            ScoredTweet {
                tweet: Tweet::new(id, format!("acme {n}"), at, Vec::new()).expect("a tweet"),
                brands: vec![self.brand.into()],
                score: Some(self.score(negative)),
                heard: Heard::Always,
            }
        };
        let scores: Vec<_> = (self.hours * 120..hours * 120).map(tweet).collect();
        let newest = scores.iter().map(|s| s.tweet.created_at).max();
        let partition = TopicPartition::new("tweets", 0);
        let advance = Advance {
            partition: partition.clone(),
            from: Offset(self.hours),
            to: Offset(hours),
            event_time_max: newest,
            record_time_max: newest,
        };
        let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
        self.store.commit(&batch).await.expect("stored");
        self.store.mark_at_end(&partition, Offset(hours), true).await.expect("marked");
        self.clock.advance(Duration::from_secs((hours - self.hours).unsigned_abs() * 3600));
        self.hours = hours;
    }

    fn score(&self, negative: bool) -> ModelScore {
        let p = Probability::new(if negative { 0.9 } else { 0.1 }).expect("p");
        ModelScore::new(Score::new(Probabilities::two(p), Probability::HALF.into()), self.model)
    }

    fn evaluator(&self) -> Evaluator {
        Evaluator::new(self.store.clone(), &self.settings, self.clock.clone())
    }

    /// Evaluates, and returns the keys of the new notifications without the minute.
    async fn notified(&self, evaluator: &Evaluator) -> Vec<String> {
        evaluator.evaluate().await.expect("evaluated");
        let far = self.clock.now() + TimeDelta::days(99);
        let rows = self.store.outbox_lease(far, Duration::from_secs(9), 99, &[], &[]).await;
        let mut keys = Vec::new();
        for row in rows.expect("rows") {
            let sent = monitor_store::OutboxState::Sent;
            self.store.outbox_record(row.id, row.attempts, far, &sent).await.expect("recorded");
            let parts: Vec<_> = row.key.split('-').collect();
            keys.push(format!("{}-{}-{}-{}", parts[0], parts[1], parts[2], parts[4]));
        }
        keys
    }

    async fn acme(&self) -> monitor_core::domain::Incident {
        let found = self.store.incidents(10).await.expect("incidents");
        found.into_iter().find(|incident| incident.brand == "acme").expect("an incident of acme")
    }
}

#[tokio::test]
async fn a_rise_that_goes_on_after_a_person_ended_it_opens_another_incident() {
    let mut world = World::up_to(43).await;
    let evaluator = world.evaluator();
    assert_eq!(world.notified(&evaluator).await, ["incident-1-opened-hook"]);
    let site = Site::around(world.store.clone(), &["acme"], Vec::new()).await;
    let ended = reqwest::Client::new()
        .post(format!("{}/v1/incidents/1/resolve", site.url))
        .json(&serde_json::json!({"by": "ada", "note": "a joke"}));
    assert_eq!(ended.send().await.expect("an answer").status(), 204);
    assert_eq!(world.notified(&evaluator).await, ["incident-1-resolved-hook"]);
    let first = world.acme().await;
    let resolved = first.resolved.expect("ended");
    world.advance_to(44).await;
    assert_eq!(world.notified(&evaluator).await, ["incident-2-opened-hook"]);
    let second = world.acme().await;
    assert!(second.opened > resolved && second.resolved.is_none(), "{second:?}");
}

#[tokio::test]
async fn a_silenced_incident_is_notified_when_the_silence_ends() {
    let mut world = World::up_to(43).await;
    let silence = Silence {
        id: 0,
        brand: Some("acme".into()),
        starts_at: start(),
        ends_at: world.clock.now() + TimeDelta::minutes(30),
        reason: "a launch".into(),
        who: "ada".into(),
    };
    world.store.silence(&silence).await.expect("kept");
    let evaluator = world.evaluator();
    assert_eq!(world.notified(&evaluator).await, [""; 0]);
    let incident = world.acme().await;
    assert_eq!(incident.resolved, None, "it is recorded all the same");
    let history = world.store.events(incident.id).await.expect("events");
    let reasons: Vec<_> = history[0].suppressed.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["silenced (silence 1 by ada: a launch)"]);
    assert_eq!(history[0].suppressed[0].receiver, "hook");
    world.advance_to(44).await;
    assert_eq!(
        world.notified(&evaluator).await,
        ["incident-1-opened-hook"],
        "once the silence is over"
    );
}

/// One account floods the brand, and is left out: it neither leads the examples nor makes the incident look like one of
/// few people.
#[tokio::test]
async fn an_account_that_is_left_out_is_no_reason() {
    let mut world = World::up_to(43).await;
    (world.settings.alerting.warning_people, world.settings.alerting.critical_people) = (5, 5);
    let reach = Reach {
        author: Some("Deals_Bot".into()),
        followers: Some(5_000_000),
        retweets: Some(900),
        ..Reach::default()
    };
    let deal = |n: i64| {
        let at = start() + TimeDelta::hours(42) + TimeDelta::seconds(n * 20);
        let id = TweetId::new(format!("deal-{n}")).expect("an id");
        let tweet = Tweet::new(id, format!("bargain of acme {n}"), at, Vec::new());
        ScoredTweet {
            tweet: tweet.expect("a tweet").with_reach(reach.clone()),
            brands: vec!["acme".into()],
            score: Some(world.score(true)),
            heard: Heard::Never,
        }
    };
    let flood = Batch { scores: (0..180).map(deal).collect(), ..Batch::default() };
    world.store.commit(&flood).await.expect("stored");
    assert_eq!(world.notified(&world.evaluator()).await, ["incident-1-opened-hook"]);
    let incident = world.acme().await;
    assert_eq!(incident.severity, Severity::Critical, "as many people as there are");
    let told = world.store.notifications_of(incident.id).await.expect("told");
    assert_eq!((told[0].drivers.repeaters.len(), told[0].drivers.terms.len()), (0, 0));
    let examples = world.store.examples(incident.id).await.expect("examples");
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!((example.author, example.reach), (None, None), "{}", example.text);
    }
}

#[tokio::test]
async fn an_acknowledged_incident_is_not_repeated() {
    for acknowledged in [false, true] {
        let mut world = World::up_to(43).await;
        world.settings.alerting.repeat_minutes = 60;
        let evaluator = world.evaluator();
        assert_eq!(world.notified(&evaluator).await, ["incident-1-opened-hook"]);
        if acknowledged {
            let acknowledgement =
                Acknowledgement { at: world.clock.now(), by: "ada".into(), note: "on it".into() };
            let id = world.acme().await.id;
            assert!(world.store.acknowledge(id, &acknowledgement).await.expect("kept"));
        }
        world.advance_to(45).await;
        let keys = world.notified(&evaluator).await;
        assert_eq!(keys.is_empty(), acknowledged, "{keys:?}");
        assert!(keys.iter().all(|key| key == "incident-1-updated-hook"), "{keys:?}");
    }
}

#[tokio::test]
async fn another_evaluator_resumes_where_the_last_one_stopped() {
    let mut one = World::up_to(43).await;
    let mut two = World::up_to(43).await;
    let evaluator = one.evaluator();
    one.notified(&evaluator).await;
    two.notified(&two.evaluator()).await;
    for hours in [44, 46, 49] {
        one.advance_to(hours).await;
        two.advance_to(hours).await;
        assert_eq!(
            one.notified(&evaluator).await,
            two.notified(&two.evaluator()).await,
            "at hour {hours}"
        );
    }
    let state = async |world: &World| {
        world
            .store
            .detector_state("acme", Watch::Buzz)
            .await
            .expect("read")
            .expect("evaluated before")
    };
    assert_eq!(state(&one).await, state(&two).await);
}

#[tokio::test]
async fn an_incident_without_a_detector_is_closed() {
    let mut world = World::up_to(43).await;
    assert_eq!(world.notified(&world.evaluator()).await, ["incident-1-opened-hook"]);
    let acme = world.settings.brands.remove("acme").expect("the brand");
    world.settings.brands.insert("acme airlines".into(), acme);
    let evaluator = world.evaluator();
    assert_eq!(world.notified(&evaluator).await, ["incident-1-resolved-hook"]);
    assert!(world.acme().await.resolved.is_some());
    assert_eq!(world.notified(&evaluator).await, [""; 0], "once");
}

#[tokio::test]
async fn an_open_incident_is_found_behind_a_thousand_newer_ones() {
    use monitor_core::domain::Transition::{Opened, Resolved};
    let mut world = World::up_to(43).await;
    assert_eq!(world.notified(&world.evaluator()).await, ["incident-1-opened-hook"]);
    let (first, mut before) = (world.acme().await.opened.0 + 1 - minute(0).0, None);
    for now in first..first + 2400 {
        let step = if before.is_none_or(|it| it % 2 != first % 2) { Opened } else { Resolved };
        let step = notifying(decision("delta", before, now, Some(step)), Vec::new());
        world.store.decide(&step).await.expect("written");
        before = Some(now);
    }
    let site = Site::around(world.store.clone(), &["acme"], Vec::new()).await;
    let (_, status) = site.json("/api/status").await;
    assert_eq!(status["open_incidents"][0]["brand"], "acme", "{}", status["open_incidents"]);
    let (_, found) = site.json("/v1/incidents?open=true").await;
    assert_eq!(found["incidents"][0]["brand"], "acme", "{found}");
    let acme = world.settings.brands.remove("acme").expect("the brand");
    world.settings.brands.insert("acme airlines".into(), acme);
    assert_eq!(world.notified(&world.evaluator()).await, ["incident-1-resolved-hook"]);
}

#[tokio::test]
async fn an_unreadable_state_closes_the_incident_and_starts_again() {
    let mut world = World::up_to(43).await;
    assert_eq!(world.notified(&world.evaluator()).await, ["incident-1-opened-hook"]);
    let evaluated = world
        .store
        .detector_state("acme", Watch::Buzz)
        .await
        .expect("read")
        .expect("one")
        .evaluated;
    let unreadable = Decision {
        brand: "acme".into(),
        watch: Watch::Buzz,
        evaluated_before: Some(evaluated),
        evaluated: evaluated.plus(1),
        state: serde_json::json!("unreadable"),
        step: None,
    };
    world.store.decide(&unreadable).await.expect("written");
    world.advance_to(44).await;
    let keys = world.notified(&world.evaluator()).await;
    assert_eq!(keys, ["incident-1-resolved-hook", "incident-2-opened-hook"]);
}

#[tokio::test]
async fn a_quiet_stream_is_notified_and_so_is_its_return() {
    let mut world = World::up_to(41).await;
    let evaluator = world.evaluator();
    let mut keys = Vec::new();
    for _ in 0..40 {
        keys.extend(world.notified(&evaluator).await);
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(keys, ["incident-1-opened-hook"], "two tweets a minute are missed");
    let found = world.store.incidents(10).await.expect("incidents").remove(0);
    assert_eq!((found.brand.as_str(), found.cause()), (STREAM, Cause::Quiet));
    assert_eq!(found.severity, Severity::Critical);

    world.clock = Arc::new(SimulatedClock::at(world.clock.now()));
    let mut keys = Vec::new();
    let evaluator = world.evaluator();
    // The clock is 40 minutes ahead of the tweets, as it was before.
    for _ in 0..40 {
        let newest = world.clock.now();
        let partition = TopicPartition::new("tweets", 0);
        let advance = Advance {
            partition: partition.clone(),
            from: Offset(world.hours),
            to: Offset(world.hours + 1),
            event_time_max: None,
            record_time_max: Some(newest),
        };
        let batch = Batch { advances: vec![advance], ..Batch::default() };
        world.store.commit(&batch).await.expect("stored");
        world.hours += 1;
        keys.extend(world.notified(&evaluator).await);
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(keys, ["incident-1-resolved-hook"]);
}

impl World {
    /// Switches to `all@1`, which has scored again what is stored.
    async fn switch(&mut self) {
        let open = self.store.unscored("all@1", Minute(0), Minute(i64::MAX)).await.unwrap();
        let minutes: Vec<_> = open.iter().map(|(minute, _)| *minute).collect();
        let texts = self.store.texts_to_rescore("all@1", &minutes, None, u32::MAX).await.unwrap();
        let mut rows: BTreeMap<Minute, Rescored> = BTreeMap::new();
        for text in texts {
            let minute = Minute::of(text.created_at);
            let row = rows.entry(minute).or_insert_with(|| Rescored {
                brand: "acme".into(),
                minute,
                instead_of: text.model.clone(),
                pairs: Pairs::default(),
            });
            let n = text.tweet_id.parse().unwrap();
            row.pairs.add(text.is_negative, is_negative("all@1", n, self.calm_from));
        }
        let rows: Vec<_> = rows.into_values().collect();
        self.store.put_rescored("all@1", &rows).await.unwrap();
        self.store.switch_to("all@1", Minute::of(start())).await.unwrap();
    }
}

#[tokio::test]
async fn a_switch_moves_the_baseline_with_the_share() {
    let mut world = World::up_to(41).await;
    world.store.begin_with("any@1").await.unwrap();
    let evaluator = world.evaluator();
    evaluator.evaluate().await.unwrap();
    world.switch().await;
    let fence = world.store.switches().await.unwrap().newest().unwrap().from;
    world.model = "all@1";
    world.calm_from = 0;
    world.advance_to(48).await;
    evaluator.evaluate().await.unwrap();
    let state = world.store.detector_state("acme", Watch::Buzz).await.unwrap().unwrap();
    assert!(state.evaluated > fence.plus(300), "the minutes after the switch are evaluated");
    assert_eq!(world.store.incidents(10).await.unwrap(), [], "50 % instead of 20 %, and no rise");
}

#[tokio::test]
async fn an_open_incident_goes_on_with_another_model() {
    let mut world = World::up_to(43).await;
    world.store.begin_with("any@1").await.unwrap();
    let evaluator = world.evaluator();
    assert_eq!(world.notified(&evaluator).await, ["incident-1-opened-hook"]);
    let opened = world.acme().await;
    world.switch().await;
    world.model = "all@1";
    world.calm_from = 45;
    world.advance_to(45).await;
    assert_eq!(world.notified(&evaluator).await, [""; 0], "neither resolved nor opened again");
    let same = world.acme().await;
    assert_eq!((same.id, same.opened, same.resolved), (opened.id, opened.opened, None));
    // Calm for the new model is 50 %, which the old baseline of 20 % would call a rise.
    world.advance_to(47).await;
    assert_eq!(world.notified(&evaluator).await, ["incident-1-resolved-hook"]);
    assert_eq!(world.store.incidents(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_leader_whose_clock_was_ahead_does_not_silence_the_next_one() {
    let mut world = World::up_to(41).await;
    let right = world.clock.clone();
    world.clock = Arc::new(SimulatedClock::at(right.now() + TimeDelta::hours(5)));
    let (ahead, mut keys) = (world.evaluator(), Vec::new());
    for _ in 0..40 {
        keys.extend(world.notified(&ahead).await);
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(keys, ["incident-1-opened-hook"], "no record for hours, by its clock");
    world.clock = right;
    world.notified(&world.evaluator()).await;
    let state = world.store.detector_state(STREAM, Watch::Quiet).await.expect("read");
    let evaluated = state.expect("evaluated").evaluated;
    assert_eq!(evaluated, Minute::of(world.clock.now()), "evaluated by the right clock");
}

#[tokio::test]
async fn a_tweet_with_a_date_ahead_closes_no_minute_early() {
    let world = World::up_to(41).await;
    let evaluator = world.evaluator();
    let now = world.clock.now();
    let latest = Minute::of(now - TimeDelta::minutes(1)).plus(-1);
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(latest.plus(-1)));
    let partition = TopicPartition::new("tweets", 0);
    let advance = Advance {
        partition: partition.clone(),
        from: Offset(world.hours),
        to: Offset(world.hours + 1),
        event_time_max: Some(now + TimeDelta::minutes(10)),
        record_time_max: Some(now),
    };
    let batch = Batch { advances: vec![advance], ..Batch::default() };
    world.store.commit(&batch).await.expect("stored");
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(latest), "not by its date");
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(latest.plus(2)));
}

#[tokio::test]
async fn the_clock_closes_the_last_minute_of_a_stream_that_went_silent() {
    let world = World::up_to(41).await;
    let evaluator = world.evaluator();
    let newest = Minute::of(world.clock.now()).plus(-1);
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(newest.plus(-2)));
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(newest), "the last tweets");
    world.clock.advance(Duration::from_secs(7200));
    assert_eq!(evaluator.evaluate().await.expect("evaluated"), Some(newest), "silence is no calm");
}

#[tokio::test]
async fn tweets_that_come_after_their_minute_was_judged_are_counted() {
    let metrics = monitor_telemetry::init_metrics();
    let world = World::up_to(41).await;
    let evaluator = world.evaluator();
    evaluator.evaluate().await.expect("evaluated");
    let now = world.clock.now();
    let partition = TopicPartition::new("tweets", 0);
    let commit = async |from: i64, scores: Vec<ScoredTweet>| {
        let event_time_max = Some(now + TimeDelta::minutes(from - world.hours));
        let (from, to) = (Offset(from), Offset(from + 1));
        let partition = partition.clone();
        let advance =
            Advance { partition, from, to, event_time_max, record_time_max: event_time_max };
        let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
        world.store.commit(&batch).await.expect("stored");
    };
    let late = (0..5).map(|n| {
        let id = TweetId::new(format!("late{n}")).expect("an id");
        let at = now - TimeDelta::hours(1);
        let tweet = Tweet::new(id, "acme late", at, Vec::new()).expect("a tweet");
        ScoredTweet {
            tweet,
            brands: vec!["acme".into()],
            score: Some(world.score(false)),
            heard: Heard::Always,
        }
    });
    commit(world.hours, late.collect()).await;
    commit(world.hours + 1, Vec::new()).await;
    world.clock.advance(Duration::from_secs(300));
    evaluator.evaluate().await.expect("evaluated");
    let text = metrics.render();
    assert!(text.contains("monitor_late_tweets_total{brand=\"acme\"} 5"), "{text}");
}

#[tokio::test]
async fn a_rise_that_came_late_alarms_once() {
    // A brand of its own, as the metrics are those of the whole process.
    let mut world = World::about("late", 0, 40).await;
    let evaluator = world.evaluator();
    for hour in 41..=43 {
        assert_eq!(world.notified(&evaluator).await, [""; 0]);
        world.advance_to(hour).await;
    }
    assert_eq!(world.notified(&evaluator).await, [""; 0]);
    let now = world.clock.now();
    let commit = async |from: i64, scores: Vec<ScoredTweet>| {
        let partition = TopicPartition::new("tweets", 0);
        let newest = Some(now + TimeDelta::minutes(from - world.hours));
        let advance = Advance {
            partition: partition.clone(),
            from: Offset(from),
            to: Offset(from + 1),
            event_time_max: newest,
            record_time_max: newest,
        };
        let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
        world.store.commit(&batch).await.expect("stored");
    };
    // An hour in which twice as many tweets are negative as all that came in time.
    let late = (0..240).map(|n| ScoredTweet {
        tweet: Tweet::new(
            TweetId::new(format!("late{n}")).expect("an id"),
            "late",
            now - TimeDelta::seconds(15 * n + 60),
            Vec::new(),
        )
        .expect("a tweet"),
        brands: vec!["late".into()],
        score: Some(world.score(true)),
        heard: Heard::Always,
    });
    commit(world.hours, late.collect()).await;
    let mut notified = Vec::new();
    for minute in 1..=9 {
        commit(world.hours + minute, Vec::new()).await;
        world.clock.advance(Duration::from_secs(60));
        notified.extend(world.notified(&evaluator).await);
    }
    assert_eq!(notified, ["incident-1-opened-hook"]);
}

#[tokio::test]
async fn what_is_usual_is_learned_again_in_another_time_zone() {
    let past = async |world: &World| {
        let state = world.store.detector_state("acme", Watch::Buzz).await.expect("read");
        state.expect("evaluated").state["volumes"]["negative-volume"]["past"].clone()
    };
    let mut world = World::up_to(40).await;
    assert_eq!(world.notified(&world.evaluator()).await, [""; 0]);
    assert_eq!(past(&world).await["zone"], "UTC");
    world.settings.brands.get_mut("acme").expect("the brand").time_zone = Some("Asia/Tokyo".into());
    world.advance_to(41).await;
    assert_eq!(world.notified(&world.evaluator()).await, [""; 0]);
    let changed = past(&world).await;
    assert_eq!(changed["zone"], "Asia/Tokyo");

    let mut always = World::up_to(40).await;
    always.settings = world.settings.clone();
    always.advance_to(41).await;
    always.notified(&always.evaluator()).await;
    let expected = past(&always).await;
    assert_eq!(changed["learned"], expected["learned"]);
    assert_eq!(changed["hours"], expected["hours"], "as if it had always been there");
}
