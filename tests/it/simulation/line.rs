//! A daemon's connection to the store: slow, and it fails before a call, after it, or leaves the daemon waiting; the
//! daemon may die before or after any call, and a write may arrive when the daemon has given it up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Resume,
    StartAt, TopicPartition, Watch,
};
use monitor_store::{
    Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example, OutboxRow,
    OutboxState, PartitionProgress, Silence, Store, StoreError, StoredTweet, Totals,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::stream::{CALM, MINUTE, at, random};
use super::{LATE, World};

/// How long a daemon waits for an answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(35);

/// The parts of a daemon that call the store, each with times of its own.
#[derive(Clone, Copy)]
pub enum Part {
    Pipeline,
    Source,
    Evaluator,
    Dispatcher,
}
const PARTS: u64 = 4;

pub struct Line {
    world: Arc<World>,
    /// Host and life of the daemon.
    pub who: String,
    slot: u64,
    dead: CancellationToken,
    random: Mutex<ChaCha8Rng>,
}

/// What goes wrong with a call.
enum Fault {
    No,
    /// It fails, before or after it took effect.
    Fails {
        after: bool,
    },
    /// It never answers, and took effect or not.
    Hangs {
        after: bool,
    },
    /// The daemon dies.
    Dies {
        after: bool,
    },
    /// A write arrives later, maybe when the daemon has given it up.
    Late,
}

impl Line {
    pub fn new(
        world: &Arc<World>,
        host: usize,
        life: u32,
        part: Part,
        dead: &CancellationToken,
    ) -> Self {
        let who = format!("{host}.{life}");
        Self {
            world: world.clone(),
            slot: host as u64 * PARTS + part as u64,
            dead: dead.clone(),
            random: Mutex::new(random(world.seed, &format!("line {who} {}", part as u64))),
            who,
        }
    }

    fn now(&self) -> (u64, &str) {
        (self.world.elapsed(), &self.who)
    }

    fn draw(&self, call: &str) -> (u64, Fault) {
        let random = &mut *self.random.lock().expect("no holder of this lock panics");
        let mut wait = random.random_range(1..40);
        if random.random_bool(0.002) {
            wait += random.random_range(0..5_000);
        }
        let (fails, dies) = (random.random::<f64>(), random.random::<f64>());
        let (after, kind) = (random.random_bool(0.5), random.random_range(0..10));
        if self.world.elapsed() >= CALM {
            return (wait, Fault::No);
        }
        let death = match call {
            "step" | "tell_missed" => 0.2,
            "outbox_record" => 0.05,
            "claim" => 0.01,
            "commit" | "decide" | "mark_at_end" => 0.002,
            _ => 0.000_05,
        };
        let fault = if dies < death * self.world.troubles.deaths {
            Fault::Dies { after }
        } else if fails < self.world.troubles.fails {
            match kind {
                0 => Fault::Hangs { after },
                1..4 => Fault::Late,
                _ => Fault::Fails { after },
            }
        } else {
            Fault::No
        };
        (wait, fault)
    }

    /// Makes a call, which `late` can make without the daemon.
    async fn call<T: Send>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
        late: Option<BoxFuture<'static, ()>>,
    ) -> Result<T, StoreError> {
        let (wait, fault) = self.draw(call);
        self.world.sleep(wait, self.slot).await;
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        let failed = || Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        let now = self.world.elapsed();
        if self.world.troubles.away.iter().any(|away| away.contains(&now)) {
            return failed();
        }
        if let Fault::Fails { after: true }
        | Fault::Hangs { after: true }
        | Fault::Dies { after: true }
        | Fault::No = fault
        {
            let answer = work.await;
            if matches!(fault, Fault::No) || answer.is_err() {
                return answer;
            }
        }
        let what = match fault {
            Fault::No => "nothing",
            Fault::Fails { after: false } => "a call failed before its effect",
            Fault::Fails { after: true } => "a call failed after its effect",
            Fault::Hangs { .. } => "a call had no answer",
            Fault::Dies { after: false } => "a daemon died before a call",
            Fault::Dies { after: true } => "a daemon died after a call",
            Fault::Late => "a call came late",
        };
        self.world.ledger.seen().count(what);
        match fault {
            Fault::Fails { .. } | Fault::No => return failed(),
            Fault::Hangs { .. } => {}
            Fault::Dies { .. } => self.dead.cancel(),
            Fault::Late => {
                if let Some(late) = late {
                    tokio::spawn(late);
                } else {
                    return failed();
                }
            }
        }
        std::future::pending().await
    }

    /// How long a late call is on its way.
    async fn until_late(world: &World, slot: u64) {
        world.sleep(world.elapsed() * 7 % MINUTE, LATE + slot).await;
    }

    async fn commit_noted(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let (world, slot, owned) = (self.world.clone(), self.slot, batch.clone());
        let late = async move {
            Self::until_late(&world, slot).await;
            let _ = world.ledger.commit((world.elapsed(), "late"), &owned);
        };
        let work = async { self.world.ledger.commit(self.now(), batch) };
        self.call("commit", work, Some(Box::pin(late))).await
    }

    async fn decide_noted(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let (world, slot, owned) = (self.world.clone(), self.slot, decision.clone());
        let late = async move {
            Self::until_late(&world, slot).await;
            let _ = world.ledger.decide((world.elapsed(), "late"), &owned);
        };
        let work = async { self.world.ledger.decide(self.now(), decision) };
        let call = if decision.step.is_some() { "step" } else { "decide" };
        self.call(call, work, Some(Box::pin(late))).await
    }

    async fn record_noted(
        &self,
        row: i64,
        attempt: u32,
        host_now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError> {
        let (world, slot, owned) = (self.world.clone(), self.slot, state.clone());
        let late = async move {
            Self::until_late(&world, slot).await;
            let now = (world.elapsed(), "late");
            let _ = world.ledger.record(now, host_now, row, attempt, &owned);
        };
        let work = async { self.world.ledger.record(self.now(), host_now, row, attempt, state) };
        self.call("outbox_record", work, Some(Box::pin(late))).await
    }

    async fn lead_noted(&self) -> Result<bool, StoreError> {
        let work = async {
            let (now, who) = self.now();
            let random = &mut *self.random.lock().expect("no holder of this lock panics");
            if now < CALM && random.random_bool(self.world.troubles.fails / 5.0) {
                self.world.ledger.lose_lead(None);
            }
            Ok(self.world.ledger.lead(who))
        };
        self.call("lead", work, None).await
    }
}

/// Makes a call on the store, or on the ledger what it notes.
macro_rules! forward {
    ($line:ident, commit($batch:ident)) => {
        $line.commit_noted($batch)
    };
    ($line:ident, decide($decision:ident)) => {
        $line.decide_noted($decision)
    };
    ($line:ident, lead()) => {
        $line.lead_noted()
    };
    ($line:ident, claim($($argument:ident),*)) => {
        $line.call("claim", async { $line.world.ledger.claim($line.now(), $($argument),*) }, None)
    };
    ($line:ident, time($now:ident)) => {
        $line.call("time", async {
            let _ = $now;
            Ok(at($line.world.elapsed()))
        }, None)
    };
    ($line:ident, outbox_lease($now:ident, $($argument:ident),*)) => {
        $line.call("outbox_lease", async {
            let _ = $now;
            $line.world.ledger.lease($line.now(), $($argument),*)
        }, None)
    };
    ($line:ident, outbox_record($($argument:ident),*)) => {
        $line.record_noted($($argument),*)
    };
    ($line:ident, $call:ident($($argument:ident),*)) => {
        $line.call(stringify!($call), $line.world.ledger.store.$call($($argument),*), None)
    };
}

macro_rules! line {
    ($($group:ident {
        $($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for Line {
            $($(async fn $call(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                forward!(self, $call($($argument),*)).await
            })*)*
        }
    };
}

monitor_store::each_store_call!(line);
