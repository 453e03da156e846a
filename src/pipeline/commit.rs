//! The last stage of the pipeline: stores each batch in one transaction.
//!
//! **Invariant.** Only this stage knows the positions of the held partitions. A batch advances a
//! partition from its position to the one after the batch's last row, or not at all. If the store
//! has a different position for the partition, its rows are dropped and the partition is claimed
//! again. So it is if the stream's model was switched and the rows have the scores of the old one.
//! Batches that wait are stored together: transactions grow where the store is what limits, and no batch waits for another.
//! While nothing can be stored, `store` is not ready: a full disk still answers the health check's question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::counted::TweetCounts;
use super::error::PipelineError;
use super::flow::{Item, Letter, MODEL_FAILS, Outcome, Row, STORE_REFUSES};
use super::lineup::Lineup;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Offset, TopicPartition};
use monitor_ingest::{Control, Rejected};
use monitor_store::{Advance, Batch, Store, StoreError};
use monitor_telemetry::{self as telemetry, Readiness};

/// Wait after the first failed attempt; doubles with each further one.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);

/// Batches that one transaction stores, at most.
pub(super) const BATCHES_TOGETHER_MAX: usize = 4;

/// Wait before the end of a partition is reported to the store again.
const AT_END_RETRY_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    store: Arc<dyn Store>,
    control: Arc<dyn Control>,
    retry_wait_max: Duration,
    /// Position of each held partition.
    held: BTreeMap<TopicPartition, Offset>,
    /// Partitions whose end has not yet been reported to the store.
    ended: BTreeSet<TopicPartition>,
    /// Gets the switches that refuse a batch.
    lineup: watch::Sender<Lineup>,
    readiness: Arc<Readiness>,
    /// Whether the last transaction could not be written.
    failing: bool,
    tweets: TweetCounts,
    clock: SystemClock,
}

impl Committer {
    pub fn new(
        store: Arc<dyn Store>,
        control: Arc<dyn Control>,
        retry_wait_max: Duration,
        lineup: watch::Sender<Lineup>,
        readiness: Arc<Readiness>,
    ) -> Self {
        // An alert rule needs the series to exist from the start.
        for kind in Rejected::KINDS.iter().chain(&[MODEL_FAILS, STORE_REFUSES]) {
            counter!(telemetry::DEAD_LETTERS, "reason" => *kind).absolute(0);
        }
        Self {
            store,
            control,
            retry_wait_max,
            held: BTreeMap::new(),
            ended: BTreeSet::new(),
            lineup,
            readiness,
            failing: false,
            tweets: TweetCounts::default(),
            clock: SystemClock::new(),
        }
    }

    pub async fn run(
        mut self,
        mut scored: mpsc::Receiver<Item<Vec<Row>>>,
    ) -> Result<(), PipelineError> {
        // A partition change that came behind the batches of a transaction.
        let mut next = None;
        // Whether the store was busy until now. Only then batches are stored together: what comes while nothing is
        // stored may or may not be there yet, and a simulation must do the same each time.
        let mut was_busy = false;
        loop {
            let item = match next.take().or_else(|| scored.try_recv().ok()) {
                Some(item) => item,
                None => {
                    was_busy = false;
                    let Some(item) = self.wait(&mut scored).await else { return Ok(()) };
                    item
                }
            };
            match item {
                Item::Batch(mut rows, batch) => {
                    let mut spans = vec![commit_span(&batch, rows.len())];
                    while was_busy && next.is_none() && spans.len() < BATCHES_TOGETHER_MAX {
                        match scored.try_recv() {
                            Ok(Item::Batch(more, batch)) => {
                                spans.push(commit_span(&batch, more.len()));
                                rows.extend(more);
                            }
                            Ok(change) => next = Some(change),
                            Err(_) => break,
                        }
                    }
                    // What the transaction wrote is in the span of its first batch.
                    was_busy = self.commit(rows).instrument(spans[0].clone()).await?;
                }
                Item::Assigned(positions) => self.held.extend(positions),
                Item::Revoked { partitions, done } => {
                    for partition in &partitions {
                        self.held.remove(partition);
                        self.ended.remove(partition);
                    }
                    // An error means that the source no longer waits.
                    let _ = done.send(());
                }
                Item::AtEnd(partition) => {
                    self.ended.insert(partition);
                    self.report_ends().await;
                }
            }
        }
    }

    /// The next item, once it comes; reports meanwhile which partitions are read to their end.
    async fn wait(
        &mut self,
        scored: &mut mpsc::Receiver<Item<Vec<Row>>>,
    ) -> Option<Item<Vec<Row>>> {
        while !self.ended.is_empty() {
            match tokio::time::timeout(AT_END_RETRY_WAIT, scored.recv()).await {
                Ok(item) => return item,
                Err(_) => self.report_ends().await,
            }
        }
        scored.recv().await
    }

    /// Reports to the store which partitions are read to their end. A failed report is repeated,
    /// because a partition that seems unread delays event time.
    async fn report_ends(&mut self) {
        for partition in std::mem::take(&mut self.ended) {
            let Some(&position) = self.held.get(&partition) else { continue };
            match self.store.mark_at_end(&partition, position, true).await {
                Ok(()) => {}
                Err(StoreError::Fenced { partition, held, stored }) => {
                    self.fenced(&partition, held, stored);
                }
                Err(error) => {
                    tracing::debug!(%error, %partition, "cannot record that the partition is read to its end");
                    self.ended.insert(partition);
                }
            }
        }
    }

    /// Claims a partition again whose stored position is not the one held.
    fn fenced(&mut self, partition: &TopicPartition, held: Offset, stored: Option<Offset>) {
        tracing::warn!(
            %partition, %held, ?stored,
            "the stored checkpoint is another: another reader moved it, or Postgres has lost its last transactions; claiming the partition again"
        );
        counter!(telemetry::FENCED).increment(1);
        self.held.remove(partition);
        self.control.reclaim(partition);
    }

    /// Stores rows; returns whether there was any to store. If Postgres rejects them, stores each half separately, so
    /// that an invalid row affects no other row. So it does if Postgres cancels the statement for taking too long.
    async fn commit(&mut self, rows: Vec<Row>) -> Result<bool, PipelineError> {
        let mut parts = vec![rows];
        let mut was_any = false;
        while let Some(mut rows) = parts.pop() {
            match self.commit_part(&rows).await {
                Ok(any) => was_any |= any,
                Err(error) if !error.is_about_the_rows() && !error.is_timeout() => {
                    return Err(PipelineError::Refused(error));
                }
                Err(error) if rows.len() > 1 => {
                    let what = if error.is_timeout() {
                        "storing a batch took longer than store.statement_timeout_ms"
                    } else {
                        "Postgres rejected a batch"
                    };
                    tracing::warn!(%error, rows = rows.len(), "{what}; trying its halves");
                    let second = rows.split_off(rows.len() / 2);
                    parts.push(second);
                    parts.push(rows);
                }
                Err(error) => match rows.pop() {
                    Some(Row { origin, outcome: Outcome::Tweet(_) }) => {
                        let letter = origin.dead_letter(STORE_REFUSES, &error.to_string());
                        parts.push(vec![Row { origin, outcome: Outcome::DeadLetter(letter) }]);
                    }
                    _ => return Err(PipelineError::Refused(error)),
                },
            }
        }
        Ok(was_any)
    }

    /// Runs one transaction, if a row is of a partition that is held; retries until Postgres is available. A statement
    /// that took too long is retried only if its one row cannot be halved.
    async fn commit_part(&mut self, rows: &[Row]) -> Result<bool, StoreError> {
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let (batch, letters) = self.batch(rows);
            if batch.advances.is_empty() {
                return Ok(false);
            }
            let started = self.clock.elapsed();
            let outcome = self.store.commit(&batch).await;
            self.tell(&outcome);
            match outcome {
                Ok(committed) => {
                    let took = self.clock.elapsed() - started;
                    histogram!(telemetry::COMMIT_SECONDS).record(took.as_secs_f64());
                    let now = self.clock.now();
                    for at in rows.iter().filter_map(|row| row.origin.record_time) {
                        let delay_s = (now - at).as_seconds_f64().max(0.0);
                        histogram!(telemetry::RECORD_DELAY_SECONDS).record(delay_s);
                    }
                    counter!(telemetry::SCORES_NEW).increment(committed.new);
                    counter!(telemetry::NOT_JUDGED).increment(committed.not_judged);
                    counter!(telemetry::SCORES_DUPLICATE).increment(committed.duplicate);
                    counter!(telemetry::ECHOES).increment(committed.echoes);
                    counter!(telemetry::REMOVED).increment(committed.removed);
                    self.tweets.add(&committed.by_brand);
                    for kind in letters {
                        counter!(telemetry::DEAD_LETTERS, "reason" => kind).increment(1);
                    }
                    if committed.removed > 0 {
                        tracing::info!(
                            tweets = committed.removed,
                            "removed tweets that were edited, deleted or withheld"
                        );
                    }
                    tracing::debug!(
                        new = committed.new,
                        not_judged = committed.not_judged,
                        duplicate = committed.duplicate,
                        dead_letters = batch.dead_letters.len(),
                        took_ms = took.as_millis(),
                        "stored"
                    );
                    Span::current()
                        .record("new", committed.new.cast_signed())
                        .record("duplicate", committed.duplicate.cast_signed())
                        .record("not_judged", committed.not_judged.cast_signed())
                        .record("dead_letters", batch.dead_letters.len() as i64);
                    self.advance(batch.advances);
                    return Ok(true);
                }
                Err(StoreError::Fenced { partition, held, stored }) => {
                    self.fenced(&partition, held, stored);
                }
                Err(StoreError::Switched { model, minute, switches }) => {
                    tracing::warn!(model, minute = %minute.start(), "the stream's model was switched; reading these tweets again, for the new one");
                    counter!(telemetry::FENCED).increment(1);
                    // First of all: whoever reads the tweets again must know.
                    self.lineup.send_modify(|lineup| lineup.set_switches(switches));
                    for advance in batch.advances {
                        self.held.remove(&advance.partition);
                        self.control.reclaim(&advance.partition);
                    }
                    return Ok(true);
                }
                Err(error) if error.is_timeout() && rows.len() > 1 => return Err(error),
                Err(StoreError::Unavailable(error)) => {
                    tracing::warn!(%error, retry_ms = wait.as_millis(), "Postgres is not available; nothing is lost, trying again");
                    counter!(telemetry::STORE_RETRIES).increment(1);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(self.retry_wait_max);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets whether the store is ready, by the outcome of a transaction.
    fn tell<T>(&mut self, outcome: &Result<T, StoreError>) {
        match outcome {
            Err(error @ StoreError::Unavailable(_)) => {
                self.failing = true;
                self.readiness.set("store", Err(error.to_string()));
            }
            _ if std::mem::take(&mut self.failing) => self.readiness.set("store", Ok(())),
            _ => {}
        }
    }

    /// What one transaction writes: the rows whose partitions are held; and the kind of each dead letter.
    fn batch(&self, rows: &[Row]) -> (Batch, Vec<&'static str>) {
        let (mut batch, mut letters) = (Batch::default(), Vec::new());
        let mut advances: BTreeMap<&TopicPartition, Advance> = BTreeMap::new();
        for Row { origin, outcome } in rows {
            let Some(&from) = self.held.get(&origin.partition) else { continue };
            if origin.offset < from {
                continue;
            }
            let advance = advances.entry(&origin.partition).or_insert_with(|| Advance {
                partition: origin.partition.clone(),
                from,
                to: from,
                event_time_max: None,
                record_time_max: None,
            });
            advance.to = origin.offset.next();
            advance.record_time_max = advance.record_time_max.max(origin.record_time);
            match outcome {
                Outcome::Tweet(scored) => {
                    advance.event_time_max =
                        advance.event_time_max.max(Some(scored.tweet.created_at));
                    batch.scores.push(scored.clone());
                }
                Outcome::DeadLetter(Letter { kind, letter }) => {
                    letters.push(*kind);
                    batch.dead_letters.push(letter.clone());
                }
                Outcome::Removal(removal) => batch.removals.push(removal.clone()),
                Outcome::Notice => {}
            }
        }
        batch.advances = advances.into_values().collect();
        (batch, letters)
    }

    fn advance(&mut self, advances: Vec<Advance>) {
        let positions: Vec<_> = advances.into_iter().map(|a| (a.partition, a.to)).collect();
        for (partition, _) in &positions {
            self.ended.remove(partition);
        }
        self.control.stored(&positions);
        self.held.extend(positions);
    }
}

/// The span of a batch's part in a transaction.
fn commit_span(batch: &Span, rows: usize) -> Span {
    tracing::debug_span!(
        parent: batch,
        "commit",
        rows = rows as i64,
        new = Empty,
        duplicate = Empty,
        not_judged = Empty,
        dead_letters = Empty
    )
}
