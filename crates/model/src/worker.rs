//! The thread that owns the model.
//!
//! **Invariant.** Every row handed in gets an answer of its own, in order, whatever rows of
//! other callers are computed beside it: a batch that fails or panics is split in halves
//! until the rows at fault stand alone, and the others are scored as if those had not been
//! there. Where the device is at fault no row is: the thread ends, and whoever waits hears
//! [`WorkerGone`], so that no tweet is given up for a GPU that fell ill. At most
//! [`QUEUE_ROWS_MAX`] rows, one caller's more and [`CALLERS_MAX`] callers
//! wait, so that the next batch is ready when the model is, and no model waits while a row
//! does. Deliberately absent: deciding which rows go together (see [`TokenQueue`]).

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use metrics::{gauge, histogram};
use tokio::sync::{mpsc, oneshot};

use super::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelId, words_of};
use monitor_core::batching::{Limits, TokenPolicy, TokenQueue};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Probability;
use monitor_telemetry as telemetry;

/// Callers whose rows have not been looked at yet; a further one waits.
const CALLERS_MAX: usize = 2;
/// Rows among which those of like length are found.
const QUEUE_ROWS_MAX: usize = 16 * 1024;
/// Rows of a batch: bounds it where tokens do not, in a model that pads nothing.
const BATCH_ROWS_MAX: usize = 4 * 1024;
/// A row that has waited this long goes before fuller batches.
const WAIT_MAX: Duration = Duration::from_millis(100);

type Verdict = Result<Probability, ClassifyError>;

/// What one caller handed in.
struct Job {
    rows: Vec<Encoding>,
    since: Duration,
    answer: oneshot::Sender<Vec<Verdict>>,
}

/// The model's thread is no more; only a device that fails, or a bug, ends it while a handle
/// is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that owns the model has ended; what it said last tells why")]
pub struct WorkerGone;

/// Access to a model that runs on a thread of its own. The thread ends with the last
/// clone of the handle.
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

    /// Which model it is.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// Negative from this probability upwards.
    pub fn threshold(&self) -> Probability {
        self.threshold
    }

    /// The half that runs on any thread.
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::clone(&self.encoder)
    }

    /// Probability of "negative" for each row, or why that row has none; in order.
    /// Rows of several callers are computed together. Whoever drops the future takes their
    /// rows back.
    ///
    /// # Errors
    /// [`WorkerGone`]
    pub async fn classify(&self, rows: Vec<Encoding>) -> Result<Vec<Verdict>, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let since = self.clock.elapsed();
        self.jobs.send(Job { rows, since, answer }).await.map_err(|_| WorkerGone)?;
        answered.await.map_err(|_| WorkerGone)
    }
}

/// A row of an open job.
struct Row {
    job: u64,
    /// Its place in the job.
    place: usize,
    encoding: Encoding,
}

/// A job with rows that have no verdict yet.
struct Open {
    since: Duration,
    answer: oneshot::Sender<Vec<Verdict>>,
    verdicts: Vec<Option<Verdict>>,
    missing: usize,
}

struct Worker {
    classifier: Box<dyn Classifier>,
    clock: SystemClock,
    queue: TokenQueue<Row>,
    /// Rows of the newest job that the queue has no room for; empty before another is taken.
    at_the_door: VecDeque<Row>,
    open: BTreeMap<u64, Open>,
    jobs: u64,
}

impl Worker {
    fn new(classifier: Box<dyn Classifier>, clock: SystemClock) -> Self {
        let policy = TokenPolicy {
            limits: Limits { tokens_max: usize::MAX, rows_max: BATCH_ROWS_MAX },
            wait_max: WAIT_MAX,
            queue_rows_max: QUEUE_ROWS_MAX,
        };
        let queue = TokenQueue::new(policy);
        Self {
            classifier,
            clock,
            queue,
            at_the_door: VecDeque::new(),
            open: BTreeMap::new(),
            jobs: 0,
        }
    }

    fn run(mut self, mut coming: mpsc::Receiver<Job>) {
        loop {
            if self.open.is_empty() {
                let Some(job) = coming.blocking_recv() else { return };
                self.accept(job);
            }
            while self.at_the_door.is_empty()
                && let Ok(job) = coming.try_recv()
            {
                self.accept(job);
            }
            self.forget_the_abandoned();
            if let Err(error) = self.compute() {
                tracing::error!(
                    %error,
                    "the device that computes failed, not the rows: look at it (nvidia-smi), or \
                     set model.device = \"cpu\", and start again; nothing is lost"
                );
                return;
            }
            self.let_in();
        }
    }

    fn accept(&mut self, job: Job) {
        if job.rows.is_empty() {
            // Whoever asked may have gone meanwhile; so below.
            let _ = job.answer.send(Vec::new());
            return;
        }
        let (number, missing) = (self.jobs, job.rows.len());
        self.jobs += 1;
        let row = |(place, encoding)| Row { job: number, place, encoding };
        self.at_the_door.extend(job.rows.into_iter().enumerate().map(row));
        let verdicts = vec![None; missing];
        let open = Open { since: job.since, answer: job.answer, verdicts, missing };
        self.open.insert(number, open);
        self.let_in();
    }

    fn let_in(&mut self) {
        while let Some(row) = self.at_the_door.pop_front() {
            let tokens = row.encoding.ids.len();
            let since = self.open[&row.job].since;
            if let Err(row) = self.queue.push(row, tokens, since) {
                self.at_the_door.push_front(row);
                break;
            }
        }
        gauge!(telemetry::MODEL_QUEUE_ROWS).set((self.queue.len() + self.at_the_door.len()) as f64);
    }

    fn forget_the_abandoned(&mut self) {
        let before = self.open.len();
        self.open.retain(|_, open| !open.answer.is_closed());
        if self.open.len() < before {
            self.queue.retain(|row| self.open.contains_key(&row.job));
            self.at_the_door.retain(|row| self.open.contains_key(&row.job));
        }
    }

    /// One batch, if a row waits.
    ///
    /// # Errors
    /// The device failed.
    fn compute(&mut self) -> Result<(), ClassifyError> {
        let tokens_max = self.classifier.tokens_max().unwrap_or(usize::MAX);
        self.queue.set_tokens_max(tokens_max);
        let began = self.clock.elapsed();
        let Some(batch) = self.queue.take(began) else { return Ok(()) };
        let rows: Vec<&Encoding> = batch.rows.iter().map(|row| &row.encoding).collect();
        let verdicts = classify_each(self.classifier.as_mut(), &rows)?;
        let took = self.clock.elapsed() - began;
        histogram!(telemetry::MODEL_BATCH_ROWS).record(rows.len() as f64);
        histogram!(telemetry::MODEL_WAIT_SECONDS).record(batch.waited.as_secs_f64());
        histogram!(telemetry::CLASSIFY_SECONDS).record(took.as_secs_f64());
        if let Some(tokens_max) = self.classifier.tokens_max() {
            gauge!(telemetry::MODEL_TOKENS_MAX).set(tokens_max as f64);
        }
        tracing::trace!(rows = rows.len(), batch.tokens, batch.padding, ?batch.closed, ?took, "scored");
        for (row, verdict) in batch.rows.iter().zip(verdicts) {
            self.settle(row, verdict);
        }
        Ok(())
    }

    fn settle(&mut self, row: &Row, verdict: Verdict) {
        let open = self.open.get_mut(&row.job).expect("a job is open while its rows wait");
        open.verdicts[row.place] = Some(verdict);
        open.missing -= 1;
        if open.missing == 0
            && let Some(open) = self.open.remove(&row.job)
        {
            let _ = open.answer.send(open.verdicts.into_iter().flatten().collect());
        }
    }
}

/// Scores all rows, splitting whatever fails.
///
/// # Errors
/// The device failed.
fn classify_each(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<Verdict>, ClassifyError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    match attempt(classifier, rows) {
        Ok(scores) => Ok(scores.into_iter().map(Ok).collect()),
        Err(error) if error.device => Err(error),
        Err(error) if rows.len() == 1 => Ok(vec![Err(error)]),
        Err(error) => {
            tracing::warn!(%error, "splitting the batch to find the row at fault");
            let (left, right) = rows.split_at(rows.len() / 2);
            let mut verdicts = classify_each(classifier, left)?;
            verdicts.extend(classify_each(classifier, right)?);
            Ok(verdicts)
        }
    }
}

/// One call, with a panic or a wrong number of answers turned into an error.
fn attempt(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<Probability>, ClassifyError> {
    let failed = |reason: String| ClassifyError::new(rows.len(), reason);
    let scores = catch_unwind(AssertUnwindSafe(|| classifier.classify(rows)))
        .unwrap_or_else(|panic| Err(failed(format!("panic: {}", words_of(panic.as_ref())))))?;
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

    /// Fails on id 13, panics on id 14, drops a score on id 15, says on id 12 that the device
    /// failed; else answers id / 100.
    struct Fake;

    impl Classifier for Fake {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            let has = |id| batch.iter().any(|row| row.ids.contains(&id));
            if has(13) {
                return Err(ClassifyError::new(batch.len(), "unlucky"));
            }
            if has(12) {
                let reason = "out of order".to_owned();
                return Err(ClassifyError { rows: batch.len(), reason, device: true });
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

    /// A [`Fake`] that computes a batch when told to, keeps what was in it, and takes so
    /// many tokens.
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

    fn check_verdicts(name: &str, ids: &[u32], verdicts: Vec<Verdict>) {
        assert_eq!(verdicts.len(), ids.len(), "{name}");
        for (id, verdict) in ids.iter().zip(verdicts) {
            match verdict {
                Ok(score) => assert_eq!(score.get(), *id as f32 / 100.0, "{name}"),
                Err(error) => {
                    assert!((13..=15).contains(id), "{name}: {id}: {error}");
                    assert_eq!(error.rows, 1, "{name}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_poison_row_stands_alone() {
        let handle = handle(Fake);
        let check = async |name: &str, ids: &[u32]| {
            check_verdicts(name, ids, handle.classify(rows(ids)).await.unwrap());
        };
        check("empty", &[]).await;
        check("sound", &[1, 2, 3]).await;
        check("error in the middle", &[1, 2, 13, 4, 5]).await;
        check("panic first", &[14, 2, 3]).await;
        check("short answer last", &[1, 2, 15]).await;
        check("all sorts", &[13, 1, 14, 2, 15, 13]).await;
        check("alone", &[13]).await;
        check("sound again", &[7]).await;
    }

    /// While the model computes, rows of several callers gather; each gets its own, in order.
    #[tokio::test]
    async fn a_device_that_fails_condemns_no_row() {
        let handle = handle(Fake);
        let (ill, other) = (handle.classify(rows(&[1, 12, 13])), handle.classify(rows(&[2])));
        assert_eq!(ill.await.unwrap_err(), WorkerGone);
        assert_eq!(other.await.unwrap_err(), WorkerGone, "its rows wait for the next run");
    }

    #[tokio::test]
    async fn rows_of_several_callers_travel_together() {
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
        // More steps than batches, however these are split.
        (0..100).for_each(|_| step.send(()).unwrap());
        for (ids, verdicts) in started {
            check_verdicts(&format!("{ids:?}"), &ids, verdicts.await.unwrap());
        }
        let batches = batches.lock().unwrap();
        assert_eq!(batches[0], [1], "the first waits for no other");
        assert!(batches[1].starts_with(&[2, 13, 3, 4, 14]), "{batches:?}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_computed() {
        let (handle, step, batches) = stepped(1);
        let start = |ids: &[u32]| {
            let (handle, ids) = (handle.clone(), rows(ids));
            tokio::spawn(async move { handle.classify(ids).await.unwrap() })
        };
        let gone = start(&[1, 2, 3]);
        while batches.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let kept = start(&[4, 5]);
        while handle.jobs.capacity() == CALLERS_MAX {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        for _ in 0..3 {
            step.send(()).unwrap();
        }
        check_verdicts("kept", &[4, 5], kept.await.unwrap());
        assert_eq!(*batches.lock().unwrap(), [[1], [4], [5]], "one at a time: that is the budget");
    }

    #[tokio::test]
    async fn more_rows_than_the_queue_holds() {
        let handle = handle(Fake);
        let ids: Vec<u32> = (0..3 * QUEUE_ROWS_MAX as u32).map(|n| 20 + n % 80).collect();
        let job = || handle.classify(rows(&ids));
        let (first, second) = tokio::join!(job(), job());
        check_verdicts("first", &ids, first.unwrap());
        check_verdicts("second", &ids, second.unwrap());
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
