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
use monitor_core::domain::Probability;
use monitor_telemetry as telemetry;

use super::{
    Classifier, ClassifyError, Encoder, Encoding, Fault, Model, ModelId, has_less, panic_message,
};

/// Jobs that wait in the channel; a further caller waits.
const CALLERS_MAX: usize = 2;
/// Waiting rows, among which the queue finds rows of similar length.
const QUEUE_ROWS_MAX: usize = 16 * 1024;
/// Rows of a pass: the limit for a model that does not pad and so has no token budget.
const PASS_ROWS_MAX: usize = 4 * 1024;
/// A row that has waited this long goes before fuller passes.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The probability of one row, or why it has none.
type RowScore = Result<Probability, ClassifyError>;

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
    threshold: Probability,
    encoder: Arc<dyn Encoder>,
    clock: SystemClock,
    jobs: mpsc::Sender<Job>,
}

impl ModelHandle {
    /// Moves the model to a new thread.
    pub fn spawn(model: Model) -> Self {
        let Model { id, threshold, encoder, classifier } = model;
        let (jobs, coming) = mpsc::channel::<Job>(CALLERS_MAX);
        let clock = SystemClock::new();
        thread::Builder::new()
            .name("model".into())
            .spawn(move || Worker::new(classifier, clock).run(coming))
            .expect("the system can start a thread");
        Self { id, threshold, encoder, clock, jobs }
    }

    /// The model's id.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// A tweet is negative from this probability upwards.
    pub fn threshold(&self) -> Probability {
        self.threshold
    }

    /// The part that runs on any thread.
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::clone(&self.encoder)
    }

    /// Probability of "negative" for each row, or why that row has none; in order.
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
) -> Result<Vec<Probability>, ClassifyError> {
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
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Fails on id 13, panics on id 14, drops a score on id 15, reports a device failure on
    /// id 12; otherwise returns id / 100.
    struct Fake;

    impl Classifier for Fake {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            let has = |id| batch.iter().any(|row| row.ids.contains(&id));
            if has(13) {
                return Err(ClassifyError::new(batch.len(), "unlucky"));
            }
            if has(12) {
                let reason = "out of order".to_owned();
                return Err(ClassifyError { rows: batch.len(), reason, fault: Fault::Device });
            }
            assert!(!has(14), "boom");
            let mut scores: Vec<_> = (batch.iter())
                .map(|row| Probability::new(row.ids[0] as f32 / 100.0).unwrap())
                .collect();
            if has(15) {
                scores.pop();
            }
            Ok(scores)
        }
    }

    /// First ids of the rows of each batch.
    type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

    /// A [`Fake`] that computes one batch for each step, records the batches, and has a token
    /// budget.
    struct Stepped {
        steps: Mutex<Receiver<()>>,
        batches: Batches,
        tokens_max: usize,
    }

    impl Classifier for Stepped {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            self.batches.lock().unwrap().push(batch.iter().map(|row| row.ids[0]).collect());
            self.steps.lock().unwrap().recv().unwrap();
            Fake.classify(batch)
        }
        fn tokens_max(&self) -> Option<usize> {
            Some(self.tokens_max)
        }
    }

    fn handle(classifier: impl Classifier + 'static) -> ModelHandle {
        ModelHandle::spawn(Model { classifier: Box::new(classifier), ..Model::null() })
    }

    fn stepped(tokens_max: usize) -> (ModelHandle, Sender<()>, Batches) {
        let (step, steps) = channel();
        let batches = Arc::new(Mutex::new(Vec::new()));
        let steps = Mutex::new(steps);
        (handle(Stepped { steps, batches: batches.clone(), tokens_max }), step, batches)
    }

    /// Rows of one token each.
    fn rows(ids: &[u32]) -> Vec<Encoding> {
        ids.iter().map(|id| Encoding::new(vec![*id])).collect()
    }

    fn check_scores(name: &str, ids: &[u32], scores: Vec<RowScore>) {
        assert_eq!(scores.len(), ids.len(), "{name}");
        for (id, score) in ids.iter().zip(scores) {
            match score {
                Ok(score) => assert_eq!(score.get(), *id as f32 / 100.0, "{name}"),
                Err(error) => {
                    assert!((13..=15).contains(id), "{name}: {id}: {error}");
                    assert_eq!(error.rows, 1, "{name}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_failing_row_costs_only_itself() {
        let handle = handle(Fake);
        let check = async |name: &str, ids: &[u32]| {
            check_scores(name, ids, handle.classify(rows(ids)).await.unwrap());
        };
        check("empty", &[]).await;
        check("valid", &[1, 2, 3]).await;
        check("error in the middle", &[1, 2, 13, 4, 5]).await;
        check("panic first", &[14, 2, 3]).await;
        check("short answer last", &[1, 2, 15]).await;
        check("all kinds", &[13, 1, 14, 2, 15, 13]).await;
        check("alone", &[13]).await;
        check("valid again", &[7]).await;
    }

    #[tokio::test]
    async fn a_device_failure_blames_no_row() {
        let handle = handle(Fake);
        let (failed, other) = (handle.classify(rows(&[1, 12, 13])), handle.classify(rows(&[2])));
        assert_eq!(failed.await.unwrap_err(), WorkerGone);
        assert_eq!(other.await.unwrap_err(), WorkerGone, "its rows wait for the next run");
    }

    /// While the model computes, rows of several callers gather; each caller gets its own scores,
    /// in order.
    #[tokio::test]
    async fn rows_of_several_callers_share_a_pass() {
        let (handle, step, batches) = stepped(1_000);
        let start = |ids: &[u32]| {
            let (handle, rows) = (handle.clone(), rows(ids));
            (ids.to_vec(), tokio::spawn(async move { handle.classify(rows).await.unwrap() }))
        };
        let mut started = vec![start(&[1])];
        while batches.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        started.extend([&[2, 13, 3][..], &[4, 14], &[15, 5], &[]].map(start));
        while handle.jobs.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        // More steps than batches, even after bisection.
        (0..100).for_each(|_| step.send(()).unwrap());
        for (ids, scores) in started {
            check_scores(&format!("{ids:?}"), &ids, scores.await.unwrap());
        }
        let batches = batches.lock().unwrap();
        assert_eq!(batches[0], [1], "the first does not wait for others");
        assert!(batches[1].starts_with(&[2, 13, 3, 4, 14]), "{batches:?}");
    }

    /// Has memory for `fits` rows, and halves its budget when a batch has more.
    struct SmallMemory {
        fits: usize,
        tokens_max: usize,
        batches: Batches,
    }

    impl Classifier for SmallMemory {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            self.batches.lock().unwrap().push(batch.iter().map(|row| row.ids[0]).collect());
            if batch.len() > self.fits {
                self.tokens_max /= 2;
                let reason = "out of memory".to_owned();
                return Err(ClassifyError { rows: batch.len(), reason, fault: Fault::Memory });
            }
            Fake.classify(batch)
        }
        fn tokens_max(&self) -> Option<usize> {
            Some(self.tokens_max)
        }
    }

    #[tokio::test]
    async fn out_of_memory_plans_smaller_passes() {
        let batches = Batches::default();
        let model = SmallMemory { fits: 2, tokens_max: 8, batches: batches.clone() };
        let ids = [1, 2, 3, 13, 5];
        let scores = handle(model).classify(rows(&ids)).await.unwrap();
        check_scores("all answered", &ids, scores);
        let sizes: Vec<usize> = batches.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 4, 2, 2, 1, 1, 1], "two failures, three passes, one bisected");
    }

    #[tokio::test]
    async fn cancelled_rows_are_not_computed() {
        let (handle, step, batches) = stepped(1);
        let start = |ids: &[u32]| {
            let (handle, ids) = (handle.clone(), rows(ids));
            tokio::spawn(async move { handle.classify(ids).await.unwrap() })
        };
        let cancelled = start(&[1, 2, 3]);
        while batches.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let kept = start(&[4, 5]);
        while handle.jobs.capacity() == CALLERS_MAX {
            tokio::task::yield_now().await;
        }
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        for _ in 0..3 {
            step.send(()).unwrap();
        }
        check_scores("kept", &[4, 5], kept.await.unwrap());
        assert_eq!(*batches.lock().unwrap(), [[1], [4], [5]], "one at a time: that is the budget");
    }

    #[tokio::test]
    async fn scores_more_rows_than_the_queue_holds() {
        let handle = handle(Fake);
        let ids: Vec<u32> = (0..3 * QUEUE_ROWS_MAX as u32).map(|n| 20 + n % 80).collect();
        let job = || handle.classify(rows(&ids));
        let (first, second) = tokio::join!(job(), job());
        check_scores("first", &ids, first.unwrap());
        check_scores("second", &ids, second.unwrap());
    }

    #[tokio::test]
    async fn many_senders_get_their_own_answers() {
        let handle = handle(Fake);
        let tasks: Vec<_> = (16..80u32)
            .map(|id| {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let scores = handle.classify(vec![Encoding::new(vec![id])]).await.unwrap();
                    assert_eq!(scores[0].as_ref().unwrap().get(), id as f32 / 100.0);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
