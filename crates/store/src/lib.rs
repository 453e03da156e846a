//! Stores scores, counts, checkpoints, incidents and the outbox.
//!
//! Postgres holds the state; everything in memory can be derived from it.
//!
//! **Invariant.** [`Store::commit`] writes a batch's scores, the counts of the rows that were new, its dead letters and
//! its checkpoints in one transaction, and refuses ([`StoreError::Fenced`]) a batch whose starting position is not the
//! stored one, so every record counts exactly once, even if a daemon dies at any point. It also refuses
//! ([`StoreError::Switched`]) tweets that a model of before has scored. [`Store::decide`] writes an incident and its
//! outbox rows in one transaction, and refuses a decision based on a detector state that another daemon has changed since.
//! Deliberately absent: decisions. `monitor_core::alerting` takes them.

mod batch;
mod bounded;
mod calls;
mod corrected;
mod current;
mod drawn;
mod drift;
mod error;
mod labels;
mod links;
mod memory;
mod outbox;
mod postgres;
mod progress;
mod retrainings;
mod sampling;
mod search;
mod switches;

pub use batch::{
    Advance, Batch, Committed, DeadLetter, ModelScore, NewTweets, Removal, ScoredTweet,
};
pub use bounded::Bounded;
pub use corrected::{OtherRates, corrected_share, labelled, rates, rates_of};
pub use current::{current_counts, with_own};
pub use drawn::{DrawnTweet, draw};
pub use drift::DriftDay;
pub use error::StoreError;
pub use labels::{Correction, Sample, SampleRequest, SampledTweet, StoredModel};
pub use links::{LinkOutcome, LinkUse, LinkedAct, UsedLink};
pub use memory::MemoryStore;
pub use monitor_core::alerting::{Delivery, Step, Suppressed};
pub use monitor_core::domain::{Silence, Switches};
pub use monitor_core::notification::{
    Also, CurvePoint, Driver, Drivers, Example, Missed, Notification,
};
pub use outbox::{Addressed, OutboxRow, OutboxState};
pub use postgres::{
    Keep, LetterFilter, PostgresStore, Pruned, Rows, StoredLetter, author_name,
    postgres_url_problem, schema_version,
};
pub use progress::{Claim, PartitionProgress, event_time, progress_of};
pub use retrainings::{RetrainOutcome, RetrainReason, Retraining};
pub use search::{FoundTweet, NotificationState, TweetQuery};
pub use switches::{Pairs, Rescored, StoredText};

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Notified, Offset,
    Resume, Severity, StartAt, TopicPartition, Watch,
};

/// The state of the detectors of one brand and watch between two evaluations.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorState {
    /// The last minute that was evaluated.
    pub evaluated: Minute,
    /// The detectors' own state, as JSON; the store does not read it.
    pub state: serde_json::Value,
    /// The open incident, if any.
    pub open: Option<Incident>,
    /// Without an open incident, the one that opened last: it may open again.
    pub last: Option<Incident>,
    /// The receivers that were notified of that incident.
    pub notified: Vec<Notified>,
}

/// The result of evaluating one brand and watch up to a minute.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The brand, or [`monitor_core::domain::STREAM`].
    pub brand: String,
    /// What was evaluated.
    pub watch: Watch,
    /// The last minute evaluated before; `None` if none was. Must equal the stored one.
    pub evaluated_before: Option<Minute>,
    /// The last minute evaluated now.
    pub evaluated: Minute,
    /// The detector's new state.
    pub state: serde_json::Value,
    /// The step of the incident at `evaluated`, if any.
    pub step: Option<Step>,
}

/// An entry in an incident's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `opened`, `updated`, `resolved`, `reopened` or `acknowledged`.
    pub kind: String,
    /// The minute evaluated; clock time for an acknowledgement.
    pub at: DateTime<Utc>,
    /// Its severity then.
    pub severity: Severity,
    /// The person who did it, if one did.
    pub who: Option<String>,
    /// The reason, or the person's note.
    pub note: String,
    /// The receivers that a notification was written for.
    pub notified: Vec<String>,
    /// The receivers that were not notified, with the reason for each. Empty for an
    /// acknowledgement, and for steps written before reasons were stored.
    pub suppressed: Vec<Suppressed>,
}

/// A stored tweet with its score.
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
    /// Whether the text was longer than the model reads.
    pub truncated: bool,
    /// Its author, if the stream gives one.
    pub author: Option<String>,
    /// Number of followers of its author.
    pub followers: Option<u64>,
    /// Number of retweets when it was read.
    pub retweets: Option<u64>,
    /// Id of the tweet that it retweets.
    pub retweet_of: Option<String>,
    /// `name@version` of the model that gave the score.
    pub model: String,
}

/// A dead notification: its delivery was given up.
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
    /// When its delivery was given up.
    pub ended_at: DateTime<Utc>,
}

/// Numbers for the page and for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Distinct tweets scored.
    pub scores: u64,
    /// Distinct tweets stored without a score, because no model knows their language.
    pub not_judged: u64,
    /// Records stored as dead letters.
    pub dead_letters: u64,
    /// Notifications not yet delivered.
    pub outbox_pending: u64,
    /// Dead notifications.
    pub outbox_dead: u64,
}

/// Stores everything that must outlive the process. One contract suite
/// (`tests/it/store_contract.rs`) runs on every implementation.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates missing checkpoints, decides where each partition resumes
    /// ([`monitor_core::domain::resume_position`]), and stores that as its checkpoint.
    /// Returns the positions in the order of `claims`.
    async fn claim(&self, claims: &[Claim], start_at: StartAt) -> Result<Vec<Resume>, StoreError>;

    /// Writes a batch in one transaction; see the module's invariant.
    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError>;

    /// Records whether a partition's reader is at its end; [`StoreError::Fenced`] if the checkpoint is not `position`.
    async fn mark_at_end(
        &self,
        partition: &TopicPartition,
        position: Offset,
        at_end: bool,
    ) -> Result<(), StoreError>;

    /// The progress of each partition of `topic`, by partition.
    async fn progress(&self, topic: &str) -> Result<Vec<PartitionProgress>, StoreError>;

    /// Counts of a brand's minutes from `from` up to and including `to`, ascending;
    /// minutes without tweets are left out. Echoes ([`ScoredTweet::voice`]) are in no counts.
    async fn minute_counts(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// Counts by hour of UTC, each with the first minute of its hour, from the hour of `from` up
    /// to and including that of `to`, ascending; of one brand, or summed over all. Hours without
    /// tweets are left out.
    async fn hour_counts(
        &self,
        brand: Option<&str>,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// The scored tweets of the minutes `from..=to` that are in no counts, because they repeat what their hour heard.
    async fn echoes(&self, brand: &str, from: Minute, to: Minute) -> Result<u64, StoreError>;

    /// A brand's tweets of the minutes `from..=to` that have no score, by language, most tweets first.
    async fn not_judged(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Language, u64)>, StoreError>;

    /// The first minute in which a brand has a scored tweet.
    async fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// The last minute in which a brand has a scored tweet.
    async fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError>;

    /// The last minute in which each brand has a tweet, with or without a score; brands without one are left out.
    async fn newest(&self, brands: &[String]) -> Result<Vec<(String, Minute)>, StoreError>;

    /// The detector state of a brand and watch; `None` before its first evaluation.
    async fn detector_state(
        &self,
        brand: &str,
        watch: Watch,
    ) -> Result<Option<DetectorState>, StoreError>;

    /// The incidents of a brand and watch that were open at or after `from`, ascending.
    async fn incidents_since(
        &self,
        brand: &str,
        watch: Watch,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError>;

    /// The latest incidents of all brands, at most `limit`, and all that are open, newest first.
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError>;

    /// One incident; `None` if it does not exist.
    async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError>;

    /// An incident's history, in order.
    async fn events(&self, id: IncidentId) -> Result<Vec<Event>, StoreError>;

    /// Records that somebody has acknowledged an incident, and the event, in one transaction; a
    /// later acknowledgement replaces it. Returns whether the incident exists.
    async fn acknowledge(
        &self,
        id: IncidentId,
        acknowledgement: &Acknowledgement,
    ) -> Result<bool, StoreError>;

    /// The silences that have not ended at `now`, by number.
    async fn silences(&self, now: DateTime<Utc>) -> Result<Vec<Silence>, StoreError>;

    /// Stores a silence and returns its number; the given `id` is ignored.
    async fn silence(&self, silence: &Silence) -> Result<i64, StoreError>;

    /// Ends a silence at `now`; a silence that has not begun is cancelled. Returns whether a
    /// silence of this number existed and had not ended.
    async fn end_silence(&self, id: i64, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// A brand's scored tweets of `from..=to`, at most `limit`, ascending by time; none of authors that are left out.
    /// If there are more, a sample that is the same at every call and does not depend on time or score. If there are
    /// more than ten times as many, and than 5,000, it is drawn from whole minutes, which a hash chooses too, so that
    /// the call takes no longer.
    async fn window_tweets(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<StoredTweet>, StoreError>;

    /// At most `limit` tweets of these minutes about `brand`, or about any brand, with and without a
    /// score: a random sample in random order, the same at every call. See [`draw`].
    async fn random_tweets(
        &self,
        brand: Option<&str>,
        minutes: &[Minute],
        limit: u32,
    ) -> Result<Vec<DrawnTweet>, StoreError>;

    /// One scored tweet by its id; `None` if it is not stored, or has no score.
    async fn tweet(&self, id: &str) -> Result<Option<StoredTweet>, StoreError>;

    /// The scored tweets that a query asks for, newest first, then by id, descending.
    async fn search_tweets(&self, query: &TweetQuery) -> Result<Vec<FoundTweet>, StoreError>;

    /// Records a model that scores from now on, or what has changed about it.
    async fn record_model(&self, model: &StoredModel) -> Result<(), StoreError>;

    /// The models that have been recorded, by name.
    async fn models(&self) -> Result<Vec<StoredModel>, StoreError>;

    /// Draws a random sample of tweets to label, and stores which were drawn.
    async fn draw_sample(&self, request: &SampleRequest) -> Result<Sample, StoreError>;

    /// All samples, by number.
    async fn samples(&self) -> Result<Vec<Sample>, StoreError>;

    /// The tweets of a sample that are still stored, by place; none if there is no such sample.
    async fn sampled_tweets(&self, sample: i64) -> Result<Vec<SampledTweet>, StoreError>;

    /// Stores people's labels of tweets of a sample, each with its place; a later label replaces
    /// an earlier one. Returns how many labels are new or different.
    async fn record_labels(
        &self,
        sample: i64,
        labels: &[(u32, Label)],
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Stores what a person says of a tweet, in place of what was said before. Returns whether the
    /// tweet is stored.
    async fn correct(&self, correction: &Correction) -> Result<bool, StoreError>;

    /// All corrections, oldest first.
    async fn corrections(&self) -> Result<Vec<Correction>, StoreError>;

    /// Carries out the act of a link and records that it was used, in one transaction, unless the link was used
    /// before. What is not [`LinkOutcome::Done`] changes nothing, and does not use the link up.
    async fn use_link(&self, using: &LinkUse) -> Result<LinkOutcome, StoreError>;

    /// Who has used the link of this name ([`LinkUse::link`]), if somebody has.
    async fn used_link(&self, link: &str) -> Result<Option<UsedLink>, StoreError>;

    /// Leader election: whether the holder of this store is the leader. Takes the lead if it
    /// is free, and keeps it until the connection ends.
    async fn lead(&self) -> Result<bool, StoreError>;

    /// Writes a decision, the incident it opens, changes or resolves, its event and its outbox
    /// rows in one transaction. `reopened` is a step of the incident that opened last, and
    /// removes its acknowledgement. Returns the
    /// incident's number if there was a step.
    async fn decide(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError>;

    /// The incidents that were over when they were found ([`Incident::missed`]) and that nobody has been told of, in the order
    /// in which they opened, at most `limit`.
    async fn missed(&self, limit: u32) -> Result<Vec<Incident>, StoreError>;

    /// Puts the notifications into the outbox that tell of these missed incidents, and marks them as told, in one
    /// transaction. Returns `false`, and changes nothing, if one of them has been told or has opened again meanwhile.
    async fn tell_missed(
        &self,
        incidents: &[IncidentId],
        notifications: &[Addressed],
    ) -> Result<bool, StoreError>;

    /// What a host calls `now`, by Postgres' clock: those of hosts differ, and may be wrong.
    async fn time(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError>;

    /// Leases up to `limit` due outbox rows for the time `lease`, so that no other sender takes them, due by
    /// Postgres' clock ([`Store::time`]). Leaves out rows of the receivers in `resting`, the rows with the ids
    /// `sending`, whose outcome the caller has still to record, and each `resolved` until all earlier rows of its
    /// thread are sent or dead. Other rows whose lease has expired are due again. Counts as an attempt.
    async fn outbox_lease(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
        resting: &[String],
        sending: &[i64],
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Records how an attempt on a leased row ended; `attempt` is [`OutboxRow::attempts`]. Changes
    /// nothing if another sender has leased the row since.
    async fn outbox_record(
        &self,
        row: i64,
        attempt: u32,
        now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError>;

    /// The example tweets of an incident's first notification; empty if nobody was notified of it
    /// in its own row.
    async fn examples(&self, id: IncidentId) -> Result<Vec<Example>, StoreError>;

    /// What became of the notifications of an incident, oldest first; those in which it is only
    /// mentioned are left out.
    async fn notifications_of(&self, id: IncidentId) -> Result<Vec<NotificationState>, StoreError>;

    /// The dead notifications, oldest first.
    async fn dead_notifications(&self, limit: u32) -> Result<Vec<DeadNotification>, StoreError>;

    /// Requeues dead notifications under their old keys: one, or all of a receiver, or (with
    /// neither) all. Returns how many.
    async fn requeue(&self, row: Option<i64>, receiver: Option<&str>) -> Result<u64, StoreError>;

    /// Which model scores the stream, and since when.
    async fn switches(&self) -> Result<Switches, StoreError>;

    /// Records the model of the first minute, unless there are switches already; returns them.
    async fn begin_with(&self, model: &str) -> Result<Switches, StoreError>;

    /// Switches the stream to `model` ([`Switches::fence`] says from which minute on) and returns
    /// all switches. The model has scored again what is stored before `gap_from`. No batch is
    /// committed meanwhile.
    async fn switch_to(&self, model: &str, gap_from: Minute) -> Result<Switches, StoreError>;

    /// As [`Store::minute_counts`], as if `model` had scored all along: of its own scores, of those
    /// tweets of other models that it has scored again, and of the models that no switch names,
    /// which are those of single languages.
    async fn model_counts(
        &self,
        model: &str,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// As [`Store::hour_counts`], of one model and brand.
    async fn model_hour_counts(
        &self,
        model: &str,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError>;

    /// The minutes of `from..=to` with tweets about brands that another model of the switches has
    /// scored and `model` has not scored again, newest first, and how many. A tweet about two
    /// brands counts twice.
    async fn unscored(
        &self,
        model: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, u64)>, StoreError>;

    /// The tweets about brands of these minutes that other models of the switches have scored, in order of time
    /// and id, at most `limit`; those behind `after`, the last one of the call before.
    async fn texts_to_rescore(
        &self,
        model: &str,
        minutes: &[Minute],
        after: Option<&StoredText>,
        limit: u32,
    ) -> Result<Vec<StoredText>, StoreError>;

    /// Stores what `model` says of whole minutes, in place of what it said of them before.
    async fn put_rescored(&self, model: &str, rows: &[Rescored]) -> Result<(), StoreError>;

    /// By brand, the tweets from `from` on that `instead_of` has scored and `model` has scored
    /// again.
    async fn pairs(
        &self,
        model: &str,
        instead_of: &str,
        from: Minute,
    ) -> Result<Vec<(String, Pairs)>, StoreError>;

    /// The latest retrainings, newest first.
    async fn retrainings(&self, limit: u32) -> Result<Vec<Retraining>, StoreError>;

    /// Records that a retraining begins; `None` if one for this reason and time has begun before.
    async fn begin_retraining(
        &self,
        reason: RetrainReason,
        due_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<Retraining>, StoreError>;

    /// Records the attempts, the model, the note and the end of a retraining.
    async fn put_retraining(&self, retraining: &Retraining) -> Result<(), StoreError>;

    /// Stores what the comparison of a day found, in place of an earlier one of that day.
    async fn record_drift(&self, drift: &DriftDay) -> Result<(), StoreError>;

    /// What the comparison of the newest day found.
    async fn latest_drift(&self) -> Result<Option<DriftDay>, StoreError>;

    /// Numbers for the page and for metrics.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Answers if the store can be reached.
    async fn ping(&self) -> Result<(), StoreError>;
}
