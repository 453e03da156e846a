//! Where scores, counts, checkpoints, incidents and the outbox live.
//!
//! Postgres is the ground state; whatever is in memory can be derived from it.
//!
//! **Invariant.** [`Store::commit`] writes a batch's scores, the counts of the rows that
//! were new, its dead letters and its checkpoints in one transaction, and refuses
//! ([`StoreError::Fenced`]) a batch whose starting position is not the stored one, so
//! every record counts exactly once whoever dies when. [`Store::decide`] writes an
//! incident and its outbox rows in one transaction, and refuses a decision taken on a
//! state that another daemon has moved on.
//! Deliberately absent: decisions. The store does as it is told, or says why not.

mod bounded;
mod memory;
mod outbox;
mod postgres;

pub use bounded::Bounded;
pub use memory::MemoryStore;
pub use outbox::{CurvePoint, Example, Notification, OutboxRow, OutboxState, Tally};
pub use postgres::PostgresStore;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::{
    Counts, Evidence, Incident, IncidentId, Minute, Offset, Resume, Score, StartAt, TopicPartition,
    Transition, Tweet, resume_position,
};

/// A partition that this daemon has just been given, and what the broker has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: TopicPartition,
    /// The checkpoint as it stood before the broker was asked for the bounds.
    pub seen: Option<Offset>,
    /// Oldest offset the broker has.
    pub low: Offset,
    /// Offset the next record will get.
    pub high: Offset,
}

impl Claim {
    /// Where to read on, given the checkpoint as it stands now. One that has moved since
    /// the bounds were asked for is newer than they are, so it cannot lie beyond the end.
    fn resume(&self, stored: Option<Offset>, start_at: StartAt) -> Resume {
        let high = match stored {
            Some(stored) if self.seen != Some(stored) => self.high.max(stored),
            _ => self.high,
        };
        resume_position(stored, self.low, high, start_at)
    }
}

/// A scored tweet on its way to its row.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTweet {
    /// The tweet.
    pub tweet: Tweet,
    /// The brands it is about, sorted, without repeats; may be none.
    pub brands: Vec<String>,
    /// The verdict.
    pub score: Score,
    /// `name@version` of the model that gave it.
    pub model: String,
}

/// A record that is no tweet, kept with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it came from.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// What is wrong with it, for people.
    pub reason: String,
    /// The beginning of its payload.
    pub payload: Vec<u8>,
    /// Length of the whole payload, in bytes.
    pub payload_bytes: u64,
}

/// How far one partition moves in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: TopicPartition,
    /// The position held before the batch; must equal the stored checkpoint.
    pub from: Offset,
    /// The position after it.
    pub to: Offset,
    /// Newest event time seen in the batch, if it held a tweet.
    pub event_time_max: Option<DateTime<Utc>>,
}

/// What one transaction writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Scored tweets, in any order; a tweet id may repeat.
    pub scores: Vec<ScoredTweet>,
    /// Records that are no tweets.
    pub dead_letters: Vec<DeadLetter>,
    /// One entry a partition.
    pub advances: Vec<Advance>,
}

/// What one transaction wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Scores whose tweet had not been seen.
    pub new: u64,
    /// Scores whose tweet had; they change nothing.
    pub duplicate: u64,
}

/// How far event time has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// The checkpoint.
    pub position: Offset,
    /// Newest event time, if any tweet was seen.
    pub event_time_max: Option<DateTime<Utc>>,
    /// Whether its reader has stood at the end for a while, so that it does not hold
    /// event time back.
    pub at_end: bool,
}

/// What is remembered of one brand between two looks of the detector.
#[derive(Debug, Clone, PartialEq)]
pub struct BrandState {
    /// The last minute that was judged.
    pub judged: Minute,
    /// The incident that is open, if one is.
    pub open: Option<Incident>,
    /// Since when the open incident's share has been calm.
    pub calm_since: Option<Minute>,
}

/// An incident that opens or is resolved, with what people are told.
#[derive(Debug, Clone)]
pub struct Step {
    /// What happened.
    pub transition: Transition,
    /// In which minute.
    pub minute: Minute,
    /// On what grounds.
    pub evidence: Evidence,
    /// What each receiver is told; `incident_id` is filled in by the store.
    pub notification: Notification,
}

/// The outcome of judging one brand up to a minute.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The brand.
    pub brand: String,
    /// The minute judged up to before; `None` for the first time. Must equal what is stored.
    pub judged_before: Option<Minute>,
    /// The minute judged up to now.
    pub judged: Minute,
    /// Since when the open incident's share has been calm.
    pub calm_since: Option<Minute>,
    /// The step taken at `judged`, if one was.
    pub step: Option<Step>,
    /// Names of the receivers to tell; one outbox row each.
    pub receivers: Vec<String>,
}

/// Numbers for the page and for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Distinct tweets scored.
    pub scores: u64,
    /// Records kept as dead letters.
    pub dead_letters: u64,
    /// Notifications not yet delivered.
    pub outbox_pending: u64,
    /// Notifications given up.
    pub outbox_dead: u64,
}

/// What can go wrong between us and the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The partition's checkpoint is not where this reader thought: another reader has
    /// moved it. Drop what is in flight and claim the partition again.
    #[error("{partition}: this reader stood at {held:?}, the stored checkpoint is {stored:?}")]
    Fenced {
        /// The partition.
        partition: TopicPartition,
        /// Where the reader stood.
        held: Offset,
        /// Where the checkpoint stands; `None` where there is none.
        stored: Option<Offset>,
    },
    /// Another daemon has judged this brand in the meantime; look again.
    #[error("brand {brand:?} has been judged by another daemon in the meantime")]
    Overtaken {
        /// The brand.
        brand: String,
    },
    /// A first connection to Postgres could not be made.
    #[error("cannot connect to Postgres at {place} (store.url): {source}")]
    Connect {
        /// Host, port and database.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// Postgres cannot be reached or is not ready; the same call may succeed later.
    #[error("Postgres is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Postgres refused the statement; the same call would fail again.
    #[error("Postgres refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Connect { source, .. } => postgres::is_transient(source),
            Self::Migrate(sqlx::migrate::MigrateError::Execute(error)) => {
                postgres::is_transient(error)
            }
            _ => false,
        }
    }

    /// Whether what a row holds is at fault, so that the other rows may pass.
    pub fn is_about_the_rows(&self) -> bool {
        matches!(self, Self::Refused(error) if postgres::is_about_the_rows(error))
    }
}

/// Keeps everything that must outlive the process. One contract suite
/// (`tests/it/store_contract.rs`) runs on every implementation.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates missing checkpoints, decides where each partition resumes
    /// ([`crate::domain::resume_position`]), and stores that as its checkpoint.
    /// Answers in the order of `claims`.
    async fn claim(&self, claims: &[Claim], start_at: StartAt) -> Result<Vec<Resume>, StoreError>;

    /// Writes a batch in one transaction; see the module's invariant.
    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError>;

    /// Notes that the reader of a partition stands at its end, or no longer does, if its
    /// checkpoint still is `position`.
    async fn mark_at_end(
        &self,
        partition: &TopicPartition,
        position: Offset,
        at_end: bool,
    ) -> Result<(), StoreError>;

    /// How far each partition of `topic` has come, by partition.
    async fn progress(&self, topic: &str) -> Result<Vec<PartitionProgress>, StoreError>;

    /// Counts of a brand's minutes from `from` up to and including `to`, ascending;
    /// minutes without tweets are left out.
    async fn minute_counts(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// The first minute in which a brand has a tweet.
    async fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// The last minute in which a brand has a tweet.
    async fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// What is remembered of a brand; `None` before its first judgement.
    async fn brand_state(&self, brand: &str) -> Result<Option<BrandState>, StoreError>;

    /// The incidents of a brand that lie, in whole or part, at or after `from`, ascending.
    async fn incidents_since(&self, brand: &str, from: Minute)
    -> Result<Vec<Incident>, StoreError>;

    /// The latest incidents of all brands, newest first.
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError>;

    /// A brand's most negative tweets of a stretch of minutes, only such as were labelled
    /// negative, at most one a text, most negative first.
    async fn examples(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<Example>, StoreError>;

    /// Writes a decision, the incident it opens or resolves and its outbox rows in one
    /// transaction; answers with the incident's name where there was a step.
    async fn decide(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError>;

    /// Takes up to `limit` due outbox rows for `lease`, so that no other sender takes them
    /// meanwhile. Rows whose lease ran out are due again. Counts as an attempt.
    async fn outbox_lease(
        &self,
        now: DateTime<Utc>,
        lease: std::time::Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Records how an attempt on a leased row ended.
    async fn outbox_record(
        &self,
        row: i64,
        now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError>;

    /// Numbers for the page and for metrics.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Answers if the store can be reached.
    async fn ping(&self) -> Result<(), StoreError>;
}
