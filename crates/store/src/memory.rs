//! The in-memory store, for tests and experiments.
//!
//! **Invariant.** Every call behaves as the trait documents and as [`super::PostgresStore`]
//! does; `tests/it/store_contract.rs` checks both. Each call takes one lock once and checks
//! before it writes, so it is as atomic as a transaction.
//! Deliberately absent: durability, and any limit on memory.

mod drift;
mod incidents;
mod labels;
mod links;
mod missed;
mod outbox;
mod retrainings;
mod scores;
mod search;
mod switches;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Batch, Claim, Committed, Correction, DeadLetter, DeadNotification, Decision, DetectorState,
    DriftDay, Event, Example, OutboxRow, OutboxState, Pairs, PartitionProgress, Retraining,
    ScoredTweet, Silence, Store, StoreError, StoredModel, StoredTweet, Totals, UsedLink,
};
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Resume,
    StartAt, Switches, TopicPartition, Watch,
};

/// A [`Store`] in memory; its content is lost when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    away: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    checkpoints: BTreeMap<TopicPartition, scores::Checkpoint>,
    scores: HashMap<String, ScoredTweet>,
    /// What all commits together have written.
    committed: Committed,
    /// Stored tweets that the detector does not count.
    echoes: HashSet<String>,
    /// Tweets that were removed, and stay so.
    removed: HashSet<String>,
    /// By hour, key, and whether it was negative.
    voices: HashSet<(i64, u64, bool)>,
    /// By brand, minute and model, of removed tweets that still count.
    gone: BTreeMap<(String, Minute, String), u64>,
    /// By brand, minute and model, without echoes.
    minute_counts: BTreeMap<(String, Minute, String), Counts>,
    /// By model, brand, minute, and the model whose scores are stored.
    rescored: BTreeMap<(String, String, Minute, String), Pairs>,
    switches: Switches,
    not_judged_counts: BTreeMap<(String, Minute, Language), u64>,
    models: BTreeMap<String, StoredModel>,
    samples: Vec<labels::SampleRecord>,
    corrections: BTreeMap<String, Correction>,
    used_links: BTreeMap<String, UsedLink>,
    retrainings: Vec<Retraining>,
    drift_days: BTreeMap<DateTime<Utc>, DriftDay>,
    dead_letters: Vec<DeadLetter>,
    watches: BTreeMap<(String, Watch), (Minute, serde_json::Value)>,
    incidents: Vec<incidents::IncidentRecord>,
    silences: Vec<Silence>,
    outbox: Vec<outbox::Queued>,
    /// Authors that are left out, in lower case.
    ignored_authors: HashSet<String>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out the authors of these names, as [`PostgresStore::ignoring`](super::PostgresStore::ignoring) does.
    pub fn ignoring(mut self, names: &[String]) -> Self {
        let tables = self.tables.get_mut().expect("no holder of this lock panics");
        tables.ignored_authors = names.iter().map(|name| scores::plain_author(name)).collect();
        self
    }

    /// Makes every call fail as if Postgres were unavailable, or succeed again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// All scored tweets, by tweet id.
    pub fn scores(&self) -> HashMap<String, ScoredTweet> {
        self.tables.lock().expect("no holder of this lock panics").scores.clone()
    }

    /// Whether this stored tweet is in no count, because its voice was heard before or is left out.
    pub fn is_echo(&self, id: &str) -> bool {
        self.tables.lock().expect("no holder of this lock panics").echoes.contains(id)
    }

    fn lock(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        Ok(self.tables.lock().expect("no holder of this lock panics"))
    }
}

/// Forwards each method to the method of the same name of [`Tables`].
macro_rules! in_memory {
    ($($group:ident {
        $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for MemoryStore {
            $($(async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.lock()?.$method($($argument),*)
            })*)*
        }
    };
}
crate::each_store_call!(in_memory);

/// The error for a write that a constraint of Postgres would refuse.
fn refused(why: String) -> StoreError {
    StoreError::Refused(sqlx::Error::Protocol(why))
}
