//! The thread that owns the model.
//!
//! **Invariant.** Every row handed in gets an answer of its own, in order: a batch that
//! fails or panics is split in halves until the rows at fault stand alone, and the others
//! are scored as if those had not been there. [`QUEUE_BATCHES_MAX`] batches wait at most,
//! so the next one is ready when the model is. Deliberately absent: deciding when a batch
//! is full.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelId};
use crate::clock::{Clock, SystemClock};
use crate::domain::Probability;
use crate::telemetry;

/// Batches that wait for the model; a further one makes its sender wait.
const QUEUE_BATCHES_MAX: usize = 2;

type Verdicts = Vec<Result<Probability, ClassifyError>>;

struct Job {
    batch: Vec<Encoding>,
    answer: oneshot::Sender<Verdicts>,
}

/// The model's thread is no more; only a bug ends it while a handle is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that owns the model has ended")]
pub struct WorkerGone;

/// Access to a model that runs on a thread of its own. The thread ends with the last
/// clone of the handle.
#[derive(Clone)]
pub struct ModelHandle {
    id: ModelId,
    threshold: Probability,
    encoder: Arc<dyn Encoder>,
    jobs: mpsc::Sender<Job>,
}

impl ModelHandle {
    /// Moves the model to a new thread.
    pub fn spawn(model: Model) -> Self {
        let Model { id, threshold, encoder, mut classifier } = model;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_BATCHES_MAX);
        thread::Builder::new()
            .name("model".into())
            .spawn(move || {
                let clock = SystemClock::new();
                while let Some(job) = queue.blocking_recv() {
                    if job.answer.is_closed() {
                        continue;
                    }
                    let began = clock.elapsed();
                    let rows: Vec<&Encoding> = job.batch.iter().collect();
                    let verdicts = classify_each(classifier.as_mut(), &rows);
                    metrics::histogram!(telemetry::CLASSIFY_SECONDS)
                        .record((clock.elapsed() - began).as_secs_f64());
                    // Whoever asked may have gone meanwhile.
                    let _ = job.answer.send(verdicts);
                }
            })
            .expect("the system can start a thread");
        Self { id, threshold, encoder, jobs }
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
    /// Waits while [`QUEUE_BATCHES_MAX`] batches stand before this one.
    ///
    /// # Errors
    /// [`WorkerGone`]
    pub async fn classify(&self, batch: Vec<Encoding>) -> Result<Verdicts, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { batch, answer }).await.map_err(|_| WorkerGone)?;
        answered.await.map_err(|_| WorkerGone)
    }
}

/// Scores all rows, splitting whatever fails.
fn classify_each(classifier: &mut dyn Classifier, rows: &[&Encoding]) -> Verdicts {
    if rows.is_empty() {
        return Vec::new();
    }
    match attempt(classifier, rows) {
        Ok(scores) => scores.into_iter().map(Ok).collect(),
        Err(error) if rows.len() == 1 => vec![Err(error)],
        Err(error) => {
            tracing::warn!(%error, "splitting the batch to find the row at fault");
            let (left, right) = rows.split_at(rows.len() / 2);
            let mut verdicts = classify_each(classifier, left);
            verdicts.extend(classify_each(classifier, right));
            verdicts
        }
    }
}

/// One call, with a panic or a wrong number of answers turned into an error.
fn attempt(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<Probability>, ClassifyError> {
    let failed = |reason| ClassifyError { rows: rows.len(), reason };
    let scores = catch_unwind(AssertUnwindSafe(|| classifier.classify(rows)))
        .unwrap_or_else(|panic| Err(failed(format!("panic: {}", words_of(panic.as_ref())))))?;
    if scores.len() == rows.len() {
        Ok(scores)
    } else {
        Err(failed(format!("{} scores for {} rows", scores.len(), rows.len())))
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails on id 13, panics on id 14, drops a score on id 15; else answers id / 100.
    struct Fake;

    impl Classifier for Fake {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            let has = |id| batch.iter().any(|row| row.ids.contains(&id));
            if has(13) {
                return Err(ClassifyError { rows: batch.len(), reason: "unlucky".into() });
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

    fn handle() -> ModelHandle {
        ModelHandle::spawn(Model { classifier: Box::new(Fake), ..Model::null() })
    }

    #[tokio::test]
    async fn a_poison_row_stands_alone() {
        let handle = handle();
        let check = async |name: &str, ids: &[u32]| {
            let batch = ids.iter().map(|id| Encoding::new(vec![*id])).collect();
            let verdicts = handle.classify(batch).await.unwrap();
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

    #[tokio::test]
    async fn many_senders_get_their_own_answers() {
        let handle = handle();
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
