//! Simulations: three daemons over one store in memory, on a clock that stands still while a task works.
//!
//! A seed draws some hours of tweets (late, dated ahead, repeated, copied, edited, deleted, and no tweets), whether each
//! of them counts or each text once an hour, and their troubles:
//! calls of the store that fail, hang or take effect late, deaths between any two steps, rebalances of which the old
//! owner does not hear, hosts whose clocks are wrong and jump, receivers that fail. In the last hour all is calm.
//! `MONITOR_SIMULATIONS` says how many seeds are run, `MONITOR_SEED` runs one again, exactly, and prints what it does.

mod daemon;
mod ledger;
mod line;
mod stream;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Receiver, Settings};
use monitor_core::alerting::Heard;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Counts, Incident, IncidentId, Label, Minute, Offset, Probabilities, Probability, STREAM,
    StartAt, TopicPartition, Watch,
};
use monitor_model::{Classifier, ClassifyError, Encoding, Model, ModelHandle};
use monitor_store::{
    Advance, Batch, Claim, MemoryStore, OutboxRow, OutboxState, ScoredTweet, Store,
};
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::notify::rig;
use crate::support::from_environment;
use daemon::{Members, Owners, group, host, never_taken};
use ledger::{Ledger, Seen};
use stream::{BRANDS, CALM, END, FIRST, HOSTS, MINUTE, PARTITIONS, Stream, Troubles, at, start};

/// Who wakes at which milliseconds of [`SLOTS`]: never two who touch the same thing, because the order in which tasks
/// run within a millisecond is not that of a seed.
const SLOTS: u64 = 32;
const LATE: u64 = 12;
const READERS: u64 = 24;
const GROUP: u64 = 27;
const STALE: u64 = 28;
const HOST: u64 = 29;

/// How far apart incidents open, in minutes, if tweets came after their minute was closed. Tweets are dated ahead by half an
/// hour, and where daemons catch up they close that many minutes too early.
const OPENED_APART_MAX: i64 = 45;

/// Everything of a seed.
struct World {
    seed: u64,
    began: Instant,
    troubles: Troubles,
    stream: Stream,
    settings: Settings,
    model: ModelHandle,
    ledger: Ledger,
    members: Members,
    owners: Owners,
    /// What the receivers took, by key.
    received: Mutex<BTreeMap<String, Vec<OutboxRow>>>,
    over: CancellationToken,
}

impl World {
    /// Milliseconds since the simulation began.
    fn elapsed(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Sleeps for `ms`, and on to the next millisecond of the slot.
    async fn sleep(&self, ms: u64, slot: u64) {
        let until = self.elapsed() + ms;
        let until = until + (SLOTS + slot - until % SLOTS) % SLOTS;
        tokio::time::sleep_until(self.began + Duration::from_millis(until)).await;
    }
}

/// Calls texts with the word "awful" negative.
struct Keyword(u32);

impl Classifier for Keyword {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        let p = |encoding: &&Encoding| if encoding.ids.contains(&self.0) { 0.9 } else { 0.1 };
        let p = batch.iter().map(p);
        Ok(p.map(|p| Probabilities::two(Probability::new(p).expect("p"))).collect())
    }
}

fn model() -> Model {
    let null = Model::null();
    let word = null.encoder.encode("awful").ids[0];
    Model { classifier: Box::new(Keyword(word)), ..null }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    for brand in BRANDS {
        let rule = Brand { keywords: vec![brand.into()], ..Brand::default() };
        settings.brands.insert(brand.into(), rule);
    }
    for name in ["desk", "hook", "mail", "pager"] {
        let hook = rig::webhook_at("http://127.0.0.1:1/hook".into());
        settings.receivers.insert(name.into(), Receiver::Webhook(hook));
    }
    settings.kafka.topic = "tweets".into();
    settings.alerting.tick_ms = 20_000;
    settings.alerting.repeat_minutes = 60;
    (settings.delivery.poll_ms, settings.delivery.lease_ms) = (10_000, 12_000);
    // Otherwise what is dead depends on how often senders died.
    settings.delivery.attempts_max = 10_000;
    settings
}

fn partition(number: usize) -> TopicPartition {
    TopicPartition::new("tweets", number as i32)
}

/// Stores the calm time before the simulation.
async fn begin(store: &dyn Store) {
    static HISTORY: LazyLock<Vec<ScoredTweet>> = LazyLock::new(stream::history);
    let claims = (0..PARTITIONS).map(partition);
    let (low, high) = (Offset(0), Offset(0));
    let claims: Vec<_> =
        claims.map(|partition| Claim { partition, seen: None, low, high }).collect();
    store.claim(&claims, StartAt::Earliest).await.expect("claimed");
    let newest = HISTORY.iter().map(|row| row.tweet.created_at).max();
    let advance = |number| Advance {
        partition: partition(number),
        from: low,
        to: Offset(FIRST),
        event_time_max: newest,
        record_time_max: newest,
    };
    let advances = (0..PARTITIONS).map(advance).collect();
    let batch = Batch { scores: HISTORY.clone(), advances, ..Batch::default() };
    store.commit(&batch).await.expect("stored");
}

/// What a seed ends with.
struct Ended {
    trace: Vec<String>,
    happened: BTreeMap<&'static str, u64>,
}

/// Runs a seed. The time of its runtime advances only when no task can go on.
fn simulate(seed: u64) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(run(seed))
}

async fn run(seed: u64) -> Ended {
    let troubles = Troubles::draw(seed);
    let (model, work) = ModelHandle::new(model());
    let _model = AbortOnDropHandle::new(tokio::spawn(work));
    let world = Arc::new(World {
        seed,
        began: Instant::now(),
        stream: Stream::draw(seed, &troubles),
        troubles,
        settings: settings(),
        model,
        ledger: Ledger::default(),
        members: Members::default(),
        owners: Owners::default(),
        received: Mutex::default(),
        over: CancellationToken::new(),
    });
    begin(&*world.ledger.store).await;
    world.ledger.judge_before(&world.settings).await;
    let _group = AbortOnDropHandle::new(tokio::spawn(group(world.clone())));
    let hosts: Vec<_> = (0..HOSTS)
        .map(|number| AbortOnDropHandle::new(tokio::spawn(host(world.clone(), number))))
        .collect();
    tokio::time::sleep(Duration::from_millis(CALM + 5 * MINUTE)).await;
    let left = unjudged(&world).await;
    let broken = || world.ledger.seen().broken.clone();
    assert!(broken().is_empty(), "{:#?}", broken());
    assert!(left.is_empty(), "five minutes after all is calm: {left}");
    tokio::time::sleep(Duration::from_millis(END + 2 * MINUTE - world.elapsed())).await;
    let mut left = unsettled(&world).await;
    while !left.is_empty() && world.elapsed() < END + 60 * MINUTE {
        tokio::time::sleep(Duration::from_secs(10)).await;
        left = unsettled(&world).await;
    }
    assert!(left.is_empty(), "an hour after the end: {left}");
    world.over.cancel();
    for host in hosts {
        host.await.expect("a host ends");
    }
    assert!(broken().is_empty(), "{:#?}", broken());
    let mut seen = std::mem::take(&mut *world.ledger.seen());
    check(&world, &mut seen).await;
    Ended { trace: seen.trace, happened: seen.happened }
}

/// What has still to be done: records to read, minutes to judge, notifications to send.
async fn unsettled(world: &World) -> String {
    let store = &world.ledger.store;
    let progress = store.progress("tweets").await.unwrap();
    let mut left = String::new();
    for (read, entries) in progress.iter().zip(&world.stream.partitions) {
        let end = entries.last().map_or(Offset(FIRST), |last| last.offset.next());
        if read.position != end || !read.at_end {
            left += &format!("{read:?} is not read to {end}; ");
        }
    }
    let pending = store.totals().await.unwrap().outbox_pending;
    if pending > 0 {
        left += &format!("{pending} notifications are pending; ");
    }
    left + &unjudged(world).await
}

/// Which minutes have still to be judged, or were judged before their time. A leader whose clock was ahead must not
/// have silenced the others.
async fn unjudged(world: &World) -> String {
    let store = &world.ledger.store;
    let now = at(world.elapsed());
    let closed = world.ledger.closed(world.elapsed());
    // A minute may have closed just now.
    let watches = BRANDS.map(|brand| (brand, Watch::Buzz, closed.map(|at| at.plus(-3))));
    let clock = Some(Minute::of(now).plus(-1));
    let watches =
        watches.into_iter().chain([(STREAM, Watch::Quiet, clock), (STREAM, Watch::Lag, clock)]);
    let mut left = String::new();
    for (brand, watch, until) in watches {
        let state = store.detector_state(brand, watch).await.unwrap();
        let judged = state.map(|state| state.evaluated);
        if judged < until || judged > Some(Minute::of(now)) {
            left +=
                &format!("{brand} {watch:?} is judged up to {judged:?} of {until:?} at {now}; ");
        }
    }
    left
}

async fn check(world: &World, seen: &mut Seen) {
    let store = &world.ledger.store;

    // Each tweet is stored once, and counted once.
    let mut scores = store.scores();
    let Stream { kept, gone, letters, .. } = &world.stream;
    for id in kept {
        assert!(scores.contains_key(id), "tweet {id} is lost");
    }
    for id in gone {
        assert!(!scores.contains_key(id), "tweet {id} was removed");
    }
    let live = scores.keys().filter(|id| !id.starts_with('h')).count();
    assert_eq!(live, kept.len(), "stored tweets");
    assert_eq!(store.totals().await.unwrap().dead_letters, *letters, "dead letters");
    let mut fold: BTreeMap<(&str, Minute), Counts> = BTreeMap::new();
    let mut voices: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for (id, row) in &scores {
        let score = row.score.as_ref().expect("the model knows all languages");
        let negative = u64::from(score.score.label == Label::Negative);
        let minute = Minute::of(row.tweet.created_at);
        let is_echo = store.is_echo(id);
        if is_echo {
            seen.count("a tweet was an echo");
        }
        if let Heard::OnceAnHour(_) = row.heard {
            let voice = (minute.hour(), row.tweet.text.clone());
            *voices.entry(voice).or_default() += u64::from(!is_echo);
        }
        for brand in row.brands.iter().filter(|_| !is_echo) {
            *fold.entry((brand, minute)).or_default() += Counts { total: 1, negative };
        }
    }
    for (voice, heard) in &voices {
        // The one that counted may be gone.
        let is_gone = world.stream.gone_texts.contains(voice);
        assert!(*heard == 1 || *heard == 0 && is_gone, "{voice:?} counts {heard} times");
    }
    let mut counts = BTreeMap::new();
    for brand in BRANDS {
        let found = store.minute_counts(brand, Minute(0), Minute(i64::MAX)).await.unwrap();
        counts.extend(found.into_iter().map(|(minute, counts)| ((brand, minute), counts)));
    }
    assert!(counts == fold, "counts are a fold over scores");

    // Each notification has one fate.
    let received = world.received.lock().unwrap().clone();
    let numbers: Vec<_> = seen.rows.keys().copied().collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as i64), "{numbers:?}");
    let mut keys = BTreeMap::new();
    for (id, leased) in &seen.rows {
        let key = &leased.row.key;
        assert_eq!(keys.insert(key, id), None, "{key} is there twice");
        let fate = match never_taken(world.seed, key) {
            true => matches!(&leased.ended[..], [OutboxState::Dead { .. }]),
            false => leased.ended == [OutboxState::Sent] && received.contains_key(key),
        };
        assert!(fate, "{key} ended as {:?}", leased.ended);
    }
    for (key, rows) in &received {
        let row = &seen.rows[keys.get(key).expect("what was sent is in the outbox")].row;
        for sent in rows {
            assert_eq!((&sent.receiver, &sent.notification), (&row.receiver, &row.notification));
        }
    }

    // The same incidents as one evaluator that nothing happens to.
    let found = incidents(store).await;
    // Which of the copies came first is the same.
    for (id, row) in &mut scores {
        row.heard = if store.is_echo(id) { Heard::Never } else { Heard::Always };
    }
    let expected = incidents(&*calm(world, scores.into_values()).await).await;
    for (brand, risen) in BRANDS.into_iter().zip(world.stream.risen) {
        let of = |all: &[Incident]| -> Vec<_> {
            all.iter().filter(|incident| incident.brand == brand).cloned().collect()
        };
        let (found, expected) = (of(&found), of(&expected));
        let late = seen.late.get(brand).copied().unwrap_or(0);
        seen.count(if late == 0 { "no tweet came late" } else { "tweets came late" });
        compare(brand, late, risen.is_some(), &found, &expected);
    }
}

/// All incidents about brands, without their numbers and what depends on when they were judged.
async fn incidents(store: &MemoryStore) -> Vec<Incident> {
    let found = store.incidents(u32::MAX).await.unwrap();
    let found = found.into_iter().filter(|incident| incident.cause().watch() == Watch::Buzz);
    let same = |mut incident: Incident| {
        (incident.id, incident.missed) = (IncidentId(0), false);
        // What lasts is as of the last notification.
        for phase in incident.phases.iter_mut().filter(|phase| phase.is_open()) {
            phase.latest = phase.opening;
        }
        incident
    };
    found.map(same).collect()
}

/// A store with the same tweets, judged by one evaluator when all of them are there.
async fn calm(world: &World, scores: impl Iterator<Item = ScoredTweet>) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    begin(&*store).await;
    let clock = Arc::new(SimulatedClock::at(start()));
    let evaluator = Evaluator::new(store.clone(), &world.settings, clock.clone());
    evaluator.evaluate().await.unwrap();
    let scores: Vec<_> = scores.filter(|row| !row.tweet.id.as_str().starts_with('h')).collect();
    let progress = world.ledger.store.progress("tweets").await.unwrap();
    let advance = |read: &monitor_store::PartitionProgress| Advance {
        partition: read.partition.clone(),
        from: Offset(FIRST),
        to: read.position,
        event_time_max: read.event_time_max,
        record_time_max: read.record_time_max,
    };
    let advances = progress.iter().map(advance).collect();
    store.commit(&Batch { scores, advances, ..Batch::default() }).await.unwrap();
    for read in &progress {
        store.mark_at_end(&read.partition, read.position, true).await.unwrap();
    }
    clock.advance(Duration::from_millis(world.elapsed()));
    evaluator.evaluate().await.unwrap();
    store
}

/// They are the same if no tweet came after its minute was closed. Otherwise a brand whose tweets rise, which is
/// everybody's to see, has one incident at about the same time.
fn compare(brand: &str, late: u64, has_risen: bool, found: &[Incident], expected: &[Incident]) {
    if late == 0 {
        assert!(are_alike(found, expected), "{brand}: {found:#?}\ninstead of {expected:#?}");
    } else if has_risen {
        let opened = |all: &[Incident]| -> Vec<_> { all.iter().map(|it| it.opened.0).collect() };
        let (found, expected) = (opened(found), opened(expected));
        let close = found.len() == 1
            && expected.len() == 1
            && (found[0] - expected[0]).abs() <= OPENED_APART_MAX;
        assert!(close, "{brand} opened at {found:?} instead of {expected:?}");
    }
}

/// The same but for the last digits of sums, which depend on how many minutes were judged at once.
fn are_alike(found: &[Incident], expected: &[Incident]) -> bool {
    let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
    let words = |text| str::split(text, [' ', ',', '(', ')']);
    let number = |word: &str| word.parse::<f64>().ok();
    words(&found).count() == words(&expected).count()
        && words(&found).zip(words(&expected)).all(|(one, other)| {
            let numbers = number(one).zip(number(other));
            one == other || numbers.is_some_and(|(one, other)| (one - other).abs() < 1e-9)
        })
}

/// Runs a seed; a failure says which.
fn simulated(seed: u64) -> Result<Ended, String> {
    catch_unwind(|| simulate(seed)).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        format!("MONITOR_SEED={seed} repeats this: {why}")
    })
}

#[test]
fn daemons_in_trouble_lose_repeat_and_miss_nothing() {
    rig::install_tls();
    let one = from_environment("MONITOR_SEED");
    let number = from_environment("MONITOR_SIMULATIONS").unwrap_or(40);
    let first = one.unwrap_or_else(|| rand::rng().random::<u32>().into());
    let seeds = first..first + if one.is_some() { 1 } else { number };
    println!("{} seeds from MONITOR_SEED={first}", seeds.end - seeds.start);
    let (next, failed) = (Mutex::new(seeds.clone()), Mutex::new(Vec::new()));
    let happened: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let take = || next.lock().unwrap().next();
    let work = || {
        while let Some(seed) = take() {
            match simulated(seed) {
                Err(why) => failed.lock().unwrap().push(why),
                Ok(ended) => {
                    let all = &mut *happened.lock().unwrap();
                    ended.happened.iter().for_each(|(what, n)| *all.entry(what).or_default() += n);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (failed, happened) = (failed.into_inner().unwrap(), happened.into_inner().unwrap());
    assert!(failed.is_empty(), "{} seeds failed.\n{}", failed.len(), failed.join("\n"));
    println!("{happened:#?}");
    if one.is_none() && number >= 40 {
        for what in [
            "a batch was fenced off",
            "a call came late",
            "a call failed after its effect",
            "a call failed before its effect",
            "a call had no answer",
            "a daemon died after a call",
            "a daemon died before a call",
            "a daemon stopped",
            "a decision was refused",
            "a tweet was an echo",
            "the lead was lost",
            "no tweet came late",
            "opened",
            "resolved",
            "tweets came late",
        ] {
            assert!(happened.contains_key(what), "{what}: {happened:?}");
        }
    }

    // A seed is repeated exactly, so that a failure can be looked into.
    let (once, again) = (simulated(first).unwrap().trace, simulated(first).unwrap().trace);
    let differs = once.iter().zip(&again).position(|(one, other)| one != other);
    assert_eq!(differs.map(|at| (&once[at], &again[at])), None, "the first step that differs");
    assert_eq!(once.len(), again.len());
}
