//! Intake, prepare and score: from events to scored batches.
//!
//! | stage | work | unit of work |
//! | --- | --- | --- |
//! | intake | collects records | batch: the fewest records of one Postgres transaction, closed here by rows or age |
//! | prepare | decodes, normalises, finds brands, encodes | the same batch |
//! | score | sends batches to the model's thread | pass: rows of several batches, chosen there by tokens and length |
//! | commit | stores | the same batch; where batches wait, the rows of several, partition by partition (`lanes`) |
//!
//! **Invariant.** A tweet is scored by the model of its language and minute (see [`Lineup`]), whose
//! encoder encoded it, and stored with that model's id; without such a model it is stored without
//! a score. A batch waits until its models are loaded. Batches are scored together and leave in the order in which they came. Deliberately absent: choosing the rows of a
//! pass (see `monitor_model::ModelHandle`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span};

use monitor_core::alerting::{Counting, Heard};
use monitor_core::batching::{BatchPolicy, Batcher};
use monitor_core::clock::Clock;
use monitor_core::domain::{Minute, Offset, Score, TopicPartition, Tweet};
use monitor_core::text::language::detect_in;
use monitor_core::text::{BrandMatcher, SourceText};
use monitor_ingest::{self as ingest, Content, Event, Notice, Record, Source, WireLimits};
use monitor_model::{Encoding, ModelHandle};
use monitor_store::{ModelScore, Removal, ScoredTweet, Store};
use monitor_telemetry::{self as telemetry, Readiness};

use super::commit::Committer;
use super::error::PipelineError;
use super::flow::{Item, MODEL_FAILS, Origin, Outcome, Row};
use super::lanes::BATCHES_TOGETHER_MAX;
use super::lineup::{Choice, Lineup};

/// Batches between two stages: one in progress, one ready.
const BATCHES_AHEAD: usize = 2;
/// Batches that are decoded and encoded in parallel: one thread cannot keep a GPU busy.
const BATCHES_PREPARED_MAX: usize = 4;
/// Batches that are scored together, so that the model finds rows of similar length.
const BATCHES_SCORED_MAX: usize = 4;

/// Longest wait for leaving the consumer group.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const LEAVE_POLL: Duration = Duration::from_millis(20);

/// Partitions that the span of a batch names, at most.
const PARTITIONS_NAMED_MAX: usize = 16;

/// Settings of the pipeline.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When a batch closes.
    pub batching: BatchPolicy,
    /// Limits of a valid tweet.
    pub limits: WireLimits,
    /// Whose tweets count, and how often.
    pub counting: Counting,
    /// Whether a tweet that was deleted or withheld still counts.
    pub count_deleted: bool,
    /// Longest wait between two attempts while Postgres is unavailable.
    pub retry_wait_max: Duration,
    /// Longest time to store the batches in flight after the source has stopped.
    pub drain_max: Duration,
}

/// A decoded tweet with its brands, or a record that is not a tweet.
struct Prepared {
    origin: Origin,
    outcome: Outcome<Matched>,
}

/// A tweet, the brands it is about, and whether it counts.
struct Matched {
    tweet: Tweet,
    brands: Vec<String>,
    heard: Heard,
}

/// A batch that has been decoded and encoded.
struct Encoded {
    /// The models whose encoders were used: more than one with models by language, and in a batch
    /// that lies across a switch. With each, whether it is the model of a language.
    models: Vec<(ModelHandle, bool)>,
    /// Tweets that a model scores have an encoding and the place of the model.
    rows: Vec<(Prepared, Option<(usize, Encoding)>)>,
}

/// The stages from a source to the store.
pub struct Pipeline {
    settings: Settings,
    store: Arc<dyn Store>,
    lineup: watch::Sender<Lineup>,
    brands: Arc<BrandMatcher>,
    clock: Arc<dyn Clock>,
    readiness: Arc<Readiness>,
}

impl Pipeline {
    /// Each tweet uses the model that `lineup` has for its minute when its batch is encoded. If
    /// a commit is refused because of a switch, `lineup` gets the new switches.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        lineup: watch::Sender<Lineup>,
        brands: BrandMatcher,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (brands, readiness) = (Arc::new(brands), Arc::default());
        Self { settings, store, lineup, brands, clock, readiness }
    }

    /// Tells `readiness` whether batches can be stored.
    #[must_use]
    pub fn reporting(self, readiness: Arc<Readiness>) -> Self {
        Self { readiness, ..self }
    }

    /// Runs until the source ends or `stop` resolves, then stores the batches in flight.
    ///
    /// # Errors
    /// [`PipelineError`] if Postgres rejects a batch and no single row is the cause, if a stage
    /// or the source ends unexpectedly, or if the batches in flight could not be stored in time;
    /// nothing is lost, the next run reads them again.
    pub async fn run(
        self,
        mut source: Source,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), PipelineError> {
        let (batches, raw) = mpsc::channel(BATCHES_AHEAD);
        // A capacity of one is enough, because the model has its own queue of rows.
        let (prepared, ready) = mpsc::channel(1);
        let (finished, scored) = mpsc::channel(BATCHES_TOGETHER_MAX);
        let this = Arc::new(self);
        let control = source.control.clone();

        let prepare = tokio::spawn(this.clone().prepare(raw, prepared));
        let score = tokio::spawn(Self::score(ready, finished));
        let retry_wait_max = this.settings.retry_wait_max;
        let (store, lineup) = (this.store.clone(), this.lineup.clone());
        let committer =
            Committer::new(store, control, retry_wait_max, lineup, this.readiness.clone());
        let mut commit = tokio::spawn(committer.run(scored));

        // Stopping drops intake with its incomplete batch, because that batch must not overtake
        // one that waits for the channel. The next run reads those records again.
        let early = tokio::select! {
            // In this order, so that a simulation can be repeated.
            biased;
            () = this.intake(&mut source.events, batches) => None,
            () = stop => None,
            outcome = &mut commit => Some(joined(outcome)),
        };
        let stored = match early {
            Some(Ok(())) => Err(PipelineError::Stage("storing".into())),
            Some(failed) => failed,
            None => match tokio::time::timeout(this.settings.drain_max, &mut commit).await {
                Ok(outcome) => joined(outcome),
                Err(_) => Err(PipelineError::DrainTooLong(this.settings.drain_max)),
            },
        };
        commit.abort();
        // The source leaves its group only now, when everything is stored for the next owner.
        drop(source.events);
        for stage in [prepare, score] {
            stage.abort();
            match stage.await {
                Err(error) if error.is_cancelled() => {}
                ended => joined(ended)?,
            }
        }
        wait_until_left(source.thread).await?;
        stored
    }

    /// Collects records into batches; a partition change closes the current batch.
    async fn intake(
        &self,
        events: &mut mpsc::Receiver<Event>,
        batches: mpsc::Sender<Item<Vec<Record>>>,
    ) {
        let mut batcher = Batcher::new(self.settings.batching);
        loop {
            let wait = batcher
                .deadline()
                .map_or(Duration::MAX, |at| at.saturating_sub(self.clock.elapsed()));
            let event = match tokio::time::timeout(wait, events.recv()).await {
                Ok(Some(event)) => Some(event),
                Ok(None) => break,
                Err(_) => None,
            };
            let now = self.clock.elapsed();
            let (closed, item) = match event {
                Some(Event::Record(record)) => (batcher.push(record, now), None),
                Some(Event::Assigned(positions)) => {
                    (batcher.flush(), Some(Item::Assigned(positions)))
                }
                Some(Event::Revoked { partitions, done }) => {
                    (batcher.flush(), Some(Item::Revoked { partitions, done }))
                }
                Some(Event::AtEnd(partition)) => (batcher.flush(), Some(Item::AtEnd(partition))),
                None => (batcher.poll(now), None),
            };
            let closed = closed.map(|(rows, reason)| {
                tracing::trace!(rows = rows.len(), ?reason, "batch closed");
                let span = batch_span(&rows);
                Item::Batch(rows, span)
            });
            for item in closed.into_iter().chain(item) {
                if batches.send(item).await.is_err() {
                    return;
                }
            }
        }
        if let Some((rows, _)) = batcher.flush() {
            let span = batch_span(&rows);
            let _ = batches.send(Item::Batch(rows, span)).await;
        }
    }

    /// Decodes and encodes batches, several at a time, and forwards them in order.
    async fn prepare(
        self: Arc<Self>,
        mut raw: mpsc::Receiver<Item<Vec<Record>>>,
        prepared: mpsc::Sender<Item<Encoded>>,
    ) -> Result<(), PipelineError> {
        let mut items = stream::poll_fn(move |context| raw.poll_recv(context))
            .map(|item: Item<Vec<Record>>| async {
                match item.forward_or_batch() {
                    Ok(item) => Ok(item),
                    Err((records, span)) => {
                        let encoded = self.clone().encode(records, &span).await;
                        encoded.map(|encoded| Item::Batch(encoded, span))
                    }
                }
            })
            .buffered(BATCHES_PREPARED_MAX);
        while let Some(item) = items.next().await {
            if prepared.send(item?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Decodes the records, finds their brands and encodes their texts, outside the async
    /// threads. Waits for a model that is not loaded yet.
    async fn encode(
        self: Arc<Self>,
        mut records: Vec<Record>,
        batch: &Span,
    ) -> Result<Encoded, PipelineError> {
        let mut changes = self.lineup.subscribe();
        loop {
            let lineup = changes.borrow_and_update().clone();
            let span = tracing::debug_span!(parent: batch, "decode", rows = records.len() as i64);
            let this = self.clone();
            let work = move || {
                let _entered = span.entered();
                this.encode_with(records, &lineup)
            };
            let encoded = tokio::task::spawn_blocking(work).await;
            match encoded.map_err(|error| PipelineError::Stage(error.to_string()))? {
                Ok(encoded) => return Ok(encoded),
                Err(waiting) => records = waiting,
            }
            // The pipeline owns a sender, so this ends with the pipeline only.
            let _ = changes.changed().await;
        }
    }

    /// `Err` with the records if a model is missing.
    fn encode_with(&self, records: Vec<Record>, lineup: &Lineup) -> Result<Encoded, Vec<Record>> {
        let now = self.clock.now();
        let mut models: Vec<(ModelHandle, bool)> = Vec::new();
        let mut decoded = Vec::with_capacity(records.len());
        // Counted at the end: a batch that waits for a model is decoded again.
        let (mut notices, mut cut) = (Vec::new(), 0);
        for record in &records {
            let read = ingest::decode(&record.raw(), &self.settings.limits, now);
            let tweet = match read.content {
                Ok(Content::Tweet(tweet)) => tweet,
                Ok(Content::Notice(notice)) => {
                    notices.push(notice.reason());
                    if let Notice::Limit(tweets) = notice {
                        tracing::warn!(
                            tweets,
                            "X left out tweets: its rules match more than it sends"
                        );
                    }
                    let removal = notice.removes().map(|(id, why)| Removal {
                        tweet_id: id.clone(),
                        why,
                        keeps_count: self.settings.count_deleted,
                    });
                    decoded.push((Ok(removal.map_or(Outcome::Notice, Outcome::Removal)), None));
                    continue;
                }
                Err(rejected) => {
                    decoded.push((Err(rejected), None));
                    continue;
                }
            };
            cut += u64::from(tweet.is_cut);
            let text = SourceText::new(&tweet.text);
            let language = tweet.language.or_else(|| detect_in(&text));
            let to_score = match lineup.choose(Minute::of(tweet.created_at), language) {
                Choice::Waits => return Err(records),
                Choice::NotJudged => None,
                Choice::Model { model, of_language } => {
                    let is = |known: &(ModelHandle, bool)| {
                        known.0.id() == model.id() && known.1 == of_language
                    };
                    let known = models.iter().position(is);
                    let place = known.unwrap_or(models.len());
                    if known.is_none() {
                        models.push((model.clone(), of_language));
                    }
                    let encoding = model.encoder().encode_text(&text);
                    counter!(telemetry::TRUNCATED).increment(u64::from(encoding.truncated));
                    Some((place, encoding))
                }
            };
            let brands = self.brands.matches_in(&text, &tweet.rule_tags);
            let heard = self.settings.counting.heard(&tweet, &brands);
            let tweet = tweet.with_language(language);
            decoded.push((Ok(Outcome::Tweet(Matched { tweet, brands, heard })), to_score));
        }
        for reason in notices {
            counter!(telemetry::NOTICES, "reason" => reason).increment(1);
        }
        counter!(telemetry::CUT).increment(cut);
        let rows = records.into_iter().zip(decoded).map(|(mut record, (outcome, to_score))| {
            record.keep_beginning();
            let origin = Origin {
                partition: record.partition,
                offset: record.offset,
                // A timestamp in the future comes from a producer's wrong clock.
                record_time: record.timestamp.map(|at| at.min(now)),
                payload: record.payload,
                payload_bytes: record.payload_bytes,
                _weight: record.weight,
            };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(rejected) => {
                    let letter = origin.dead_letter(rejected.kind(), &rejected.to_string());
                    Outcome::DeadLetter(letter)
                }
            };
            (Prepared { origin, outcome }, to_score)
        });
        Ok(Encoded { rows: rows.collect(), models })
    }

    /// Scores batches, several at a time, and forwards them in order.
    async fn score(
        mut ready: mpsc::Receiver<Item<Encoded>>,
        finished: mpsc::Sender<Item<Vec<Row>>>,
    ) -> Result<(), PipelineError> {
        let mut items = stream::poll_fn(move |context| ready.poll_recv(context))
            .map(|item: Item<Encoded>| async {
                match item.forward_or_batch() {
                    Ok(item) => Ok(item),
                    Err((encoded, span)) => {
                        let rows = encoded.score().instrument(span.clone()).await;
                        rows.map(|rows| Item::Batch(rows, span))
                    }
                }
            })
            .buffered(BATCHES_SCORED_MAX);
        while let Some(item) = items.next().await {
            if finished.send(item?).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Encoded {
    /// Scores each row with its model. A row that cannot be scored becomes a dead letter.
    async fn score(self) -> Result<Vec<Row>, PipelineError> {
        let Self { models, rows } = self;
        histogram!(telemetry::BATCH_ROWS).record(rows.len() as f64);
        let mut encodings: Vec<Vec<Encoding>> = models.iter().map(|_| Vec::new()).collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(prepared, encoded)| {
                let scored_by = encoded.map(|(place, encoding)| {
                    let truncated = encoding.truncated;
                    encodings[place].push(encoding);
                    (place, truncated)
                });
                (prepared, scored_by)
            })
            .collect();
        let scores = models.iter().zip(encodings).map(async |((model, _), encodings)| {
            let span =
                tracing::debug_span!("score", rows = encodings.len() as i64, model = %model.id());
            let scored = model.classify(encodings).instrument(span).await;
            Ok(scored.map_err(|error| PipelineError::Stage(error.to_string()))?.into_iter())
        });
        let mut scores: Vec<_> = try_join_all(scores).await?;
        let finish = |(Prepared { origin, outcome }, scored_by): (Prepared, Option<_>)| {
            let outcome = outcome.and_then(|Matched { tweet, brands, heard }| {
                let Some((place, truncated)): Option<(usize, bool)> = scored_by else {
                    return Ok(ScoredTweet { tweet, brands, score: None, heard });
                };
                let probabilities = scores[place]
                    .next()
                    .expect("one score per encoding")
                    .map_err(|error| origin.dead_letter(MODEL_FAILS, &error.to_string()))?;
                let (model, of_language) = &models[place];
                let score = ModelScore {
                    score: Score::new(probabilities, model.thresholds()),
                    truncated,
                    model: model.id().to_string(),
                    of_language: *of_language,
                };
                Ok(ScoredTweet { tweet, brands, score: Some(score), heard })
            });
            Row { origin, outcome }
        };
        Ok(rows.into_iter().map(finish).collect())
    }
}

/// The span of a batch, with the offsets of each partition in it.
fn batch_span(records: &[Record]) -> Span {
    let span = tracing::debug_span!(
        "batch",
        otel.kind = "consumer",
        // OpenTelemetry has no unsigned numbers.
        rows = records.len() as i64,
        partitions = tracing::field::Empty
    );
    if !span.is_disabled() {
        let mut ranges: BTreeMap<&TopicPartition, (Offset, Offset)> = BTreeMap::new();
        for record in records {
            let range = ranges.entry(&record.partition).or_insert((record.offset, record.offset));
            *range = (range.0.min(record.offset), range.1.max(record.offset));
        }
        let ranges = ranges.iter().take(PARTITIONS_NAMED_MAX);
        let named: Vec<_> =
            ranges.map(|(partition, (from, to))| format!("{partition}: {from}..={to}")).collect();
        span.record("partitions", named.join(", "));
    }
    span
}

/// Waits for the source to leave its group, so that another member takes over at once. The
/// wait is short, because an unavailable broker does not answer.
async fn wait_until_left(source: JoinHandle<Result<(), String>>) -> Result<(), PipelineError> {
    let mut waited = Duration::ZERO;
    while !source.is_finished() && waited < LEAVE_MAX {
        tokio::time::sleep(LEAVE_POLL).await;
        waited += LEAVE_POLL;
    }
    if !source.is_finished() {
        return Ok(());
    }
    match source.join() {
        Ok(ended) => ended.map_err(PipelineError::Stage),
        Err(_) => Err(PipelineError::Stage("the source's thread panicked".into())),
    }
}

/// The result of a stage; a panic is an error too.
fn joined(
    outcome: Result<Result<(), PipelineError>, tokio::task::JoinError>,
) -> Result<(), PipelineError> {
    outcome.unwrap_or_else(|error| Err(PipelineError::Stage(error.to_string())))
}
