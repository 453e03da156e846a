//! Finds which words made the example tweets of a notification negative.
//!
//! **Invariant.** A notification waits at most [`WAIT_MAX`], and is sent without marks rather than
//! not at all. A tweet is explained only by the model that scored it: after another version has
//! taken over, tweets scored before have no marks. Deliberately absent: opening earlier versions,
//! which would take memory beside the current one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use monitor_core::words::word_weights;
use monitor_model::{Explanation, WorkerGone};
use monitor_store::Example;

use super::super::lineup::Lineup;

/// A notification waits at most this long for the words of its examples.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Explains examples with the current models.
pub(in crate::pipeline) struct Explainer {
    models: watch::Receiver<Lineup>,
    wait_max: Duration,
}

impl Explainer {
    pub fn new(models: watch::Receiver<Lineup>) -> Self {
        Self { models, wait_max: WAIT_MAX }
    }

    /// The examples, each given with the model that scored it, with the words of those that a
    /// current model scored.
    pub async fn explained(&self, examples: Vec<(Example, String)>) -> Vec<Example> {
        let models = self.models.borrow().clone();
        let mut by_model: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, (_, by)) in examples.iter().enumerate() {
            by_model.entry(by).or_default().push(place);
        }
        let explanations = by_model.into_iter().filter_map(|(by, places)| {
            let model = models.find(by)?;
            let texts = places.iter().map(|place| examples[*place].0.text.clone()).collect();
            Some(async move {
                let found = timeout(self.wait_max, model.explain(texts)).await;
                let found = found.unwrap_or_else(|_| {
                    let wait_max = self.wait_max;
                    tracing::warn!(
                        model = by,
                        ?wait_max,
                        "no words of the example tweets in time; notifying without them"
                    );
                    Ok(Vec::new())
                });
                (by, places, found.unwrap_or_else(|WorkerGone| Vec::new()))
            })
        });
        let mut words = vec![Vec::new(); examples.len()];
        for (model, places, found) in join_all(explanations).await {
            for (place, found) in places.into_iter().zip(found) {
                match found {
                    Ok(Explanation { spans, .. }) => {
                        let spans = spans.into_iter().map(|span| (span.bytes, span.weight));
                        words[place] = word_weights(&examples[place].0.text, spans);
                    }
                    Err(error) => {
                        tracing::warn!(model, %error, "an example tweet cannot be explained");
                    }
                }
            }
        }
        let with_words = |((example, _), words)| Example { words, ..example };
        examples.into_iter().zip(words).map(with_words).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};
    use std::thread::sleep;

    use monitor_core::clock::{Clock, SystemClock};
    use monitor_core::domain::{Classes, Probabilities, Probability};
    use monitor_core::text::SourceText;
    use monitor_model::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelHandle};

    use super::*;

    /// Negative with probability 0.9 if the text says "late", else 0.1; waits for the first row.
    struct Late(Arc<Mutex<Option<mpsc::Receiver<()>>>>);

    impl Encoder for Late {
        fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
            Encoding::new(vec![u32::from(text.raw().contains("late"))])
        }
    }

    impl Classifier for Late {
        fn classify(&mut self, rows: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
            if let Some(gate) = self.0.lock().expect("the lock").take() {
                let _ = gate.recv();
            }
            let negative = |row: &&Encoding| if row.ids[0] == 1 { 0.9 } else { 0.1 };
            let score = |row| Probability::new(negative(row)).map(Probabilities::two);
            rows.iter().map(score).collect::<Result<_, _>>().map_err(|_| unreachable!())
        }
    }

    fn explainer(gate: Option<mpsc::Receiver<()>>, wait_max: Duration) -> Explainer {
        let gate = Arc::new(Mutex::new(gate));
        let model = Model {
            id: "late@2".parse().expect("an id"),
            classes: Classes::Two,
            languages: Vec::new(),
            thresholds: Probability::HALF.into(),
            encoder: Arc::new(Late(gate.clone())),
            classifier: Box::new(Late(gate)),
        };
        Explainer {
            wait_max,
            ..Explainer::new(watch::channel(Lineup::of(ModelHandle::spawn(model))).1)
        }
    }

    fn example(text: &str, model: &str) -> (Example, String) {
        let example = Example {
            tweet_id: "1".into(),
            text: text.into(),
            created_at: SystemClock::new().now(),
            negative: 0.9,
            author: None,
            reach: None,
            alike: 1,
            words: Vec::new(),
        };
        (example, model.into())
    }

    #[tokio::test]
    async fn only_tweets_of_the_current_model_are_explained() {
        let explainer = explainer(None, WAIT_MAX);
        let examples =
            vec![example("so late", "late@1"), example("é so late", "late@2"), example("late", "")];
        let found = explainer.explained(examples).await;
        let words: Vec<_> = found.iter().map(|example| example.words.len()).collect();
        assert_eq!(words, [0, 3, 0]);
        let late = &found[1].words[2];
        assert_eq!((late.word.as_str(), late.chars), ("late", [5, 9]));
        assert!((late.weight - 2.0 * 9f64.ln()).abs() < 1e-4, "{late:?}");
        assert_eq!(found[1].words[1].weight, 0.0);
    }

    #[tokio::test]
    async fn a_slow_model_delays_a_notification_by_the_limit_only() {
        let (open, gate) = mpsc::channel();
        let explainer = explainer(Some(gate), Duration::from_millis(50));
        let clock = SystemClock::new();
        let found = explainer.explained(vec![example("so late", "late@2")]).await;
        assert!(found[0].words.is_empty());
        assert!(clock.elapsed() < Duration::from_secs(1), "{:?}", clock.elapsed());
        drop(open);
        sleep(Duration::from_millis(1));
        let explainer = Explainer { wait_max: WAIT_MAX, ..explainer };
        let found = explainer.explained(vec![example("so late", "late@2")]).await;
        assert_eq!(found[0].words.len(), 2, "the next one is explained");
    }
}
