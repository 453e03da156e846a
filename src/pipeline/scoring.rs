//! The models of the stream, for callers of the API.
//!
//! **Invariant.** A text of a caller gets the score that a tweet with this text, written now, would
//! get: the same model, or none where the stream would not judge it. Rows wait in the model's queue of
//! callers, so they take turns with the stream.
//! Deliberately absent: limits and errors of the API (`monitor-serve`), and loading (`models.rs`).

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::Instrument;

use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Minute, Score};
use monitor_core::text::SourceText;
use monitor_core::text::language::detect_in;
use monitor_model::{Encoding, ModelHandle, device};
use monitor_serve::{InferenceLimits, Scored, ScoredText, Scorer, ScorerError, ServedModel};

use super::lineup::{Choice, Lineup};

/// Words of the text that shows how much a model reads; longer than any of ours.
const LONG_WORDS: usize = 2048;

/// Scores texts with the models of a [`Lineup`].
pub struct LineupScorer {
    /// Set once the models are loaded.
    lineup: OnceLock<watch::Receiver<Lineup>>,
    clock: SystemClock,
    device: &'static str,
}

/// A text, the model that scores it, and the place of its encoding among those of that model.
struct Encoded {
    model: Option<(usize, usize)>,
    tokens: usize,
    truncated: bool,
}

/// The texts of a request, encoded.
struct Prepared {
    texts: Vec<Encoded>,
    models: Vec<(ModelHandle, Vec<Encoding>)>,
    /// The model of the stream, which is named where none scores.
    main: ModelHandle,
}

impl LineupScorer {
    /// A scorer without models yet, for the device of the settings.
    pub fn new(model: &config::Model) -> Self {
        // An unknown device is reported when the models are opened.
        let is_cuda = device(&model.device).is_ok_and(|device| device.is_cuda());
        let device = if is_cuda { "cuda" } else { "cpu" };
        Self { lineup: OnceLock::new(), clock: SystemClock::new(), device }
    }

    /// Starts to answer.
    pub fn open(&self, lineup: watch::Receiver<Lineup>) {
        // A second call would bring the same models.
        let _ = self.lineup.set(lineup);
    }

    fn lineup(&self) -> Result<Lineup, ScorerError> {
        self.lineup.get().map(|it| it.borrow().clone()).ok_or(ScorerError::Loading)
    }

    fn now(&self) -> Minute {
        Minute::of(self.clock.now())
    }
}

/// The loaded model `name` or `name@version`; of several versions, the one that scores the stream.
fn named(lineup: &Lineup, now: Minute, name: &str) -> Result<ModelHandle, ScorerError> {
    let is = |model: &&ModelHandle| model.id().name == name || model.id().to_string() == name;
    let main = lineup.main_for(now).filter(is);
    main.or_else(|| lineup.models().find(is)).cloned().ok_or_else(|| ScorerError::Unknown {
        name: name.to_owned(),
        known: lineup.ids().collect(),
    })
}

/// Encodes each text for the model `named`, or for the one of the stream.
fn prepare(
    lineup: &Lineup,
    now: Minute,
    named: Option<&ModelHandle>,
    texts: &[String],
) -> Result<Prepared, ScorerError> {
    let main = named.or_else(|| lineup.main_for(now)).ok_or(ScorerError::Loading)?.clone();
    let mut models: Vec<(ModelHandle, Vec<Encoding>)> = Vec::new();
    let mut found = Vec::with_capacity(texts.len());
    for text in texts {
        let text = SourceText::new(text);
        let language = detect_in(&text);
        let choice = match named {
            Some(model) if model.knows(language) => Choice::Model { model, of_language: false },
            Some(_) => Choice::NotJudged,
            None => lineup.choose(now, language),
        };
        let model = match choice {
            Choice::Model { model, .. } => model,
            Choice::NotJudged => {
                found.push(Encoded { model: None, tokens: 0, truncated: false });
                continue;
            }
            Choice::Waits => return Err(ScorerError::Loading),
        };
        let encoding = model.encoder().encode_text(&text);
        let known = models.iter().position(|(known, _)| known.id() == model.id());
        let place = known.unwrap_or(models.len());
        if known.is_none() {
            models.push((model.clone(), Vec::new()));
        }
        let rows = &mut models[place].1;
        let (tokens, truncated) = (encoding.ids.len(), encoding.truncated);
        found.push(Encoded { model: Some((place, rows.len())), tokens, truncated });
        rows.push(encoding);
    }
    Ok(Prepared { texts: found, models, main })
}

/// The longest text that the model reads whole, in tokens; `None` if it reads a very long one.
fn tokens_max(model: &ModelHandle) -> Option<usize> {
    let encoding = model.encoder().encode(&"word ".repeat(LONG_WORDS));
    encoding.truncated.then_some(encoding.ids.len())
}

fn served(model: &ModelHandle) -> ServedModel {
    ServedModel {
        name: model.id().name.clone(),
        version: model.id().version,
        labels: model.classes().labels(),
        languages: model.languages().to_vec(),
        tokens_max: tokens_max(model),
    }
}

#[async_trait]
impl Scorer for LineupScorer {
    fn models(&self) -> Vec<ServedModel> {
        let Ok(lineup) = self.lineup() else { return Vec::new() };
        let Some(main) = lineup.main_for(self.now()) else { return Vec::new() };
        let others = lineup.models().filter(|model| model.id() != main.id());
        std::iter::once(main).chain(others).map(served).collect()
    }

    fn device(&self) -> &'static str {
        self.device
    }

    async fn score(&self, model: Option<&str>, texts: Vec<String>) -> Result<Scored, ScorerError> {
        let (lineup, now) = (self.lineup()?, self.now());
        let named = model.map(|name| named(&lineup, now, name)).transpose()?;
        let began = self.clock.elapsed();
        let prepared = spawn_blocking(move || prepare(&lineup, now, named.as_ref(), &texts));
        let prepared = prepared.await.map_err(|_| ScorerError::Gone)??;
        let tokenized = self.clock.elapsed().saturating_sub(began);
        let Prepared { texts, models, main } = prepared;
        let answers = models.into_iter().map(|(model, rows)| async move {
            let span = tracing::debug_span!("score", rows = rows.len() as i64, model = %model.id());
            let answered = model.answer(rows).instrument(span).await;
            let answered = answered.map_err(|_| ScorerError::Gone)?;
            Ok::<_, ScorerError>((model, answered))
        });
        let answers = try_join_all(answers).await?;
        let longest = |of: fn(&monitor_model::Answered) -> Duration| {
            answers.iter().map(|(_, answered)| of(answered)).max().unwrap_or_default()
        };
        let (queued, computed) = (longest(|it| it.waited), longest(|it| it.computed));
        let finish = |Encoded { model, tokens, truncated }: Encoded| {
            let (handle, score) = match model {
                None => (&main, None),
                Some((place, row)) => {
                    let (handle, answered) = &answers[place];
                    let probabilities = answered.scores[row].clone();
                    let probabilities = probabilities.map_err(|error| error.to_string())?;
                    (handle, Some(Score::new(probabilities, handle.thresholds())))
                }
            };
            let (model, labels) = (handle.id().to_string(), handle.classes().labels());
            Ok(ScoredText { model, labels, score, tokens, truncated })
        };
        let texts = texts.into_iter().map(finish).collect();
        Ok(Scored { texts, tokenized, queued, computed })
    }
}

/// The limits of the settings, for `monitor-serve`.
pub fn inference_limits(serve: &config::Serve) -> InferenceLimits {
    InferenceLimits {
        rows_waiting_max: serve.rows_waiting_max,
        batch_rows_max: serve.batch_rows_max,
        body_bytes_max: serve.body_bytes_max,
    }
}

#[cfg(test)]
mod tests {
    use monitor_model::Model;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn answers_only_once_the_models_are_loaded() {
        let scorer = LineupScorer::new(&config::Model::default());
        assert!(scorer.models().is_empty());
        let early = scorer.score(None, texts(&["a"])).await;
        assert_eq!(early.unwrap_err(), ScorerError::Loading);
        let lineup = watch::Sender::new(Lineup::of(ModelHandle::spawn(Model::null())));
        scorer.open(lineup.subscribe());
        assert_eq!(scorer.models().len(), 1);
        let scored = scorer.score(None, texts(&["a", "b"])).await.unwrap();
        assert_eq!(scored.texts.len(), 2);
        assert!(scored.texts.iter().all(|text| text.as_ref().unwrap().score.is_some()));
        let unknown = scorer.score(Some("bert"), texts(&["a"])).await.unwrap_err();
        assert!(
            unknown.to_string().starts_with("there is no model \"bert\"; there is "),
            "{unknown}"
        );
        let id = Model::null().id;
        for name in [id.name.clone(), id.to_string()] {
            let scored = scorer.score(Some(&name), texts(&["a"])).await.unwrap();
            assert_eq!(scored.texts[0].as_ref().unwrap().model, id.to_string());
        }
    }

    #[tokio::test]
    async fn a_language_that_the_model_does_not_know_is_not_judged() {
        let model = Model { languages: vec!["en".parse().unwrap()], ..Model::null() };
        let scorer = LineupScorer::new(&config::Model::default());
        let lineup = watch::Sender::new(Lineup::of(ModelHandle::spawn(model)));
        scorer.open(lineup.subscribe());
        let mixed = texts(&["encore un vol annulé, c'est vraiment la honte", "we love you all"]);
        for name in [None, Some(Model::null().id.name)] {
            let scored = scorer.score(name.as_deref(), mixed.clone()).await.unwrap();
            let judged: Vec<bool> =
                scored.texts.iter().map(|text| text.as_ref().unwrap().score.is_some()).collect();
            assert_eq!(judged, [false, true], "{name:?}");
        }
    }
}
