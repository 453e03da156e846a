use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use monitor_core::batching::PARTS;

use super::*;

/// Fails on id 13, panics on id 14, drops a score on id 15, reports a device failure on
/// id 12; otherwise returns id / 100.
struct Fake;

impl Classifier for Fake {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
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
            .map(|row| Probabilities::new(row.ids[0] as f32 / 100.0, 0.0).unwrap())
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
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
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
            Ok(score) => assert_eq!(score.negative().get(), *id as f32 / 100.0, "{name}"),
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
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
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
                assert_eq!(scores[0].as_ref().unwrap().negative().get(), id as f32 / 100.0);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// The numbers of a text; 0 if there is none.
struct Numbers;

impl Encoder for Numbers {
    fn encode_text(&self, text: &monitor_core::text::SourceText<'_>) -> Encoding {
        let ids: Vec<u32> = text.raw().split_whitespace().flat_map(str::parse).collect();
        Encoding::new(if ids.is_empty() { vec![0] } else { ids })
    }
}

#[tokio::test]
async fn explains_texts_between_passes() {
    let model =
        || Model { encoder: Arc::new(Numbers), classifier: Box::new(Fake), ..Model::null() };
    let worker = ModelHandle::spawn(model());
    let texts = ["60 5", "13", "14", "40"].map(str::to_owned).to_vec();
    let found = worker.explain(texts).await.unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].as_ref().unwrap(), &model().explain("60 5").unwrap());
    assert!(found[1].as_ref().unwrap_err().reason.contains("unlucky"));
    assert!(found[2].as_ref().unwrap_err().reason.contains("boom"));
    assert!(found[3].is_ok(), "a text that fails does not take the others with it");
    let scores = worker.classify(rows(&[7])).await.unwrap();
    check_scores("still scores", &[7], scores);
    assert!(worker.explain(vec!["12".into()]).await.is_err(), "the device failed");
    assert!(worker.classify(rows(&[7])).await.is_err());
}

/// Callers who wait for an answer and the stream take turns: the order of the passes shows it.
#[tokio::test]
async fn a_caller_waits_for_one_pass_of_the_stream_between_two_of_its_own() {
    let (handle, step, batches) = stepped(PARTS);
    let stream = |ids: &[u32]| {
        let (handle, rows) = (handle.clone(), rows(ids));
        tokio::spawn(async move { handle.classify(rows).await.unwrap() })
    };
    let caller = |ids: &[u32]| {
        let (handle, rows) = (handle.clone(), rows(ids));
        tokio::spawn(async move { handle.answer(rows).await.unwrap() })
    };
    // Computed first, while all others come.
    let first = stream(&[1]);
    while batches.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let backlog = stream(&[20, 21, 22, 23, 24, 25]);
    while handle.jobs.capacity() == CALLERS_MAX {
        tokio::task::yield_now().await;
    }
    let answers = [caller(&[50, 51]), caller(&[60])];
    while handle.answers.capacity() > ANSWERS_MAX - 2 {
        tokio::task::yield_now().await;
    }
    (0..10).for_each(|_| step.send(()).unwrap());
    check_scores("first", &[1], first.await.unwrap());
    check_scores("backlog", &[20, 21, 22, 23, 24, 25], backlog.await.unwrap());
    let [two, one] = answers;
    check_scores("two rows", &[50, 51], two.await.unwrap().scores);
    check_scores("one row", &[60], one.await.unwrap().scores);
    let order: Vec<u32> = batches.lock().unwrap().concat();
    let (callers, stream): (Vec<u32>, Vec<u32>) = order[1..].iter().partition(|id| **id >= 50);
    assert_eq!(stream, [20, 21, 22, 23, 24, 25], "in order");
    assert_eq!(callers.len(), 3);
    let turns: Vec<bool> = order[1..].iter().map(|id| *id >= 50).collect();
    assert_eq!(turns, [true, false, true, false, true, false, false, false, false], "{order:?}");
}

#[tokio::test]
async fn callers_get_errors_of_rows_and_of_the_device() {
    let handle = handle(Fake);
    let answered = handle.answer(rows(&[1, 13, 2])).await.unwrap();
    check_scores("one fails", &[1, 13, 2], answered.scores);
    assert!(handle.answer(Vec::new()).await.unwrap().scores.is_empty());
    assert_eq!(handle.answer(rows(&[12])).await.unwrap_err(), WorkerGone);
    assert_eq!(handle.answer(rows(&[1])).await.unwrap_err(), WorkerGone);
}
