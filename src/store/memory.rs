//! The store's in-memory twin, for tests and for trying things out.
//!
//! **Invariant.** It answers every call as the trait's documentation says and as
//! [`super::PostgresStore`] does; `tests/it/store_contract.rs` holds both to it. Each call
//! takes one lock once and checks before it writes, so it is as atomic as a transaction.
//! Deliberately absent: durability, and any limit on what it holds.

use std::collections::hash_map::Entry as HashEntry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Batch, BrandState, Claim, Committed, DeadLetter, Decision, Example, Notification, OutboxRow,
    OutboxState, PartitionProgress, ScoredTweet, Store, StoreError, Totals,
};
use crate::domain::{
    Counts, Incident, IncidentId, Label, Minute, Offset, Resume, StartAt, TopicPartition,
    Transition,
};

/// A [`Store`] that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    away: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    scores: HashMap<String, ScoredTweet>,
    minute_counts: BTreeMap<(String, Minute), Counts>,
    dead_letters: BTreeMap<(TopicPartition, Offset), DeadLetter>,
    incidents: Vec<Incident>,
    brand_states: BTreeMap<String, (Minute, Option<Minute>)>,
    outbox: Vec<Queued>,
}

#[derive(Debug)]
struct Checkpoint {
    position: Offset,
    event_time_max: Option<DateTime<Utc>>,
    at_end: bool,
}

#[derive(Debug)]
struct Queued {
    key: String,
    receiver: String,
    notification: Notification,
    attempts: u32,
    state: State,
}

/// What the columns `state` and `due_at` hold.
#[derive(Debug)]
enum State {
    Pending { due: DateTime<Utc> },
    Sent,
    Dead,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call answer that the store is away, as when Postgres is; or no longer.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Every row scored, by tweet id.
    pub fn scores(&self) -> HashMap<String, ScoredTweet> {
        self.tables.lock().expect("no holder of this lock panics").scores.clone()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        Ok(self.tables.lock().expect("no holder of this lock panics"))
    }
}

impl Tables {
    fn insert_scores(&mut self, scores: &[ScoredTweet]) -> Committed {
        let mut committed = Committed::default();
        for row in scores {
            let HashEntry::Vacant(place) = self.scores.entry(row.tweet.id.as_str().to_owned())
            else {
                committed.duplicate += 1;
                continue;
            };
            committed.new += 1;
            let minute = Minute::of(row.tweet.created_at);
            for brand in &row.brands {
                *self.minute_counts.entry((brand.clone(), minute)).or_default() +=
                    Counts { total: 1, negative: u64::from(row.score.label == Label::Negative) };
            }
            place.insert(row.clone());
        }
        committed
    }

    fn open_incident(&self, brand: &str) -> Option<usize> {
        self.incidents.iter().position(|i| i.brand == brand && i.resolved.is_none())
    }
}

/// The error for what Postgres would refuse by one of its constraints.
fn refused(why: String) -> StoreError {
    StoreError::Refused(sqlx::Error::Protocol(why))
}

#[async_trait]
impl Store for MemoryStore {
    async fn claim(&self, claims: &[Claim], start_at: StartAt) -> Result<Vec<Resume>, StoreError> {
        let mut tables = self.lock()?;
        let mut resumes = Vec::with_capacity(claims.len());
        for claim in claims {
            let stored = tables.checkpoints.get(&claim.partition).map(|c| c.position);
            let resume = claim.resume(stored, start_at);
            let checkpoint =
                tables.checkpoints.entry(claim.partition.clone()).or_insert(Checkpoint {
                    position: resume.position,
                    event_time_max: None,
                    at_end: false,
                });
            checkpoint.position = resume.position;
            checkpoint.at_end = false;
            resumes.push(resume);
        }
        Ok(resumes)
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut tables = self.lock()?;
        for advance in &batch.advances {
            let stored = tables.checkpoints.get(&advance.partition).map(|c| c.position);
            if stored != Some(advance.from) {
                return Err(StoreError::Fenced {
                    partition: advance.partition.clone(),
                    held: advance.from,
                    stored,
                });
            }
        }
        let committed = tables.insert_scores(&batch.scores);
        for letter in &batch.dead_letters {
            tables
                .dead_letters
                .entry((letter.partition.clone(), letter.offset))
                .or_insert_with(|| letter.clone());
        }
        for advance in &batch.advances {
            let checkpoint = tables
                .checkpoints
                .get_mut(&advance.partition)
                .expect("the fence above saw this checkpoint under the same lock");
            checkpoint.position = advance.to;
            checkpoint.event_time_max = checkpoint.event_time_max.max(advance.event_time_max);
            checkpoint.at_end = false;
        }
        Ok(committed)
    }

    async fn mark_at_end(
        &self,
        partition: &TopicPartition,
        position: Offset,
        at_end: bool,
    ) -> Result<(), StoreError> {
        if let Some(checkpoint) = self.lock()?.checkpoints.get_mut(partition)
            && checkpoint.position == position
        {
            checkpoint.at_end = at_end;
        }
        Ok(())
    }

    async fn progress(&self, topic: &str) -> Result<Vec<PartitionProgress>, StoreError> {
        Ok(self
            .lock()?
            .checkpoints
            .iter()
            .filter(|(partition, _)| &*partition.topic == topic)
            .map(|(partition, c)| PartitionProgress {
                partition: partition.clone(),
                position: c.position,
                event_time_max: c.event_time_max,
                at_end: c.at_end,
            })
            .collect())
    }

    async fn minute_counts(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        Ok(self
            .lock()?
            .minute_counts
            .range((brand.to_owned(), from)..=(brand.to_owned(), to))
            .map(|((_, minute), counts)| (*minute, *counts))
            .collect())
    }

    async fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        Ok(self
            .lock()?
            .minute_counts
            .range((brand.to_owned(), Minute(i64::MIN))..=(brand.to_owned(), Minute(i64::MAX)))
            .next()
            .map(|((_, minute), _)| *minute))
    }

    async fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        Ok(self
            .lock()?
            .minute_counts
            .range((brand.to_owned(), Minute(i64::MIN))..=(brand.to_owned(), Minute(i64::MAX)))
            .next_back()
            .map(|((_, minute), _)| *minute))
    }

    async fn brand_state(&self, brand: &str) -> Result<Option<BrandState>, StoreError> {
        let tables = self.lock()?;
        Ok(tables.brand_states.get(brand).map(|&(judged, calm_since)| BrandState {
            judged,
            open: tables.open_incident(brand).map(|i| tables.incidents[i].clone()),
            calm_since,
        }))
    }

    async fn incidents_since(
        &self,
        brand: &str,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError> {
        let mut found: Vec<_> = self
            .lock()?
            .incidents
            .iter()
            .filter(|i| i.brand == brand && i.resolved.is_none_or(|at| at >= from))
            .cloned()
            .collect();
        found.sort_by_key(|i| (i.opened, i.id));
        Ok(found)
    }

    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut found = self.lock()?.incidents.clone();
        found.sort_by_key(|i| std::cmp::Reverse((i.opened, i.id)));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn examples(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<Example>, StoreError> {
        let mut found: Vec<_> = self
            .lock()?
            .scores
            .values()
            .filter(|row| row.score.label == Label::Negative)
            .filter(|row| row.brands.iter().any(|b| b == brand))
            .filter(|row| (from..=to).contains(&Minute::of(row.tweet.created_at)))
            .map(|row| Example {
                tweet_id: row.tweet.id.as_str().to_owned(),
                text: row.tweet.text.clone(),
                created_at: row.tweet.created_at,
                negative: row.score.negative.get(),
            })
            .collect();
        found.sort_by(|a, b| {
            b.negative.total_cmp(&a.negative).then_with(|| a.tweet_id.cmp(&b.tweet_id))
        });
        let mut texts = HashSet::new();
        found.retain(|example| texts.insert(example.text.clone()));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn decide(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let mut tables = self.lock()?;
        let brand = &decision.brand;
        if tables.brand_states.get(brand).map(|&(judged, _)| judged) != decision.judged_before {
            return Err(StoreError::Overtaken { brand: brand.clone() });
        }
        let mut incident = None;
        if let Some(step) = &decision.step {
            let open = tables.open_incident(brand);
            let id = match (step.transition, open) {
                (Transition::Opened, None) => {
                    let id = IncidentId(tables.incidents.len() as i64 + 1);
                    tables.incidents.push(Incident {
                        id,
                        brand: brand.clone(),
                        opened: step.minute,
                        resolved: None,
                        evidence: step.evidence,
                    });
                    id
                }
                (Transition::Resolved, Some(place)) => {
                    tables.incidents[place].resolved = Some(step.minute);
                    tables.incidents[place].id
                }
                (Transition::Opened, Some(_)) => {
                    return Err(refused(format!("brand {brand:?} has an open incident")));
                }
                (Transition::Resolved, None) => {
                    return Err(refused(format!("brand {brand:?} has no open incident")));
                }
            };
            for receiver in &decision.receivers {
                tables.outbox.push(Queued {
                    key: super::outbox::key(id, step.transition, receiver),
                    receiver: receiver.clone(),
                    notification: Notification { incident_id: id.0, ..step.notification.clone() },
                    attempts: 0,
                    state: State::Pending { due: DateTime::<Utc>::MIN_UTC },
                });
            }
            incident = Some(id);
        }
        tables.brand_states.insert(brand.clone(), (decision.judged, decision.calm_since));
        Ok(incident)
    }

    async fn outbox_lease(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut tables = self.lock()?;
        let mut due: Vec<(DateTime<Utc>, usize)> = tables
            .outbox
            .iter()
            .enumerate()
            .filter_map(|(place, row)| match row.state {
                State::Pending { due } if due <= now => Some((due, place)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        Ok(due
            .into_iter()
            .map(|(_, place)| {
                let row = &mut tables.outbox[place];
                row.state = State::Pending { due: now + lease };
                row.attempts += 1;
                OutboxRow {
                    id: place as i64 + 1,
                    key: row.key.clone(),
                    receiver: row.receiver.clone(),
                    notification: row.notification.clone(),
                    attempts: row.attempts,
                }
            })
            .collect())
    }

    async fn outbox_record(
        &self,
        row: i64,
        _now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError> {
        let mut tables = self.lock()?;
        let place = usize::try_from(row - 1).ok();
        // A row that has ended stays as it ended: a second sender's late word changes nothing.
        if let Some(row) = place.and_then(|place| tables.outbox.get_mut(place))
            && matches!(row.state, State::Pending { .. })
        {
            row.state = match state {
                OutboxState::Sent => State::Sent,
                OutboxState::Retry { at, .. } => State::Pending { due: *at },
                OutboxState::Dead { .. } => State::Dead,
            };
        }
        Ok(())
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let tables = self.lock()?;
        let in_state = |wanted: fn(&State) -> bool| {
            tables.outbox.iter().filter(|row| wanted(&row.state)).count() as u64
        };
        Ok(Totals {
            scores: tables.scores.len() as u64,
            dead_letters: tables.dead_letters.len() as u64,
            outbox_pending: in_state(|s| matches!(s, State::Pending { .. })),
            outbox_dead: in_state(|s| matches!(s, State::Dead)),
        })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.lock().map(drop)
    }
}
