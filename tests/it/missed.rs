//! A first start on a week of old tweets, and the return after an absence, with a simulated clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Alertmanager, Brand, Receiver, Route, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SimulatedClock};
use monitor_core::domain::{
    Offset, Probabilities, Probability, Score, Severity, StartAt, TopicPartition, Tweet, TweetId,
};
use monitor_store::{
    Advance, Batch, Claim, MemoryStore, ModelScore, OutboxState, ScoredTweet, Silence, Store,
};

use crate::notify::rig::{self, HttpReceiver};
use crate::takeover::{Death, Mortal, days_with_a_crisis, run_daemon, start};

const HOURS: i64 = 168;

/// Whether the share of a brand has risen in this hour: acme's on the third and the sixth day, delta's on the fourth
/// day and since the last four hours of the week.
fn has_risen(brand: &str, hour: i64) -> bool {
    match brand {
        "acme" => (58..60).contains(&hour) || (130..132).contains(&hour),
        _ => (80..82).contains(&hour) || (HOURS - 4..HOURS + 2).contains(&hour),
    }
}

/// A topic of two brands with two tweets a minute each.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<SimulatedClock>,
    settings: Settings,
    read: i64,
}

impl World {
    /// At the end of the week, with nothing read.
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let partition = TopicPartition::new("tweets", 0);
        let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(HOURS) };
        store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
        let mut settings = Settings::default();
        for brand in ["acme", "delta"] {
            let keywords = vec![brand.into()];
            settings.brands.insert(brand.into(), Brand { keywords, ..Brand::default() });
        }
        let hook = rig::webhook_at("http://127.0.0.1:1/hook".into());
        settings.receivers.insert("hook".into(), Receiver::Webhook(hook));
        // Severe from the beginning, so that nothing gets worse.
        (settings.alerting.warning_people, settings.alerting.critical_people) = (1, 1);
        (settings.stream.quiet_minutes_max, settings.stream.lag_minutes_max) = (0, 0);
        let clock = Arc::new(SimulatedClock::at(start() + TimeDelta::hours(HOURS)));
        Self { store, clock, settings, read: 0 }
    }

    /// Reads the topic up to this hour; `written` says when its last record was.
    async fn read_to(&mut self, hours: i64, at_end: bool, written: Option<DateTime<Utc>>) {
        let tweet = |brand: &'static str, n: i64| {
            let negative = n % 10 < if has_risen(brand, n / 120) { 7 } else { 2 };
            let p = Probability::new(if negative { 0.9 } else { 0.1 }).expect("p");
            let id = TweetId::new(format!("{brand}-{n}")).expect("an id");
            let at = start() + TimeDelta::seconds(n * 30);
            let text = format!("{brand}, number {n}");
            ScoredTweet {
                tweet: Tweet::new(id, text, at, Vec::new()).expect("a tweet"),
                brands: vec![brand.into()],
                score: Some(ModelScore::new(
                    Score::new(Probabilities::two(p), Probability::HALF.into()),
                    "any@1",
                )),
                heard: Heard::Always,
            }
        };
        let range = self.read * 120..hours * 120;
        let scores: Vec<_> = range.flat_map(|n| [tweet("acme", n), tweet("delta", n)]).collect();
        let newest = scores.last().map(|row| row.tweet.created_at);
        let partition = TopicPartition::new("tweets", 0);
        let advance = Advance {
            partition: partition.clone(),
            from: Offset(self.read),
            to: Offset(hours),
            event_time_max: newest,
            record_time_max: written.or(newest),
        };
        let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
        self.store.commit(&batch).await.expect("stored");
        self.store.mark_at_end(&partition, Offset(hours), at_end).await.expect("marked");
        self.read = hours;
    }

    /// Evaluates with a new daemon and sends all that is due; returns what was sent.
    async fn told(&self) -> Vec<monitor_store::OutboxRow> {
        let evaluator = Evaluator::new(self.store.clone(), &self.settings, self.clock.clone());
        evaluator.evaluate().await.expect("evaluated");
        self.due(self.clock.now()).await
    }

    async fn due(&self, now: DateTime<Utc>) -> Vec<monitor_store::OutboxRow> {
        let lease = Duration::from_secs(9);
        let mut all = Vec::new();
        loop {
            let rows = self.store.outbox_lease(now, lease, 99, &[], &[]).await.expect("leased");
            if rows.is_empty() {
                return all;
            }
            for row in &rows {
                let sent = OutboxState::Sent;
                self.store.outbox_record(row.id, row.attempts, now, &sent).await.expect("recorded");
            }
            all.extend(rows);
        }
    }
}

/// What was sent: receiver, what happened, and to which brand.
fn short(rows: &[monitor_store::OutboxRow]) -> Vec<String> {
    let short = |row: &monitor_store::OutboxRow| {
        let n = &row.notification;
        format!("{} {} {}", row.receiver, n.transition, n.brand)
    };
    let mut found: Vec<_> = rows.iter().map(short).collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_first_start_tells_in_one_digest_what_is_over() {
    let mut world = World::new().await;
    let endpoint = rig::webhook_at("http://127.0.0.1:1".into()).endpoint;
    let pager = Alertmanager { endpoint, token: None, token_file: None };
    world.settings.receivers.insert("pager".into(), Receiver::Alertmanager(pager));
    // The daemon is killed and started again while it reads.
    for hours in [50, 90, 140] {
        world.read_to(hours, false, None).await;
        assert_eq!(short(&world.told().await), [""; 0], "at hour {hours}, still reading");
    }
    world.read_to(HOURS, true, None).await;
    let rows = world.told().await;
    let expected = ["hook missed (all)", "hook opened delta", "pager opened delta"];
    assert_eq!(short(&rows), expected, "what goes on is told as usual");
    let digest = rows.iter().find(|row| !row.notification.missed.is_empty()).expect("a digest");
    let missed: Vec<_> = digest.notification.missed.iter().collect();
    let hour = |at: DateTime<Utc>| (at - start()).num_hours();
    let when: Vec<_> = missed
        .iter()
        .map(|it| (it.brand.as_str(), hour(it.opened_at), hour(it.resolved_at)))
        .collect();
    assert_eq!(when, [("acme", 58, 60), ("delta", 80, 82), ("acme", 130, 132)]);
    for it in &missed {
        assert!(it.tweets.share().is_some_and(|share| (0.4..0.7).contains(&share)), "{it:?}");
        assert!(!it.phases.is_empty(), "{it:?}");
    }
    assert_eq!(digest.notification.severity, "critical");
    let id = monitor_core::domain::IncidentId(missed[0].incident_id);
    let history = world.store.events(id).await.expect("events");
    let why: Vec<_> = history.iter().flat_map(|event| &event.suppressed).collect();
    assert!(!why.is_empty() && why.iter().all(|it| it.reason.as_str() == "catching_up"), "{why:?}");

    assert_eq!(short(&world.told().await), [""; 0], "once");
    world.clock.advance(Duration::from_secs(3600 * 5));
    world.read_to(HOURS + 5, true, None).await;
    assert_eq!(short(&world.told().await), ["hook resolved delta", "pager resolved delta"]);
}

#[tokio::test]
async fn the_return_after_an_outage_ends_what_was_told_and_digests_the_rest() {
    let mut world = World::new().await;
    world.clock = Arc::new(SimulatedClock::at(start() + TimeDelta::hours(59)));
    world.read_to(59, true, None).await;
    let told = short(&world.told().await);
    assert_eq!(told, ["hook opened acme", "hook updated acme"], "a phase has joined");
    // Nobody reads for four days.
    world.clock.advance(Duration::from_secs(3600 * (HOURS - 4 - 59).unsigned_abs()));
    world.read_to(HOURS - 4, true, None).await;
    let rows = world.told().await;
    assert_eq!(short(&rows), ["hook missed (all)", "hook resolved acme"], "in its thread");
    let digest = rows.iter().find(|row| !row.notification.missed.is_empty()).expect("a digest");
    let brands: Vec<_> = digest.notification.missed.iter().map(|it| &it.brand).collect();
    assert_eq!(brands, ["delta", "acme"], "the later ones");
}

#[tokio::test]
async fn a_digest_obeys_routes_silences_and_quiet_hours_of_when_it_is_sent() {
    let mut world = World::new().await;
    world.settings.alerting.critical_people = 100_000;
    let route = |receiver: &str, brands: &[&str], quiet: Option<&str>| Route {
        brands: brands.iter().map(|brand| (*brand).to_owned()).collect(),
        receivers: vec![receiver.into()],
        quiet_hours: quiet.map(str::to_owned),
        quiet_hours_severity: Severity::Critical,
        ..Route::default()
    };
    // It is midnight.
    let hook = world.settings.receivers["hook"].clone();
    world.settings.receivers.insert("desk".into(), hook);
    world.settings.routes.insert("night".into(), route("hook", &[], Some("22:00-07:00")));
    world.settings.routes.insert("desk".into(), route("desk", &["delta"], None));
    world.read_to(HOURS - 4, true, None).await;
    let silence = Silence {
        id: 0,
        brand: Some("delta".into()),
        starts_at: start(),
        ends_at: world.clock.now() + TimeDelta::hours(1),
        reason: "a strike".into(),
        who: "ada".into(),
    };
    world.store.silence(&silence).await.expect("kept");
    assert_eq!(short(&world.told().await), [""; 0], "desk is about delta, which is silenced");
    let morning = world.clock.now() + TimeDelta::hours(7);
    assert_eq!(short(&world.due(morning - TimeDelta::minutes(1)).await), [""; 0]);
    let rows = world.due(morning).await;
    assert_eq!(short(&rows), ["hook missed acme"]);
    assert_eq!(rows[0].notification.missed.len(), 2, "both of acme");
}

#[tokio::test]
async fn a_replay_of_old_tweets_and_the_setting_0_tell_each_step() {
    for (name, minutes, written) in [("replay", 60, Some(())), ("setting", 0, None)] {
        let mut world = World::new().await;
        world.settings.alerting.catch_up_minutes = minutes;
        let written = written.map(|()| {
            // A year later.
            world.clock.advance(Duration::from_secs(365 * 86_400));
            world.clock.now()
        });
        world.read_to(HOURS, true, written).await;
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for row in short(&world.told().await) {
            *found.entry(row).or_default() += 1;
        }
        assert_eq!(found.get("hook opened acme"), Some(&2), "{name}: {found:?}");
        assert_eq!(found.get("hook resolved acme"), Some(&2), "{name}: {found:?}");
        assert!(found.keys().all(|row| !row.contains("missed")), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn a_death_at_any_write_sends_one_digest() {
    rig::install_tls();
    let mut deaths = 0;
    for death in (0..40).flat_map(|n| [Death::Before(n), Death::After(n)]) {
        let store = days_with_a_crisis().await;
        let end = start() + TimeDelta::days(3);
        let partition = TopicPartition::new("tweets", 0);
        let (from, to) = (Offset(1), Offset(2));
        let newest = Some(end - TimeDelta::seconds(10));
        let advance = Advance {
            partition: partition.clone(),
            from,
            to,
            event_time_max: newest,
            record_time_max: newest,
        };
        let batch = Batch { advances: vec![advance], ..Batch::default() };
        store.commit(&batch).await.expect("stored");
        store.mark_at_end(&partition, to, true).await.expect("marked");
        let receiver = HttpReceiver::start(Vec::new()).await;
        let mut settings = Settings::default();
        let brand = Brand { keywords: vec!["acme".into()], ..Brand::default() };
        settings.brands.insert("acme".into(), brand);
        settings.receivers.insert("hook".into(), Receiver::Webhook(rig::webhook(&receiver)));
        (settings.stream.quiet_minutes_max, settings.stream.lag_minutes_max) = (0, 0);
        let clock = Arc::new(SimulatedClock::at(end));
        let first = Mortal::new(&store, death);
        run_daemon(first.clone(), &settings, &clock).await;
        let died = first.is_dead();
        deaths += usize::from(died);
        clock.advance(Duration::from_millis(rig::delivery().lease_ms + 1));
        run_daemon(Mortal::new(&store, Death::Never), &settings, &clock).await;
        let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (headers, body) in receiver.requests() {
            sent.entry(rig::header(&headers, "webhook-id").to_owned()).or_default().push(body);
        }
        assert_eq!(sent.len(), 1, "{death:?}: {:?}", sent.keys());
        let (key, bodies) = sent.first_key_value().expect("one");
        assert!(key.starts_with("missed-1-"), "{death:?}: {key}");
        assert!(bodies.len() <= 2 && bodies.iter().all(|body| *body == bodies[0]), "{death:?}");
        if !died {
            break;
        }
    }
    assert!(deaths >= 10, "it died {deaths} times");
}
