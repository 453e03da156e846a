//! The thread that owns the model.
//!
//! Callers hand in batches of encoded rows. All rows wait in one [`PassQueue`], which chooses
//! the rows of each pass by tokens, length and age. Rows leave the queue when they have a
//! score; if memory runs out, they stay, and the queue plans smaller passes.
//!
//! **Invariant.** Every row gets its own answer, in order, independent of the other callers'
//! rows. A pass that fails or panics is bisected until the failing rows are alone, and the
//! others are scored. If the device fails, no row is at fault: the thread ends, and the
//! callers get [`WorkerGone`], so no tweet is dead-lettered because of a broken GPU. At most
//! [`QUEUE_ROWS_MAX`] rows, the rest of one caller's batch and [`CALLERS_MAX`] callers wait, so
//! the next pass is ready when the model is, and the model never waits while a row does.
//! Deliberately absent: choosing the rows of a pass (see [`PassQueue`]).

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use metrics::{gauge, histogram};
use tokio::sync::{mpsc, oneshot};

use monitor_core::batching::{PassLimits, PassPolicy, PassQueue};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{LabelThresholds, Language, Probabilities};
use monitor_telemetry as telemetry;

use super::{
    Classifier, ClassifyError, Encoder, Encoding, Fault, Model, ModelId, has_less, knows,
    panic_message,
};

/// Jobs that wait in the channel; a further caller waits.
const CALLERS_MAX: usize = 2;
/// Waiting rows, among which the queue finds rows of similar length.
const QUEUE_ROWS_MAX: usize = 16 * 1024;
/// Rows of a pass: the limit for a model that does not pad and so has no token budget.
const PASS_ROWS_MAX: usize = 4 * 1024;
/// A row that has waited this long goes before fuller passes.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The probabilities of one row, or why it has none.
type RowScore = Result<Probabilities, ClassifyError>;

/// The rows of one caller.
struct Job {
    rows: Vec<Encoding>,
    since: Duration,
    answer: oneshot::Sender<Vec<RowScore>>,
}

/// The model's thread has ended. While a handle exists, only a device failure or a bug ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model's thread has ended; its last log line says why")]
pub struct WorkerGone;

/// Access to a model that runs on its own thread. The thread ends with the last clone of the
/// handle.
#[derive(Clone)]
pub struct ModelHandle {
    id: ModelId,
    languages: Arc<[Language]>,
    thresholds: LabelThresholds,
    encoder: Arc<dyn Encoder>,
    clock: SystemClock,
    jobs: mpsc::Sender<Job>,
}

impl ModelHandle {
    /// Moves the model to a new thread.
    pub fn spawn(model: Model) -> Self {
        let Model { id, languages, thresholds, encoder, classifier, .. } = model;
        let (jobs, coming) = mpsc::channel::<Job>(CALLERS_MAX);
        let clock = SystemClock::new();
        thread::Builder::new()
            .name("model".into())
            .spawn(move || Worker::new(classifier, clock).run(coming))
            .expect("the system can start a thread");
        Self { id, languages: languages.into(), thresholds, encoder, clock, jobs }
    }

    /// The model's id.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// As [`Model::knows`].
    pub fn knows(&self, language: Option<Language>) -> bool {
        knows(&self.languages, language)
    }

    /// From probabilities to labels.
    pub fn thresholds(&self) -> LabelThresholds {
        self.thresholds
    }

    /// The part that runs on any thread.
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::clone(&self.encoder)
    }

    /// Probabilities of each row, or why that row has none; in order.
    /// Rows of several callers are computed together. Dropping the future cancels its rows.
    ///
    /// # Errors
    /// [`WorkerGone`] if the model's thread has ended.
    pub async fn classify(&self, rows: Vec<Encoding>) -> Result<Vec<RowScore>, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let since = self.clock.elapsed();
        self.jobs.send(Job { rows, since, answer }).await.map_err(|_| WorkerGone)?;
        answered.await.map_err(|_| WorkerGone)
    }
}

/// A row of an open job.
struct QueuedRow {
    job: u64,
    /// Its index in the job.
    place: usize,
    encoding: Encoding,
}

/// A job with rows that have no score yet.
struct OpenJob {
    since: Duration,
    answer: oneshot::Sender<Vec<RowScore>>,
    scores: Vec<Option<RowScore>>,
    missing: usize,
}

struct Worker {
    classifier: Box<dyn Classifier>,
    clock: SystemClock,
    queue: PassQueue<QueuedRow>,
    /// Rows of the newest job that do not fit into the queue. The next job is accepted only
    /// when this is empty.
    overflow: VecDeque<QueuedRow>,
    open: BTreeMap<u64, OpenJob>,
    jobs: u64,
}

impl Worker {
    fn new(classifier: Box<dyn Classifier>, clock: SystemClock) -> Self {
        let policy = PassPolicy {
            limits: PassLimits { tokens_max: usize::MAX, rows_max: PASS_ROWS_MAX },
            wait_max: WAIT_MAX,
            queue_rows_max: QUEUE_ROWS_MAX,
        };
        let queue = PassQueue::new(policy);
        Self { classifier, clock, queue, overflow: VecDeque::new(), open: BTreeMap::new(), jobs: 0 }
    }

    fn run(mut self, mut coming: mpsc::Receiver<Job>) {
        loop {
            if self.open.is_empty() {
                let Some(job) = coming.blocking_recv() else { return };
                self.accept(job);
            }
            while self.overflow.is_empty()
                && let Ok(job) = coming.try_recv()
            {
                self.accept(job);
            }
            self.drop_cancelled();
            if let Err(error) = self.compute() {
                tracing::error!(
                    %error,
                    "the device failed, not the rows: check it (nvidia-smi), or set \
                     model.device = \"cpu\", and restart; nothing is lost"
                );
                return;
            }
            self.fill_queue();
        }
    }

    fn accept(&mut self, job: Job) {
        if job.rows.is_empty() {
            // The caller may have cancelled; so below.
            let _ = job.answer.send(Vec::new());
            return;
        }
        let (number, missing) = (self.jobs, job.rows.len());
        self.jobs += 1;
        let row = |(place, encoding)| QueuedRow { job: number, place, encoding };
        self.overflow.extend(job.rows.into_iter().enumerate().map(row));
        let scores = vec![None; missing];
        let open = OpenJob { since: job.since, answer: job.answer, scores, missing };
        self.open.insert(number, open);
        self.fill_queue();
    }

    fn fill_queue(&mut self) {
        while let Some(row) = self.overflow.pop_front() {
            let tokens = row.encoding.ids.len();
            let since = self.open[&row.job].since;
            if let Err(row) = self.queue.push(row, tokens, since) {
                self.overflow.push_front(row);
                break;
            }
        }
        gauge!(telemetry::MODEL_QUEUE_ROWS).set((self.queue.len() + self.overflow.len()) as f64);
    }

    fn drop_cancelled(&mut self) {
        let before = self.open.len();
        self.open.retain(|_, open| !open.answer.is_closed());
        if self.open.len() < before {
            self.queue.retain(|row| self.open.contains_key(&row.job));
            self.overflow.retain(|row| self.open.contains_key(&row.job));
        }
    }

    /// Computes one pass, if a row waits. If memory runs out, the rows stay in the queue for a
    /// smaller pass.
    ///
    /// # Errors
    /// The device failed.
    fn compute(&mut self) -> Result<(), ClassifyError> {
        let tokens_max = self.classifier.tokens_max().unwrap_or(usize::MAX);
        self.queue.set_tokens_max(tokens_max);
        let began = self.clock.elapsed();
        let Some(pass) = self.queue.next_pass(began) else { return Ok(()) };
        let encodings: Vec<&Encoding> = self.queue.rows(&pass).map(|row| &row.encoding).collect();
        let scores = match classify_each(self.classifier.as_mut(), &encodings) {
            Ok(scores) => scores,
            Err(error)
                if error.fault == Fault::Memory && has_less(&*self.classifier, tokens_max) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let took = self.clock.elapsed() - began;
        histogram!(telemetry::MODEL_BATCH_ROWS).record(scores.len() as f64);
        histogram!(telemetry::MODEL_WAIT_SECONDS).record(pass.waited.as_secs_f64());
        histogram!(telemetry::CLASSIFY_SECONDS).record(took.as_secs_f64());
        if let Some(tokens_max) = self.classifier.tokens_max() {
            gauge!(telemetry::MODEL_TOKENS_MAX).set(tokens_max as f64);
        }
        let (rows, reason) = (scores.len(), pass.reason);
        tracing::trace!(rows, pass.tokens, pass.padding, ?reason, ?took, "scored");
        for (row, score) in self.queue.remove(&pass).iter().zip(scores) {
            self.settle(row, score);
        }
        Ok(())
    }

    /// Records a score; answers the caller after the last one of its job.
    fn settle(&mut self, row: &QueuedRow, score: RowScore) {
        let open = self.open.get_mut(&row.job).expect("a job is open while its rows wait");
        open.scores[row.place] = Some(score);
        open.missing -= 1;
        if open.missing == 0
            && let Some(open) = self.open.remove(&row.job)
        {
            let _ = open.answer.send(open.scores.into_iter().flatten().collect());
        }
    }
}

/// Scores all rows; bisects a batch that fails.
///
/// # Errors
/// The device failed, or memory ran out.
fn classify_each(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<RowScore>, ClassifyError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    match attempt(classifier, rows) {
        Ok(scores) => Ok(scores.into_iter().map(Ok).collect()),
        Err(error) if error.fault != Fault::Row => Err(error),
        Err(error) if rows.len() == 1 => Ok(vec![Err(error)]),
        Err(error) => {
            tracing::warn!(%error, "bisecting the batch to find the failing row");
            let (left, right) = rows.split_at(rows.len() / 2);
            let mut scores = classify_each(classifier, left)?;
            scores.extend(classify_each(classifier, right)?);
            Ok(scores)
        }
    }
}

/// One call; a panic or a wrong number of scores becomes an error.
fn attempt(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<Probabilities>, ClassifyError> {
    let failed = |reason: String| ClassifyError::new(rows.len(), reason);
    let scores = catch_unwind(AssertUnwindSafe(|| classifier.classify(rows)))
        .unwrap_or_else(|panic| Err(failed(format!("panic: {}", panic_message(panic.as_ref())))))?;
    if scores.len() == rows.len() {
        Ok(scores)
    } else {
        Err(failed(format!("{} scores for {} rows", scores.len(), rows.len())))
    }
}

#[cfg(test)]
mod tests;
