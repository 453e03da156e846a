//! The thread that owns the model.
//!
//! The stream hands in batches of encoded rows ([`ModelHandle::classify`]), other callers a few
//! that they wait for ([`ModelHandle::answer`]). All rows wait in one [`LaneQueue`], where the two
//! kinds take turns, and which chooses the rows of each pass by tokens, length and age. Rows leave the
//! queue when they have a score; if memory runs out, they stay, and the queue plans smaller passes.
//! Texts to explain are few and do not wait in it: they are computed between two passes.
//!
//! **Invariant.** Every row gets its own answer, in order, independent of the other callers'
//! rows. A pass that fails or panics is bisected until the failing rows are alone, and the
//! others are scored. If the device fails, no row is at fault: the thread ends, and the
//! callers get [`WorkerGone`], so no tweet is dead-lettered because of a broken GPU. Of the stream,
//! at most [`QUEUE_ROWS_MAX`] rows, the rest of one batch and [`CALLERS_MAX`] batches wait, so
//! the next pass is ready when the model is, and the model never waits while a row does.
//! Deliberately absent: choosing the rows of a pass (see [`LaneQueue`]), and a limit on the rows that
//! wait for an answer: whoever lets their callers in refuses more (`monitor-serve`).

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use metrics::{gauge, histogram};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use monitor_core::batching::{Lane, LaneQueue, PassLimits, PassPolicy};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Classes, LabelThresholds, Language, Probabilities};
use monitor_telemetry as telemetry;

use super::{
    Classifier, ClassifyError, Encoder, Encoding, Explanation, Fault, Model, ModelId, explain,
    has_less, knows, panic_message,
};

/// Batches of the stream that wait in the channel; a further one waits before it.
const CALLERS_MAX: usize = 2;
/// The same for callers who wait for an answer; far more than any of them lets in.
const ANSWERS_MAX: usize = 4 * 1024;
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
    answer: oneshot::Sender<Answered>,
}

/// The scores of one caller's rows, and how long they took.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Probabilities of each row, or why that row has none; in order.
    pub scores: Vec<Result<Probabilities, ClassifyError>>,
    /// From the call to the first pass with one of the rows.
    pub waited: Duration,
    /// From then on to the last score.
    pub computed: Duration,
}

/// The texts of one caller who wants them explained.
struct Question {
    texts: Vec<String>,
    /// Of the handle.
    id: ModelId,
    encoder: Arc<dyn Encoder>,
    answer: oneshot::Sender<Vec<Result<Explanation, ClassifyError>>>,
}

/// What comes through the stream's channel.
enum Request {
    Score(Job),
    Explain(Question),
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
    classes: Classes,
    languages: Arc<[Language]>,
    thresholds: LabelThresholds,
    encoder: Arc<dyn Encoder>,
    clock: SystemClock,
    jobs: mpsc::Sender<Request>,
    answers: mpsc::Sender<Job>,
}

impl ModelHandle {
    /// Moves the model to a new thread.
    pub fn spawn(model: Model) -> Self {
        let (handle, work) = Self::new(model);
        let runtime = runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers");
        thread::Builder::new()
            .name("model".into())
            .spawn(move || runtime.block_on(work))
            .expect("the system can start a thread");
        handle
    }

    /// A handle, and the work of its model's thread. A simulation runs it as a task instead: its time stands
    /// still while a task works, but not while a thread does.
    pub fn new(model: Model) -> (Self, impl Future<Output = ()> + Send) {
        let Model { id, classes, languages, thresholds, encoder, classifier } = model;
        let (jobs, stream) = mpsc::channel(CALLERS_MAX);
        let (answers, callers) = mpsc::channel(ANSWERS_MAX);
        let clock = SystemClock::new();
        let work = Worker::new(classifier, clock).run(Coming { stream, callers });
        let languages = languages.into();
        (Self { id, classes, languages, thresholds, encoder, clock, jobs, answers }, work)
    }

    /// The model's id.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// The classes that it tells apart.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// The languages that it knows; none: any language.
    pub fn languages(&self) -> &[Language] {
        &self.languages
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
        let job = Request::Score(Job { rows, since, answer });
        self.jobs.send(job).await.map_err(|_| WorkerGone)?;
        Ok(answered.await.map_err(|_| WorkerGone)?.scores)
    }

    /// As [`ModelHandle::classify`], for a caller who waits for the answer: passes of such rows and of
    /// the stream's take turns. The caller limits how many rows wait.
    ///
    /// # Errors
    /// [`WorkerGone`] if the model's thread has ended.
    pub async fn answer(&self, rows: Vec<Encoding>) -> Result<Answered, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let job = Job { rows, since: self.clock.elapsed(), answer };
        self.answers.send(job).await.map_err(|_| WorkerGone)?;
        answered.await.map_err(|_| WorkerGone)
    }

    /// What each word of each text adds to the log-odds of negative, or why that text has no
    /// explanation; in order. Dropping the future cancels the texts that have not begun.
    ///
    /// # Errors
    /// [`WorkerGone`] if the model's thread has ended.
    pub async fn explain(
        &self,
        texts: Vec<String>,
    ) -> Result<Vec<Result<Explanation, ClassifyError>>, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let (id, encoder) = (self.id.clone(), self.encoder());
        let question = Request::Explain(Question { texts, id, encoder, answer });
        self.jobs.send(question).await.map_err(|_| WorkerGone)?;
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
    /// When the first pass with one of its rows began.
    began: Option<Duration>,
    answer: oneshot::Sender<Answered>,
    scores: Vec<Option<RowScore>>,
    missing: usize,
}

/// What callers have sent and the thread has not taken yet.
struct Coming {
    stream: mpsc::Receiver<Request>,
    callers: mpsc::Receiver<Job>,
}

impl Coming {
    /// Waits for the next request, and whose it is; `None` when the last handle is gone.
    async fn next(&mut self) -> Option<(Lane, Request)> {
        let Self { stream, callers } = self;
        tokio::select! {
            biased;
            Some(job) = callers.recv() => Some((Lane::Callers, Request::Score(job))),
            Some(request) = stream.recv() => Some((Lane::Stream, request)),
            else => None,
        }
    }
}

struct Worker {
    classifier: Box<dyn Classifier>,
    clock: SystemClock,
    queue: LaneQueue<QueuedRow>,
    /// Rows of the stream's newest job that do not fit into the queue. The stream's next job is
    /// accepted only when this is empty.
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
        let queue = LaneQueue::new(policy);
        Self { classifier, clock, queue, overflow: VecDeque::new(), open: BTreeMap::new(), jobs: 0 }
    }

    async fn run(mut self, mut coming: Coming) {
        if let Err(error) = self.work(&mut coming).await {
            tracing::error!(
                %error,
                "the device failed, not the rows: check it (nvidia-smi), or set \
                 model.device = \"cpu\", and restart; nothing is lost"
            );
        }
    }

    /// Works until the last handle is gone.
    ///
    /// # Errors
    /// The device failed.
    async fn work(&mut self, coming: &mut Coming) -> Result<(), ClassifyError> {
        loop {
            if self.open.is_empty() {
                let Some((lane, request)) = coming.next().await else { return Ok(()) };
                self.take(lane, request)?;
            }
            while let Ok(job) = coming.callers.try_recv() {
                self.accept(Lane::Callers, job);
            }
            while self.overflow.is_empty()
                && let Ok(request) = coming.stream.try_recv()
            {
                self.take(Lane::Stream, request)?;
            }
            self.drop_cancelled();
            self.compute()?;
            self.fill_queue();
        }
    }

    fn take(&mut self, lane: Lane, request: Request) -> Result<(), ClassifyError> {
        match request {
            Request::Score(job) => {
                self.accept(lane, job);
                Ok(())
            }
            Request::Explain(question) => self.answer(question),
        }
    }

    /// Explains texts, until the caller has cancelled.
    ///
    /// # Errors
    /// The device failed.
    fn answer(&mut self, question: Question) -> Result<(), ClassifyError> {
        let Question { texts, id, encoder, answer } = question;
        let mut found = Vec::with_capacity(texts.len());
        for text in &texts {
            if answer.is_closed() {
                return Ok(());
            }
            let classifier = self.classifier.as_mut();
            let explained = AssertUnwindSafe(|| explain::explain(&id, &*encoder, classifier, text));
            let explained = catch_unwind(explained).unwrap_or_else(|panic| {
                Err(ClassifyError::new(1, format!("panic: {}", panic_message(panic.as_ref()))))
            });
            match explained {
                Err(error) if error.fault == Fault::Device => return Err(error),
                explained => found.push(explained),
            }
        }
        let _ = answer.send(found);
        Ok(())
    }

    fn accept(&mut self, lane: Lane, job: Job) {
        if job.rows.is_empty() {
            let (waited, computed) = (self.clock.elapsed() - job.since, Duration::ZERO);
            // The caller may have cancelled; so below.
            let _ = job.answer.send(Answered { scores: Vec::new(), waited, computed });
            return;
        }
        let (number, missing) = (self.jobs, job.rows.len());
        self.jobs += 1;
        let row = |(place, encoding)| QueuedRow { job: number, place, encoding };
        let rows = job.rows.into_iter().enumerate().map(row);
        match lane {
            Lane::Stream => self.overflow.extend(rows),
            Lane::Callers => {
                for row in rows {
                    let tokens = row.encoding.ids.len();
                    // Only the stream's rows are refused.
                    let _ = self.queue.push(lane, row, tokens, job.since);
                }
            }
        }
        let (since, answer, scores) = (job.since, job.answer, vec![None; missing]);
        self.open.insert(number, OpenJob { since, began: None, answer, scores, missing });
        self.fill_queue();
    }

    fn fill_queue(&mut self) {
        while let Some(row) = self.overflow.pop_front() {
            let tokens = row.encoding.ids.len();
            let since = self.open[&row.job].since;
            if let Err(row) = self.queue.push(Lane::Stream, row, tokens, since) {
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
        let Some((lane, pass)) = self.queue.next_pass(began) else { return Ok(()) };
        let rows = self.queue.rows(lane, &pass);
        let encodings: Vec<&Encoding> = rows.map(|row| &row.encoding).collect();
        let scores = match classify_each(self.classifier.as_mut(), &encodings) {
            Ok(scores) => scores,
            Err(error)
                if error.fault == Fault::Memory && has_less(&*self.classifier, tokens_max) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = self.clock.elapsed();
        let took = now - began;
        histogram!(telemetry::MODEL_BATCH_ROWS).record(scores.len() as f64);
        histogram!(telemetry::MODEL_WAIT_SECONDS).record(pass.waited.as_secs_f64());
        histogram!(telemetry::CLASSIFY_SECONDS).record(took.as_secs_f64());
        if let Some(tokens_max) = self.classifier.tokens_max() {
            gauge!(telemetry::MODEL_TOKENS_MAX).set(tokens_max as f64);
        }
        let (rows, reason) = (scores.len(), pass.reason);
        tracing::trace!(rows, ?lane, pass.tokens, pass.padding, ?reason, ?took, "scored");
        for (row, score) in self.queue.remove(lane, &pass).iter().zip(scores) {
            self.settle(row, score, began, now);
        }
        Ok(())
    }

    /// Records a score of the pass that took from `began` to `now`; answers the caller after the
    /// last one of its job.
    fn settle(&mut self, row: &QueuedRow, score: RowScore, began: Duration, now: Duration) {
        let open = self.open.get_mut(&row.job).expect("a job is open while its rows wait");
        open.scores[row.place] = Some(score);
        open.missing -= 1;
        let began = *open.began.get_or_insert(began);
        if open.missing == 0
            && let Some(open) = self.open.remove(&row.job)
        {
            let (waited, computed) = (began.saturating_sub(open.since), now - began);
            let scores = open.scores.into_iter().flatten().collect();
            let _ = open.answer.send(Answered { scores, waited, computed });
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
