//! The last stage of the pipeline: stores each batch in one transaction.
//!
//! **Invariant.** Only this stage knows the positions of the held partitions. A batch advances a
//! partition from its position to the one after the batch's last row, or not at all. If the store
//! has a different position for the partition, its rows are dropped and the partition is claimed
//! again. So it is if the stream's model was switched and the rows have the scores of the old one.
//! A partition change waits until all that came before it is stored.
//! While nothing can be stored, `store` is not ready: a full disk still answers the health check's question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span};

use super::counted::TweetCounts;
use super::error::PipelineError;
use super::flow::{Item, Letter, MODEL_FAILS, Outcome, Row, STORE_REFUSES};
use super::lanes::Lanes;
use super::lineup::Lineup;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Offset, TopicPartition};
use monitor_ingest::{Control, Rejected};
use monitor_store::{Advance, Batch, Store, StoreError};
use monitor_telemetry::{self as telemetry, Readiness};

/// Wait after the first failed attempt; doubles with each further one.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);

/// Wait before the end of a partition is reported to the store again.
const AT_END_RETRY_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    store: Arc<dyn Store>,
    control: Arc<dyn Control>,
    retry_wait_max: Duration,
    /// Gets the switches that refuse a batch.
    lineup: watch::Sender<Lineup>,
    readiness: Arc<Readiness>,
    clock: SystemClock,
    state: Mutex<State>,
}

/// What the transactions in progress share.
#[derive(Default)]
struct State {
    /// Position of each held partition.
    held: BTreeMap<TopicPartition, Offset>,
    /// Partitions whose end has not yet been reported to the store.
    ended: BTreeSet<TopicPartition>,
    /// Whether the last transaction could not be written.
    failing: bool,
    tweets: TweetCounts,
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
            lineup,
            readiness,
            clock: SystemClock::new(),
            state: Mutex::default(),
        }
    }

    pub async fn run(
        self,
        mut scored: mpsc::Receiver<Item<Vec<Row>>>,
    ) -> Result<(), PipelineError> {
        let this = &self;
        let mut lanes = Lanes::default();
        let mut running = FuturesUnordered::new();
        // A partition change that came behind batches.
        let mut change = None;
        let mut is_open = true;
        loop {
            while let Some(next) = lanes.begin() {
                let stored = this.commit(next.rows).instrument(next.span);
                running.push(async move { (stored.await, next.taken) });
            }
            let idle = running.is_empty();
            if idle && let Some(change) = change.take() {
                this.change(change).await;
                continue;
            }
            if idle && !is_open {
                return Ok(());
            }
            let item = async {
                // Between transactions only: an end is reported with the position that is stored.
                if idle { this.wait(&mut scored).await } else { scored.recv().await }
            };
            tokio::select! {
                // In this order, so that a simulation can be repeated.
                biased;
                Some((stored, taken)) = running.next(), if !idle => {
                    stored?;
                    lanes.free(taken);
                }
                item = item, if is_open && change.is_none() && lanes.has_room() => match item {
                    Some(Item::Batch(rows, batch)) => lanes.add(rows, &batch),
                    Some(other) => change = Some(other),
                    None => is_open = false,
                },
            }
        }
    }

    /// Takes note of a change of the partitions. All that came before it is stored.
    async fn change(&self, change: Item<Vec<Row>>) {
        match change {
            Item::Batch(..) => {}
            Item::Assigned(positions) => self.state().held.extend(positions),
            Item::Revoked { partitions, done } => {
                let mut state = self.state();
                for partition in &partitions {
                    state.held.remove(partition);
                    state.ended.remove(partition);
                }
                // An error means that the source no longer waits.
                let _ = done.send(());
            }
            Item::AtEnd(partition) => {
                self.state().ended.insert(partition);
                self.report_ends().await;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item, once it comes; reports meanwhile which partitions are read to their end.
    async fn wait(&self, scored: &mut mpsc::Receiver<Item<Vec<Row>>>) -> Option<Item<Vec<Row>>> {
        while !self.state().ended.is_empty() {
            match tokio::time::timeout(AT_END_RETRY_WAIT, scored.recv()).await {
                Ok(item) => return item,
                Err(_) => self.report_ends().await,
            }
        }
        scored.recv().await
    }

    /// Reports to the store which partitions are read to their end. A failed report is repeated,
    /// because a partition that seems unread delays event time.
    async fn report_ends(&self) {
        let ended = std::mem::take(&mut self.state().ended);
        for partition in ended {
            let Some(position) = self.state().held.get(&partition).copied() else { continue };
            match self.store.mark_at_end(&partition, position, true).await {
                Ok(()) => {}
                Err(StoreError::Fenced { partition, held, stored }) => {
                    self.fenced(&partition, held, stored);
                }
                Err(error) => {
                    tracing::debug!(%error, %partition, "cannot record that the partition is read to its end");
                    self.state().ended.insert(partition);
                }
            }
        }
    }

    /// Claims a partition again whose stored position is not the one held.
    fn fenced(&self, partition: &TopicPartition, held: Offset, stored: Option<Offset>) {
        tracing::warn!(
            %partition, %held, ?stored,
            "the stored checkpoint is another: another reader moved it, or Postgres has lost its last transactions; claiming the partition again"
        );
        counter!(telemetry::FENCED).increment(1);
        self.state().held.remove(partition);
        self.control.reclaim(partition);
    }

    /// Stores rows. If Postgres rejects them, stores each half separately, so that an invalid row affects no other
    /// row. So it does if Postgres cancels the statement for taking too long.
    async fn commit(&self, rows: Vec<Row>) -> Result<(), PipelineError> {
        let mut parts = vec![rows];
        while let Some(mut rows) = parts.pop() {
            match self.commit_part(&rows).await {
                Ok(()) => {}
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
        Ok(())
    }

    /// Runs one transaction, if a row is of a partition that is held; retries until Postgres is available. A statement
    /// that took too long is retried only if its one row cannot be halved.
    async fn commit_part(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let (batch, letters) = self.batch(rows);
            if batch.advances.is_empty() {
                return Ok(());
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
                    self.state().tweets.add(&committed.by_brand);
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
                    return Ok(());
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
                        self.state().held.remove(&advance.partition);
                        self.control.reclaim(&advance.partition);
                    }
                    return Ok(());
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
    fn tell<T>(&self, outcome: &Result<T, StoreError>) {
        let mut state = self.state();
        match outcome {
            Err(error @ StoreError::Unavailable(_)) => {
                state.failing = true;
                self.readiness.set("store", Err(error.to_string()));
            }
            _ if std::mem::take(&mut state.failing) => self.readiness.set("store", Ok(())),
            _ => {}
        }
    }

    /// What one transaction writes: the rows whose partitions are held; and the kind of each dead letter.
    fn batch(&self, rows: &[Row]) -> (Batch, Vec<&'static str>) {
        let (mut batch, mut letters) = (Batch::default(), Vec::new());
        let mut advances: BTreeMap<&TopicPartition, Advance> = BTreeMap::new();
        let state = self.state();
        for Row { origin, outcome } in rows {
            let Some(&from) = state.held.get(&origin.partition) else { continue };
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

    fn advance(&self, advances: Vec<Advance>) {
        let positions: Vec<_> = advances.into_iter().map(|a| (a.partition, a.to)).collect();
        self.control.stored(&positions);
        let mut state = self.state();
        for (partition, position) in positions {
            state.ended.remove(&partition);
            state.held.insert(partition, position);
        }
    }
}
