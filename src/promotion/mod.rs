//! Prepares a switch of the stream's model: has stored tweets scored again, and says by how much
//! each brand's share would jump.
//!
//! **Invariant.** Minutes are written as a whole and in place of what was there, and the work
//! that is left is what the store says ([`Store::unscored`]): a run that is killed at any point
//! is continued by the next one, and nothing is counted twice. Memory is bounded by a page of
//! tweets. Deliberately absent: the registry of models, and the command line.

mod jump;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use metrics::counter;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Label, Minute, ModelSwitch, Score};
use monitor_core::text::SourceText;
use monitor_core::text::language::detect_in;
use monitor_model::{Encoding, ModelHandle, WorkerGone};
use monitor_store::{Pairs, Rescored, Store, StoreError, StoredText, event_time};
use monitor_telemetry as telemetry;
use tokio::task::{JoinError, spawn_blocking};

pub use jump::{Jump, jumps, table};

/// Tweets that are read and scored at once.
const PAGE_ROWS: u32 = 512;
/// Minutes are stored in groups of about this many tweets.
const GROUP_ROWS: u64 = 1024;
/// A group may leave out this many minutes, whose tweets it reads over.
const GROUP_GAP_MINUTES: i64 = 60;
/// Time between two looks at the gap before a switch.
const GAP_WAIT: Duration = Duration::from_secs(1);
/// The same after an error.
const RETRY_WAIT: Duration = Duration::from_secs(10);

/// Stored tweets could not be scored again.
#[derive(Debug, thiserror::Error)]
pub enum RescoreError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] WorkerGone),
    /// A thread panicked.
    #[error("a part of the program failed: {0}")]
    Panic(#[from] JoinError),
}

/// Scores stored tweets again.
pub struct Rescorer {
    store: Arc<dyn Store>,
    model: ModelHandle,
    id: String,
    rows_per_s_max: u32,
    clock: SystemClock,
}

impl Rescorer {
    /// `rows_per_s_max` limits the load; 0 is no limit.
    pub fn new(store: Arc<dyn Store>, model: ModelHandle, rows_per_s_max: u32) -> Self {
        let id = model.id().to_string();
        Self { store, model, id, rows_per_s_max, clock: SystemClock::new() }
    }

    /// Scores again the tweets of `from..=to` that the model has not seen, newest minutes first,
    /// and returns their number. `progress` gets the number done and the number in all, which may
    /// be smaller than the number of rows if tweets are about several brands.
    ///
    /// # Errors
    /// [`RescoreError`]; what was stored before stays, and the next call continues there.
    pub async fn rescore(
        &self,
        from: Minute,
        to: Minute,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<u64, RescoreError> {
        let open = self.store.unscored(&self.id, from, to).await?;
        let all: u64 = open.iter().map(|(_, rows)| rows).sum();
        let started = self.clock.elapsed();
        let (mut rows, mut done) = (0, 0);
        let mut group = Vec::new();
        let mut group_rows = 0;
        for (index, (minute, left)) in open.iter().enumerate() {
            group.push(*minute);
            group_rows += left;
            let near = |(next, _): &(Minute, u64)| minute.0 - next.0 <= GROUP_GAP_MINUTES;
            if group_rows < GROUP_ROWS && open.get(index + 1).is_some_and(near) {
                continue;
            }
            self.rescore_minutes(&group, started, &mut rows).await?;
            done += group_rows;
            progress(done, all);
            group.clear();
            group_rows = 0;
        }
        Ok(rows)
    }

    /// Scores all tweets of these minutes again, and stores their counts in one transaction.
    async fn rescore_minutes(
        &self,
        minutes: &[Minute],
        started: Duration,
        rows: &mut u64,
    ) -> Result<(), RescoreError> {
        let mut counted: BTreeMap<(String, Minute, String), Pairs> = BTreeMap::new();
        let mut last: Option<StoredText> = None;
        loop {
            let mut page =
                self.store.texts_to_rescore(&self.id, minutes, last.as_ref(), PAGE_ROWS).await?;
            let read = page.len();
            let negative = self.score(&mut page).await?;
            for (tweet, is_negative) in page.iter().zip(negative) {
                let minute = Minute::of(tweet.created_at);
                for brand in &tweet.brands {
                    let key = (brand.clone(), minute, tweet.model.clone());
                    let pairs = counted.entry(key).or_default();
                    match is_negative {
                        Some(is_negative) => pairs.add(tweet.is_negative, is_negative),
                        None => pairs.not_judged += 1,
                    }
                }
            }
            *rows += read as u64;
            counter!(telemetry::RESCORED).increment(read as u64);
            self.keep_pace(*rows, started).await;
            last = page.pop();
            if read < PAGE_ROWS as usize {
                break;
            }
        }
        let rescored: Vec<_> = counted
            .into_iter()
            .map(|((brand, minute, instead_of), pairs)| Rescored {
                brand,
                minute,
                instead_of,
                pairs,
            })
            .collect();
        Ok(self.store.put_rescored(&self.id, &rescored).await?)
    }

    /// Whether each tweet is negative; `None` if the model does not know its language, or fails on
    /// it alone.
    async fn score(&self, page: &mut Vec<StoredText>) -> Result<Vec<Option<bool>>, RescoreError> {
        let model = self.model.clone();
        let texts = std::mem::take(page);
        let work = move || {
            let encode = |text: &StoredText| {
                let source = SourceText::new(&text.text);
                let language = text.language.or_else(|| detect_in(&source));
                model.knows(language).then(|| model.encoder().encode_text(&source))
            };
            let encodings: Vec<Option<Encoding>> = texts.iter().map(encode).collect();
            (texts, encodings)
        };
        let (texts, encodings) = spawn_blocking(work).await?;
        *page = texts;
        let known: Vec<bool> = encodings.iter().map(Option::is_some).collect();
        let scores = self.model.classify(encodings.into_iter().flatten().collect()).await?;
        let thresholds = self.model.thresholds();
        let is_negative = |p| Score::new(p, thresholds).label == Label::Negative;
        let mut scores = scores.into_iter().map(|score| score.ok().map(is_negative));
        Ok(known.into_iter().map(|known| if known { scores.next()? } else { None }).collect())
    }

    /// Waits until `rows` rows in the time since `started` are within the limit.
    async fn keep_pace(&self, rows: u64, started: Duration) {
        if self.rows_per_s_max == 0 {
            return;
        }
        let due = Duration::from_secs_f64(rows as f64 / f64::from(self.rows_per_s_max));
        tokio::time::sleep(due.saturating_sub(self.clock.elapsed() - started)).await;
    }
}

/// Scores again what the models of before have scored and will still score between
/// `switch.gap_from` and the switch. Ends when event time has passed the switch and nothing is
/// left. Does nothing while another daemon leads.
pub async fn fill_gap(
    store: Arc<dyn Store>,
    model: ModelHandle,
    switch: ModelSwitch,
    topic: String,
    lateness: TimeDelta,
    rows_per_s_max: u32,
) {
    let rescorer = Rescorer::new(store.clone(), model, rows_per_s_max);
    let mut failing = false;
    loop {
        match fill_once(&rescorer, &switch, &topic, lateness).await {
            Ok(true) => {
                tracing::info!(model = switch.model, at = %switch.from.start(), "all tweets before the switch are scored again");
                return;
            }
            Ok(false) => {
                failing = false;
                tokio::time::sleep(GAP_WAIT).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot score the tweets before the switch again; trying again");
                }
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

/// One look at the gap; returns whether it is closed for good.
async fn fill_once(
    rescorer: &Rescorer,
    switch: &ModelSwitch,
    topic: &str,
    lateness: TimeDelta,
) -> Result<bool, RescoreError> {
    if !rescorer.store.lead().await? {
        return Ok(false);
    }
    // Read before the tweets: what is stored after this is seen by the next look.
    let partitions = rescorer.store.progress(topic).await?;
    let passed = event_time(&partitions, lateness, rescorer.clock.now())
        .is_some_and(|time| time >= switch.from.start());
    let last = switch.from.plus(-1);
    rescorer.rescore(switch.gap_from, last, &mut |_, _| {}).await?;
    Ok(passed && rescorer.store.unscored(&rescorer.id, switch.gap_from, last).await?.is_empty())
}
