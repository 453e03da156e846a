//! A daemon: source, pipeline, evaluator and dispatcher, on a host with a clock of its own; and the group that shares
//! the partitions out among the daemons.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::{Evaluator, Lineup, Pipeline, PipelineError, Settings, StoredPositions};
use monitor_core::alerting::Counting;
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::Clock;
use monitor_core::domain::{Offset, StartAt, StreamFormat, TopicPartition};
use monitor_core::text::BrandMatcher;
use monitor_ingest::{Bounds, Control, Event, Headers, Load, Record, Source, WireLimits};
use monitor_notify::{Dispatcher, Notifier, Outcome};
use monitor_store::{Bounded, OutboxRow, Store};
use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::line::{ANSWER_MAX, Line, Part};
use super::stream::{CALM, FIRST, MINUTE, PARTITIONS, at, random};
use super::{GROUP, HOST, READERS, STALE, World};

/// The clock of a host, which may be wrong and may jump.
struct HostClock {
    world: Arc<World>,
    host: usize,
}

impl Clock for HostClock {
    fn now(&self) -> DateTime<Utc> {
        let elapsed = self.world.elapsed();
        let steps = &self.world.troubles.clocks[self.host];
        let ahead = steps.iter().rfind(|(from, _)| *from <= elapsed).map_or(0, |(_, by)| *by);
        at(elapsed) + TimeDelta::milliseconds(ahead)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.world.elapsed())
    }
}

/// A receiver that fails, hangs, fails after it got the message, and never takes some.
struct Hook(Arc<World>);

#[async_trait]
impl Notifier for Hook {
    async fn notify(&self, row: &OutboxRow, _: DateTime<Utc>) -> Outcome {
        let random = &mut random(self.0.seed, &format!("hook {} {}", row.key, row.attempts));
        let (wait, fails, kind) = (
            random.random_range(10..9_000),
            random.random_bool(self.0.troubles.refuses),
            random.random_range(0..5),
        );
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let now = self.0.elapsed();
        let is_deaf = self.0.troubles.deaf.iter().any(|deaf| deaf.contains(&now));
        let fails = (fails || is_deaf) && now < CALM;
        if never_taken(self.0.seed, &row.key) {
            return Outcome::Permanent { reason: "never".into() };
        }
        if !fails || kind < 2 && !is_deaf {
            self.0.received.lock().unwrap().entry(row.key.clone()).or_default().push(row.clone());
        }
        if !fails {
            return Outcome::Sent;
        }
        if kind % 2 == 0 {
            return std::future::pending().await;
        }
        Outcome::Retry { reason: "busy".into(), after: None }
    }
}

/// Whether the receivers never take the notification of this key.
pub fn never_taken(seed: u64, key: &str) -> bool {
    random(seed, &format!("never {key}")).random_bool(0.08)
}

/// A daemon on a host, started again after each death, until the world ends.
pub async fn host(world: Arc<World>, host: usize) {
    let random = &mut random(world.seed, &format!("host {host}"));
    let mut life = 0;
    while !world.over.is_cancelled() {
        let dead = CancellationToken::new();
        let stop = world.over.child_token();
        // Some end on request.
        let ends_in = random.random_range(MINUTE..400 * MINUTE);
        let until_absent = world.troubles.absent.start.saturating_sub(world.elapsed());
        let is_next = until_absent > 0 && !world.troubles.absent.is_empty();
        let ends_in = if is_next { ends_in.min(until_absent) } else { ends_in };
        let ask = async {
            world.sleep(ends_in, HOST).await;
            if world.elapsed() < CALM {
                stop.cancel();
            }
            std::future::pending::<()>().await
        };
        let who = format!("{host}.{life}");
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            ended = live(&world, host, life, dead.clone(), stop.clone()) => {
                let seen = &mut *world.ledger.seen();
                seen.count(if ended.is_ok() { "a daemon stopped" } else { "a daemon failed" });
                if let Err(error) = ended
                    && !matches!(error, PipelineError::DrainTooLong(_))
                {
                    seen.broken.push(format!("{who}: {error}"));
                }
            }
            () = ask => {}
        }
        dead.cancel();
        world.ledger.lose_lead(Some(&who));
        let mut rest = random.random_range(1_000..MINUTE);
        if random.random_bool(0.1) {
            rest += random.random_range(0..90 * MINUTE);
        }
        let now = world.elapsed();
        if world.troubles.absent.contains(&now) {
            rest += world.troubles.absent.end - now;
        }
        let rest = rest.min(CALM.saturating_sub(now).max(1_000));
        tokio::select! {
            biased;
            () = world.over.cancelled() => {}
            () = world.sleep(rest, HOST) => {}
        }
        life += 1;
    }
}

/// One life of a daemon.
async fn live(
    world: &Arc<World>,
    host: usize,
    life: u32,
    dead: CancellationToken,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    let clock: Arc<dyn Clock> = Arc::new(HostClock { world: world.clone(), host });
    let store = |part| -> Arc<dyn Store> {
        Arc::new(Bounded::new(Line::new(world, host, life, part, &dead), ANSWER_MAX))
    };
    let (events, receiver) = mpsc::channel(32);
    let (commands, orders) = mpsc::unbounded_channel();
    let positions = StoredPositions::new(store(Part::Source), StartAt::Earliest);
    let reader = Reader {
        world: world.clone(),
        slot: READERS + host as u64,
        positions,
        events,
        orders,
        owned: BTreeMap::new(),
        claim_at: 0,
    };
    let reading = AbortOnDropHandle::new(tokio::spawn(reader.run()));
    world.members.lock().unwrap().insert((host, life), commands.clone());
    let thread = std::thread::spawn(|| Ok(()));
    while !thread.is_finished() {
        std::thread::yield_now();
    }
    let source = Source { events: receiver, control: Arc::new(Orders(commands)), thread };
    let settings = Settings {
        batching: BatchPolicy { rows_max: 20, wait_max: Duration::from_millis(1_000) },
        counting: Counting::new(world.stream.voice, &[]),
        count_deleted: false,
        limits: WireLimits {
            record_bytes_max: 10_000,
            future_max: TimeDelta::hours(1),
            format: StreamFormat::Auto,
        },
        retry_wait_max: Duration::from_secs(5),
        drain_max: Duration::from_secs(20),
    };
    let lineup = watch::Sender::new(Lineup::of(world.model.clone()));
    let brands = BrandMatcher::new(monitor::pipeline::brand_rules(&world.settings)).unwrap();
    let pipeline = Pipeline::new(settings, store(Part::Pipeline), lineup, brands, clock.clone());
    let evaluator = Evaluator::new(store(Part::Evaluator), &world.settings, clock.clone());
    let hook = || -> Arc<dyn Notifier> { Arc::new(Hook(world.clone())) };
    let hooks = world.settings.receivers.keys().map(|name| (name.clone(), hook())).collect();
    let dispatcher =
        Dispatcher::with_notifiers(store(Part::Dispatcher), hooks, world.settings.delivery, clock);
    let (stop_evaluator, stop_dispatcher) = (CancellationToken::new(), CancellationToken::new());
    let evaluating = evaluator.run(Arc::default(), stop_evaluator.clone());
    let evaluating = AbortOnDropHandle::new(tokio::spawn(evaluating));
    let sending = dispatcher.run(stop_dispatcher.clone());
    let sending = AbortOnDropHandle::new(tokio::spawn(sending));
    let outcome = pipeline.run(source, stop.cancelled_owned()).await;
    drop(reading);
    for (token, task) in [(stop_evaluator, evaluating), (stop_dispatcher, sending)] {
        token.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(20), task).await;
    }
    outcome
}

/// What the group and the pipeline tell a reader.
pub enum Order {
    Assign(usize),
    Revoke(usize, oneshot::Sender<()>),
    Reclaim(usize),
}

struct Orders(mpsc::UnboundedSender<Order>);

impl Control for Orders {
    fn reclaim(&self, partition: &TopicPartition) {
        let _ = self.0.send(Order::Reclaim(partition.partition as usize));
    }

    fn stored(&self, _: &[(TopicPartition, Offset)]) {}
}

fn name(partition: usize) -> TopicPartition {
    TopicPartition::new("tweets", partition as i32)
}

/// The source: reads the partitions that the group gives it.
struct Reader {
    world: Arc<World>,
    slot: u64,
    positions: StoredPositions,
    events: mpsc::Sender<Event>,
    orders: mpsc::UnboundedReceiver<Order>,
    owned: BTreeMap<usize, Reading>,
    /// When to claim again after a failure.
    claim_at: u64,
}

#[derive(Default)]
struct Reading {
    /// The next offset to read; `None` until the partition is claimed.
    next: Option<Offset>,
    /// Since when it is at its end, and whether that is reported.
    ended: Option<(u64, bool)>,
}

/// A reader has been at the end for this long when it says so.
const IDLE: u64 = 2_000;

impl Reader {
    async fn run(mut self) {
        let load = Load::default();
        while !self.events.is_closed() {
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order).await;
            }
            self.claim().await;
            let Some(event) = self.next_event(&load) else {
                let wait = self.wait();
                let orders = &mut self.orders;
                tokio::select! {
                    biased;
                    () = self.events.closed() => {}
                    order = orders.recv() => match order {
                        Some(order) => self.obey(order).await,
                        None => return,
                    },
                    () = self.world.sleep(wait, self.slot) => {}
                }
                continue;
            };
            let (events, orders) = (self.events.clone(), &mut self.orders);
            tokio::select! {
                biased;
                order = orders.recv() => {
                    if let Some(order) = order {
                        self.obey(order).await;
                    }
                }
                room = events.reserve() => {
                    let Ok(room) = room else { return };
                    self.sent(&event);
                    room.send(event);
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Assign(partition) => {
                self.owned.insert(partition, Reading::default());
            }
            Order::Reclaim(partition) => {
                if let Some(reading) = self.owned.get_mut(&partition) {
                    *reading = Reading::default();
                }
            }
            Order::Revoke(partition, done) => {
                self.owned.remove(&partition);
                let event = Event::Revoked { partitions: vec![name(partition)], done };
                let _ = self.events.send(event).await;
            }
        }
    }

    async fn claim(&mut self) {
        let now = self.world.elapsed();
        let unclaimed: Vec<_> =
            self.owned.iter().filter(|(_, it)| it.next.is_none()).map(|(of, _)| *of).collect();
        if unclaimed.is_empty() || now < self.claim_at {
            return;
        }
        let names: Vec<_> = unclaimed.iter().map(|of| name(*of)).collect();
        let world = self.world.clone();
        let bounds = |of: &TopicPartition| {
            let written = &world.stream.partitions[of.partition as usize];
            let written = written.iter().rfind(|entry| entry.at <= world.elapsed());
            let high = written.map_or(Offset(FIRST), |entry| entry.offset.next());
            Some(Bounds { low: Offset(0), high })
        };
        let Some(found) = self.positions.claim_async(&names, bounds).await else {
            self.claim_at = self.world.elapsed() + 500;
            return;
        };
        for (partition, position) in unclaimed.iter().zip(&found) {
            self.owned.insert(*partition, Reading { next: Some(*position), ended: None });
        }
        let assigned = names.into_iter().zip(found).collect();
        let _ = self.events.send(Event::Assigned(assigned)).await;
    }

    /// The next record, of the partition whose record was written first, or the end of one.
    fn next_event(&mut self, load: &Load) -> Option<Event> {
        let now = self.world.elapsed();
        let unread = self.owned.iter().filter_map(|(partition, reading)| {
            let entry = self.unread(*partition, reading.next?)?;
            Some((entry.at, *partition, entry)).filter(|(at, ..)| *at <= now)
        });
        if let Some((_, partition, entry)) =
            unread.min_by_key(|(at, partition, _)| (*at, *partition))
        {
            let payload = entry.payload.clone().into_bytes();
            return Some(Event::Record(Record {
                partition: name(partition),
                offset: entry.offset,
                timestamp: Some(at(entry.at)),
                headers: Headers::default(),
                payload_bytes: payload.len(),
                weight: load.add(payload.len()),
                payload,
            }));
        }
        for (partition, reading) in &mut self.owned {
            if reading.next.is_none() {
                continue;
            }
            let (since, reported) = reading.ended.get_or_insert((now, false));
            if !*reported && now >= *since + IDLE {
                return Some(Event::AtEnd(name(*partition)));
            }
        }
        None
    }

    /// Goes on behind an event that was sent.
    fn sent(&mut self, event: &Event) {
        let (partition, next) = match event {
            Event::Record(record) => (&record.partition, Some(record.offset.next())),
            Event::AtEnd(partition) => (partition, None),
            _ => return,
        };
        let Some(reading) = self.owned.get_mut(&(partition.partition as usize)) else { return };
        match next {
            Some(next) => *reading = Reading { next: Some(next), ended: None },
            None => reading.ended = reading.ended.map(|(since, _)| (since, true)),
        }
    }

    fn unread(&self, partition: usize, next: Offset) -> Option<&super::stream::Entry> {
        let entries = &self.world.stream.partitions[partition];
        entries.get(entries.partition_point(|entry| entry.offset < next))
    }

    /// How long there is nothing to do.
    fn wait(&self) -> u64 {
        let now = self.world.elapsed();
        let of = |(partition, reading): (&usize, &Reading)| {
            let Some(next) = reading.next else { return self.claim_at };
            let comes = self.unread(*partition, next).map_or(u64::MAX, |entry| entry.at);
            match reading.ended {
                Some((since, false)) => comes.min(since + IDLE),
                _ => comes,
            }
        };
        let until = self.owned.iter().map(of).min().unwrap_or(u64::MAX);
        until.saturating_sub(now).clamp(1, MINUTE)
    }
}

/// Shares the partitions out: again and again, and when a daemon has died. An owner may not hear of it for a while.
pub async fn group(world: Arc<World>) {
    let random = &mut random(world.seed, "group");
    let mut next = world.troubles.rebalance_every;
    loop {
        world.sleep(random.random_range(2_000..15_000), GROUP).await;
        let now = world.elapsed();
        let members: BTreeMap<_, _> = {
            let members = &mut *world.members.lock().unwrap();
            members.retain(|_, orders| !orders.is_closed());
            members.clone()
        };
        let is_due = now > next && now < CALM;
        if is_due {
            next = now + random.random_range(1..2 * world.troubles.rebalance_every);
        }
        for partition in 0..PARTITIONS {
            let old = world.owners.lock().unwrap()[partition];
            let old = old.and_then(|member| Some((member, members.get(&member)?.clone())));
            if members.is_empty() || old.is_some() && !is_due {
                continue;
            }
            let (&new, orders) =
                members.iter().nth(random.random_range(0..members.len())).expect("a member");
            if old.as_ref().is_some_and(|(old, _)| *old == new) {
                continue;
            }
            world.owners.lock().unwrap()[partition] = Some(new);
            if let Some((member, old)) = old {
                let (done, revoked) = oneshot::channel();
                if random.random_bool(world.troubles.stale) {
                    let wait = random.random_range(5_000..3 * MINUTE);
                    let world = world.clone();
                    tokio::spawn(async move {
                        world.sleep(wait, STALE).await;
                        if world.owners.lock().unwrap()[partition] != Some(member) {
                            let _ = old.send(Order::Revoke(partition, done));
                        }
                    });
                } else {
                    let _ = old.send(Order::Revoke(partition, done));
                    let _ = tokio::time::timeout(Duration::from_secs(10), revoked).await;
                }
            }
            let _ = orders.send(Order::Assign(partition));
        }
    }
}

/// A daemon: its host, and which of its lives.
type Member = (usize, u32);
pub type Members = Mutex<BTreeMap<Member, mpsc::UnboundedSender<Order>>>;
/// The owner of each partition, as the group has it.
pub type Owners = Mutex<[Option<Member>; PARTITIONS]>;
