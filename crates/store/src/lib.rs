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
mod calls;
mod memory;
mod outbox;
mod postgres;

pub use bounded::Bounded;
pub use memory::MemoryStore;
pub use monitor_core::alerting::{Delivery, Step, Suppressed};
pub use monitor_core::domain::Silence;
pub use monitor_core::notification::{Also, CurvePoint, Driver, Drivers, Example, Notification};
pub use outbox::{OutboxRow, OutboxState};
pub use postgres::{PostgresStore, is_postgres_url};

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use monitor_core::domain::{
    Acknowledgement, Cause, Counts, Incident, IncidentId, Minute, Notified, Offset, Resume, Score,
    Severity, StartAt, TopicPartition, Tweet, resume_position,
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
    /// Whether the text had more than the model reads.
    pub truncated: bool,
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
    /// When the newest record of the batch was written to Kafka, where Kafka says.
    pub record_time_max: Option<DateTime<Utc>>,
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
    /// When the newest record read was written to Kafka.
    pub record_time_max: Option<DateTime<Utc>>,
    /// Whether its reader has stood at the end for a while, so that it does not hold
    /// event time back.
    pub at_end: bool,
}

/// What is remembered of one brand and cause between two looks of the detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorState {
    /// The last minute that was evaluated.
    pub evaluated: Minute,
    /// What the detector remembers, as JSON; the store does not look into it.
    pub state: serde_json::Value,
    /// The incident that is open, if one is.
    pub open: Option<Incident>,
    /// The receivers that have been told of it.
    pub notified: Vec<Notified>,
}

/// The outcome of judging one brand for one cause up to a minute.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The brand, or [`monitor_core::domain::STREAM`].
    pub brand: String,
    /// The cause.
    pub cause: Cause,
    /// The minute evaluated up to before; `None` for the first time. Must equal what is stored.
    pub evaluated_before: Option<Minute>,
    /// The minute evaluated up to now.
    pub evaluated: Minute,
    /// What the detector remembers from now on.
    pub state: serde_json::Value,
    /// The step taken at `evaluated`, if one was.
    pub step: Option<Step>,
}

/// An entry in an incident's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `opened`, `updated`, `resolved` or `acknowledged`.
    pub kind: String,
    /// The minute evaluated; by the clock for what people do.
    pub at: DateTime<Utc>,
    /// How bad it was then.
    pub severity: Severity,
    /// Who did it, where a person did.
    pub who: Option<String>,
    /// The reason, or what the person had to say.
    pub note: String,
    /// The receivers that a notification was written for.
    pub notified: Vec<String>,
    /// The receivers that were not notified, with the reason for each. Empty for what people do,
    /// and for steps written before reasons were stored.
    pub suppressed: Vec<Suppressed>,
}

/// A scored tweet as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTweet {
    /// Its id.
    pub tweet_id: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Its text.
    pub text: String,
    /// Probability that it is negative.
    pub negative: f32,
    /// Whether it counts as negative.
    pub is_negative: bool,
    /// Whether the text had more than the model reads.
    pub truncated: bool,
    /// Who wrote it, where the stream tells.
    pub author: Option<String>,
    /// How many follow its author.
    pub followers: Option<u64>,
    /// How often it was repeated when it was read.
    pub retweets: Option<u64>,
    /// Id of the tweet that it repeats.
    pub retweet_of: Option<String>,
}

/// A notification that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadNotification {
    /// Its number in the outbox.
    pub id: i64,
    /// Its idempotency key.
    pub key: String,
    /// The receiver.
    pub receiver: String,
    /// Attempts made.
    pub attempts: u32,
    /// The last error.
    pub error: String,
    /// When it was given up.
    pub ended_at: DateTime<Utc>,
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
    /// Another daemon has evaluated this brand in the meantime; look again.
    #[error("brand {brand:?} has been evaluated by another daemon in the meantime")]
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
    /// ([`monitor_core::domain::resume_position`]), and stores that as its checkpoint.
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

    /// Counts by full hour of UTC, each named by its first minute, from the hour of `from` up
    /// to and including that of `to`, ascending; of one brand, or of all summed. Hours without
    /// tweets are left out.
    async fn hour_counts(
        &self,
        brand: Option<&str>,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// The first minute in which a brand has a tweet.
    async fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// The last minute in which a brand has a tweet.
    async fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// What is remembered of a brand and cause; `None` before its first evaluation.
    async fn detector_state(
        &self,
        brand: &str,
        cause: Cause,
    ) -> Result<Option<DetectorState>, StoreError>;

    /// The incidents of a brand and cause that lie, in whole or part, at or after `from`,
    /// ascending.
    async fn incidents_since(
        &self,
        brand: &str,
        cause: Cause,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError>;

    /// The latest incidents of all brands and causes, newest first.
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError>;

    /// One incident; `None` if there is none of that name.
    async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError>;

    /// An incident's history, in order.
    async fn events(&self, id: IncidentId) -> Result<Vec<Event>, StoreError>;

    /// Notes that somebody has taken an incident on, with its event in one transaction; the
    /// latest word stands. Answers whether there is such an incident.
    async fn acknowledge(
        &self,
        id: IncidentId,
        acknowledgement: &Acknowledgement,
    ) -> Result<bool, StoreError>;

    /// The silences that have not ended at `now`, by number.
    async fn silences(&self, now: DateTime<Utc>) -> Result<Vec<Silence>, StoreError>;

    /// Keeps a silence; its `id` is ignored. Answers with the number given to it.
    async fn silence(&self, silence: &Silence) -> Result<i64, StoreError>;

    /// Ends a silence at `now`; one that has not begun never will. Answers whether there was
    /// one of this number that had not ended.
    async fn end_silence(&self, id: i64, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// A brand's tweets of `from..=to`, at most `limit`: where there are more, a sample that
    /// is the same at every call and does not depend on time or score. Ascending by time.
    async fn window_tweets(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<StoredTweet>, StoreError>;

    /// Whether this store's holder is the one that decides: takes the lead if nobody has it,
    /// and keeps it until its connection ends.
    async fn lead(&self) -> Result<bool, StoreError>;

    /// Writes a decision, the incident it opens, changes or resolves, its event and its outbox
    /// rows in one transaction; answers with the incident's name where there was a step.
    async fn decide(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError>;

    /// Takes up to `limit` due outbox rows for `lease`, so that no other sender takes them
    /// meanwhile; none for the receivers in `resting`, and no `resolved` before all that
    /// precedes it in its thread has been sent or given up. Rows whose lease ran out are due again.
    /// Counts as an attempt.
    async fn outbox_lease(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
        resting: &[String],
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Records how an attempt on a leased row ended.
    async fn outbox_record(
        &self,
        row: i64,
        now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError>;

    /// The notifications that were given up, oldest first.
    async fn dead_notifications(&self, limit: u32) -> Result<Vec<DeadNotification>, StoreError>;

    /// Has notifications that were given up sent again, under their old keys: one, or all of a
    /// receiver, or (with neither) all. Answers how many.
    async fn requeue(&self, row: Option<i64>, receiver: Option<&str>) -> Result<u64, StoreError>;

    /// Numbers for the page and for metrics.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Answers if the store can be reached.
    async fn ping(&self) -> Result<(), StoreError>;
}
