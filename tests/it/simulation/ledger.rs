//! The store that all daemons share, and what it saw: it notes each write and checks it against those before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use monitor::pipeline::Evaluator;
use monitor_config::Settings;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Counts, IncidentId, Minute, Offset, Resume, STREAM, StartAt, TopicPartition, Watch,
};
use monitor_store::{
    Batch, Claim, Committed, Decision, MemoryStore, OutboxRow, OutboxState, Store, StoreError,
    event_time,
};

use super::stream::{BRANDS, at};
use crate::support::from_environment;

/// Whether one seed is looked into.
static TOLD: LazyLock<bool> = LazyLock::new(|| from_environment("MONITOR_SEED").is_some());

#[derive(Default)]
pub struct Ledger {
    pub store: Arc<MemoryStore>,
    seen: Mutex<Seen>,
}

/// What the store saw.
#[derive(Default)]
pub struct Seen {
    /// Each write, to compare two runs of a seed.
    pub trace: Vec<String>,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// How often something happened.
    pub happened: BTreeMap<&'static str, u64>,
    positions: BTreeMap<TopicPartition, Offset>,
    /// The last minute judged.
    judged: BTreeMap<(String, Watch), Minute>,
    /// The minute before which all have been closed.
    closed: Option<Minute>,
    /// Tweets that came, or went, after their minute was closed, by brand.
    pub late: BTreeMap<String, u64>,
    /// The notifications that were leased.
    pub rows: BTreeMap<i64, Leased>,
    /// Which daemon leads.
    leader: Option<String>,
}

/// A row of the outbox.
pub struct Leased {
    pub row: OutboxRow,
    attempts: u32,
    /// How it ended.
    pub ended: Vec<OutboxState>,
}

impl Seen {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn note(&mut self, now: u64, who: &str, what: impl AsRef<str>) {
        let line = format!("{now} {who} {}", what.as_ref());
        if *TOLD {
            println!("{line}");
        }
        self.trace.push(line);
    }
}

/// The answer of the store in memory, which never waits.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the store in memory answers at once")
}

impl Ledger {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    /// Judges what is there before the simulation begins.
    pub async fn judge_before(&self, settings: &Settings) {
        let clock = Arc::new(SimulatedClock::at(at(0)));
        let evaluator = Evaluator::new(self.store.clone(), settings, clock);
        evaluator.evaluate().await.expect("evaluated");
        let seen = &mut *self.seen();
        for brand in BRANDS {
            let state = at_once(self.store.detector_state(brand, Watch::Buzz)).expect("a state");
            let judged = state.expect("it was judged").evaluated;
            seen.judged.insert((brand.to_owned(), Watch::Buzz), judged);
            let quiet = at_once(self.store.detector_state(brand, Watch::BrandQuiet));
            if let Some(quiet) = quiet.expect("a state") {
                seen.judged.insert((brand.to_owned(), Watch::BrandQuiet), quiet.evaluated);
            }
        }
        for watch in [Watch::Quiet, Watch::Lag] {
            let state = at_once(self.store.detector_state(STREAM, watch)).expect("a state");
            if let Some(state) = state {
                seen.judged.insert((STREAM.to_owned(), watch), state.evaluated);
            }
        }
        for read in at_once(self.store.progress("tweets")).expect("progress") {
            seen.positions.insert(read.partition, read.position);
        }
    }

    pub fn claim(
        &self,
        (now, who): (u64, &str),
        claims: &[Claim],
        start_at: StartAt,
    ) -> Result<Vec<Resume>, StoreError> {
        self.note_closed(now);
        let resumes = at_once(self.store.claim(claims, start_at))?;
        let seen = &mut *self.seen();
        for (claim, resume) in claims.iter().zip(&resumes) {
            let stored = seen.positions.get(&claim.partition).copied();
            seen.check(stored.is_none_or(|stored| stored == resume.position), || {
                format!("{now} {who}: {} resumes at {resume:?}, not at {stored:?}", claim.partition)
            });
            seen.positions.insert(claim.partition.clone(), resume.position);
            seen.note(now, who, format!("claims {} at {}", claim.partition, resume.position));
        }
        Ok(resumes)
    }

    pub fn commit(&self, (now, who): (u64, &str), batch: &Batch) -> Result<Committed, StoreError> {
        let touched = self.touched(batch);
        let counts = || -> Vec<_> {
            let of = |(brand, minute): &(String, Minute)| self.counted(brand, *minute);
            touched.iter().map(of).collect()
        };
        self.note_closed(now);
        let before = counts();
        let answer = at_once(self.store.commit(batch));
        let after = counts();
        let seen = &mut *self.seen();
        match &answer {
            Ok(committed) => {
                for advance in &batch.advances {
                    let stored = seen.positions.get(&advance.partition).copied();
                    let follows = stored == Some(advance.from) && advance.to > advance.from;
                    seen.check(follows, || format!("{now} {who}: {advance:?} after {stored:?}"));
                    seen.positions.insert(advance.partition.clone(), advance.to);
                }
                for ((brand, minute), changed) in
                    touched.iter().zip(before.iter().zip(&after).map(|(a, b)| a != b))
                {
                    if changed && seen.closed.is_some_and(|closed| *minute < closed) {
                        *seen.late.entry(brand.clone()).or_default() += 1;
                    }
                }
                let to: Vec<_> = batch.advances.iter().map(|a| a.to.0).collect();
                seen.note(now, who, format!("stores {committed:?} to {to:?}"));
            }
            Err(StoreError::Fenced { .. }) => seen.count("a batch was fenced off"),
            Err(error) => seen.broken.push(format!("{now} {who}: {error}")),
        }
        answer
    }

    /// The brands and minutes whose counts a batch may change.
    fn touched(&self, batch: &Batch) -> BTreeSet<(String, Minute)> {
        let removed = batch.removals.iter().map(|removal| &removal.tweet_id);
        let removed = removed.chain(batch.scores.iter().flat_map(|row| &row.tweet.edit_of));
        let of = |minute: Minute| BRANDS.map(|brand| (brand.to_owned(), minute));
        let removed = removed.filter_map(|id| at_once(self.store.tweet(id.as_str())).ok()?);
        let minutes = removed.map(|tweet| Minute::of(tweet.created_at));
        let written = batch.scores.iter().map(|row| Minute::of(row.tweet.created_at));
        minutes.chain(written).flat_map(of).collect()
    }

    /// The minute before which all are closed.
    pub fn closed(&self, now: u64) -> Option<Minute> {
        let progress = at_once(self.store.progress("tweets")).expect("progress");
        event_time(&progress, TimeDelta::seconds(60), at(now)).map(Minute::of)
    }

    /// Notes which minutes are closed before a write, which may open some again: a leader may be about to judge them.
    fn note_closed(&self, now: u64) {
        let closed = self.closed(now);
        let seen = &mut *self.seen();
        seen.closed = seen.closed.max(closed);
    }

    fn counted(&self, brand: &str, minute: Minute) -> Vec<(Minute, Counts)> {
        at_once(self.store.minute_counts(brand, minute, minute)).expect("counts")
    }

    /// A decision must go on from the last one of its brand and watch. Those about the stream follow the clocks of
    /// the leaders, which may go back.
    pub fn decide(
        &self,
        (now, who): (u64, &str),
        decision: &Decision,
    ) -> Result<Option<IncidentId>, StoreError> {
        let answer = at_once(self.store.decide(decision));
        let Decision { brand, watch, evaluated, evaluated_before, step, .. } = decision;
        let seen = &mut *self.seen();
        match &answer {
            Ok(id) => {
                let last = seen.judged.insert((brand.clone(), *watch), *evaluated);
                let is_of_brand = matches!(watch, Watch::Buzz | Watch::BrandQuiet);
                let follows = last == *evaluated_before
                    && (!is_of_brand || last.is_none_or(|last| last < *evaluated));
                seen.check(follows, || {
                    format!("{now} {who}: {brand} {watch:?} is judged up to {evaluated:?} after {evaluated_before:?}, \
                             was {last:?}")
                });
                // Whatever the leader's clock says. The stream is judged in its current minute.
                let until = match watch {
                    Watch::Buzz | Watch::BrandQuiet => evaluated.plus(2),
                    Watch::Quiet | Watch::Lag => *evaluated,
                };
                seen.check(until.start() <= at(now), || {
                    format!(
                        "{now} {who}: {brand} {watch:?} {evaluated:?} is judged before it is over"
                    )
                });
                let step = step.as_ref().map(|step| step.transition.as_str());
                if let Some(step) = step {
                    seen.count(step);
                }
                seen.note(
                    now,
                    who,
                    format!("judges {brand} {watch:?} {evaluated:?} {step:?} {id:?}"),
                );
            }
            Err(StoreError::Overtaken { .. }) => seen.count("a decision was refused"),
            Err(error) => seen.broken.push(format!("{now} {who}: {error}")),
        }
        let open = at_once(self.store.incidents(u32::MAX)).expect("incidents");
        let open = open.iter().filter(|incident| {
            incident.resolved.is_none()
                && incident.brand == *brand
                && incident.cause().watch() == *watch
        });
        let open = open.count();
        seen.check(open <= 1, || format!("{now} {who}: {open} open incidents of {brand}"));
        answer
    }

    pub fn lease(
        &self,
        (now, who): (u64, &str),
        lease: Duration,
        limit: u32,
        resting: &[String],
        sending: &[i64],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        // Of Postgres' clock.
        let rows = at_once(self.store.outbox_lease(at(now), lease, limit, resting, sending))?;
        let seen = &mut *self.seen();
        for row in &rows {
            seen.count("a notification was leased");
            seen.note(now, who, format!("leases {} {}", row.key, row.attempts));
            if !row.notification.missed.is_empty() {
                seen.count("a digest of missed incidents");
            }
            let new = Leased { row: row.clone(), attempts: 0, ended: Vec::new() };
            let known = seen.rows.entry(row.id).or_insert(new);
            known.attempts = row.attempts;
            let same = (&known.row.key, &known.row.notification) == (&row.key, &row.notification);
            let ended = known.ended.clone();
            seen.check(same, || format!("{now} {who}: row {} has changed: {row:?}", row.id));
            seen.check(ended.is_empty(), || format!("{now} {who}: {} ended: {ended:?}", row.key));
        }
        Ok(rows)
    }

    /// How an attempt ended, if the store takes it.
    pub fn record(
        &self,
        (now, who): (u64, &str),
        host_now: DateTime<Utc>,
        row: i64,
        attempt: u32,
        state: &OutboxState,
    ) -> Result<(), StoreError> {
        // Of Postgres' clock.
        let state = match state {
            OutboxState::Retry { at: then, error } => {
                OutboxState::Retry { at: at(now) + (*then - host_now), error: error.clone() }
            }
            other => other.clone(),
        };
        let pending = || at_once(self.store.totals()).expect("totals").outbox_pending;
        let before = pending();
        at_once(self.store.outbox_record(row, attempt, at(now), &state))?;
        let has_ended = pending() < before;
        let seen = &mut *self.seen();
        if state == OutboxState::Sent && !has_ended {
            seen.count("an outcome came too late");
        }
        seen.note(now, who, format!("records {row} {attempt} {state:?} {has_ended}"));
        if has_ended && let Some(leased) = seen.rows.get_mut(&row) {
            leased.ended.push(state);
            let attempts = leased.attempts;
            seen.check(attempt == attempts, || {
                format!("{now} {who}: row {row} ended by attempt {attempt} of {attempts}")
            });
        }
        Ok(())
    }

    /// Leader election: the lock is free again when its owner's connection ends.
    pub fn lead(&self, who: &str) -> bool {
        let seen = &mut *self.seen();
        seen.leader.get_or_insert_with(|| who.to_owned()) == who
    }

    /// The connection of the leader ends, or of this daemon if it leads.
    pub fn lose_lead(&self, who: Option<&str>) {
        let seen = &mut *self.seen();
        if who.is_none_or(|who| seen.leader.as_deref() == Some(who)) && seen.leader.take().is_some()
        {
            seen.count("the lead was lost");
        }
    }
}
