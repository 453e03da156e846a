//! What differs between families: shape, encoder, recipe.
//!
//! **Invariant.** Rows are encoded by the very encoder that will serve. A further family
//! is one more arm in [`fit`]. Deliberately absent: the loop itself; see `trainer.rs`.

use std::collections::HashMap;

use super::checkpoint::Checkpoint;
use super::linear::{self, HashModel, Settings, TFIDF_LENGTHS, TfidfModel};
use super::trainer::{self, Epoch, Example, Recipe};
use super::vectors::{self, Fitting, Vectors};
use super::{Request, Row, Split, TrainingError};
use crate::classifier::{
    Architecture, Dense, DenseShape, Encoder, Lstm, LstmShape, Network, Pooling, Purpose, Sequence,
    Source, Weights, WordIds,
};
use crate::text::{Ngrams, Preset, Vocabulary};

/// A family that can be trained here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Logistic regression over hashed words and word pairs.
    LogisticHash,
    /// Logistic regression over TF-IDF of word and character n-grams.
    LogisticTfidf,
    /// The mean of word vectors and a dense layer: the base Keras network.
    Dense,
    /// LSTM over word vectors; reads them in order.
    Lstm,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LogisticHash, Self::LogisticTfidf, Self::Dense, Self::Lstm];

    /// Name of the family, and of its model unless told otherwise.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogisticHash => "logistic-hash",
            Self::LogisticTfidf => "logistic-tfidf",
            Self::Dense => "dense",
            Self::Lstm => "lstm",
        }
    }
}

/// Early stopping as the study had it. Where the rate falls, the epochs are few enough that
/// the best weights are nearly always the last.
const PATIENCE: usize = 5;

const DENSE_RECIPE: Recipe = Recipe {
    epochs_max: 12,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.002,
    learning_rate_falls: true,
    gradient_norm_max: 1.0,
    dropout: 0.4,
    word_dropout: 0.1,
};
/// Our own form's; public for the benchmark, which trains the same in PyTorch.
pub const LSTM_RECIPE: Recipe = Recipe {
    epochs_max: 6,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.002,
    learning_rate_falls: true,
    gradient_norm_max: 1.0,
    dropout: 0.5,
    word_dropout: 0.15,
};
/// The study's: Adam at Keras' rate, which stays, and no dropout. (Keras adds 1e-7 where
/// PyTorch and we add 1e-8.)
const STUDY_RECIPE: Recipe = Recipe {
    epochs_max: 20,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.001,
    learning_rate_falls: false,
    gradient_norm_max: f64::INFINITY,
    dropout: 0.0,
    word_dropout: 0.0,
};

/// Words of our own form: how many, and how often one must occur.
const VOCABULARY_MAX: usize = 24_000;
const WORD_COUNT_MIN: usize = 3;
/// Numbers of a word and of a direction in our own form.
const WIDTH: usize = 128;
const HIDDEN: usize = 128;
/// Numbers of the dense layer.
const DENSE_HIDDEN: usize = 64;
const SEQUENCE: Sequence = Sequence { words_max: 48, padded: false, frequent_max: None };
/// The study's: every word has a vector, the 2,500 most frequent are read, the last 25 of a
/// tweet.
const STUDY_SEQUENCE: Sequence =
    Sequence { words_max: 25, padded: true, frequent_max: Some(2_500) };

/// A trained model, before it is written.
pub(super) struct Trained {
    pub(super) architecture: Architecture,
    pub(super) weights: Weights,
    pub(super) vocabulary: Option<Vocabulary>,
    pub(super) ngrams: Option<Ngrams>,
    /// All numbers, and those that were learned.
    pub(super) parameters: (usize, usize),
    /// Where word vectors came from.
    pub(super) embeddings: Vec<Source>,
    /// Where it kept its checkpoint, to be removed when the model is registered.
    pub(super) checkpoint: Option<Checkpoint>,
    /// The course of the training; empty where there are no epochs.
    pub(super) history: Vec<Epoch>,
}

/// Trains the family that is asked for.
pub(super) fn fit(request: &Request<'_>, sides: &Split<'_>) -> Result<Trained, TrainingError> {
    let Request { seed, threads, stop, .. } = *request;
    let settings = Settings { analyzer: &request.analyzer, seed, threads, stop };
    match request.family {
        Family::LogisticHash => {
            let fitted = linear::fit_hash(&sides.train, settings);
            let HashModel { shape, weights } = fitted.ok_or(TrainingError::Abandoned)?;
            let architecture = Architecture::LogisticHash(shape);
            let parameters = (1 << shape.buckets_log2) + 1;
            Ok(linear_model(architecture, weights, None, (parameters, parameters)))
        }
        Family::LogisticTfidf => {
            let fitted = linear::fit_tfidf(&sides.train, TFIDF_LENGTHS, settings);
            let TfidfModel { shape, weights, ngrams } = fitted.ok_or(TrainingError::Abandoned)?;
            let architecture = Architecture::LogisticTfidf(shape);
            let parameters = (2 * shape.ngrams + 1, shape.ngrams + 1);
            Ok(linear_model(architecture, weights, Some(ngrams), parameters))
        }
        Family::Dense => neural(request, sides, Neural::Dense),
        Family::Lstm => neural(request, sides, Neural::Lstm),
    }
}

fn linear_model(
    architecture: Architecture,
    weights: Weights,
    ngrams: Option<Ngrams>,
    parameters: (usize, usize),
) -> Trained {
    Trained {
        architecture,
        weights,
        vocabulary: None,
        ngrams,
        parameters,
        embeddings: Vec::new(),
        checkpoint: None,
        history: Vec::new(),
    }
}

/// The families that the loop trains.
enum Neural {
    Dense,
    Lstm,
}

fn neural(
    request: &Request<'_>,
    sides: &Split<'_>,
    family: Neural,
) -> Result<Trained, TrainingError> {
    let study = request.analyzer.preset() == Preset::Study;
    let sequence = if study { STUDY_SEQUENCE } else { SEQUENCE };
    let (vocabulary, counts) = words(request, sides, sequence);
    let fitting = if study { Fitting::AsTheyAre } else { Fitting::To(WIDTH) };
    let vectors = match request.embeddings.as_slice() {
        [] => None,
        files => Some(vectors::read(files, &vocabulary, &counts, fitting)?),
    };
    let width = vectors.as_ref().map_or(WIDTH, |vectors| vectors.table.size()[1] as usize);
    let frozen = request.frozen.unwrap_or(study && vectors.is_some());
    let purpose = Purpose::Training { frozen };
    let (network, architecture, recipe): (Box<dyn Network>, _, _) = match family {
        Neural::Dense => {
            let shape = DenseShape {
                vocabulary: vocabulary.len(),
                embedding: width,
                hidden: request.hidden.unwrap_or(DENSE_HIDDEN),
                sequence,
            };
            let network = Dense::new(shape, purpose, request.device);
            (Box::new(network), Architecture::Dense(shape), DENSE_RECIPE)
        }
        Neural::Lstm => {
            let shape = LstmShape {
                vocabulary: vocabulary.len(),
                embedding: width,
                hidden: request.hidden.unwrap_or(if study { width } else { HIDDEN }),
                directions: request.directions.unwrap_or(if study { 1 } else { 2 }),
                pooling: if study { Pooling::Last } else { Pooling::Max },
                sequence,
            };
            let network = Lstm::new(shape, purpose, request.device);
            (Box::new(network), Architecture::Lstm(shape), LSTM_RECIPE)
        }
    };
    if let Some(Vectors { table, .. }) = &vectors {
        network.set_word_vectors(table);
    }
    let recipe = if study { STUDY_RECIPE } else { recipe };
    let recipe = Recipe { epochs_max: request.epochs_max.unwrap_or(recipe.epochs_max), ..recipe };
    let encoder = WordIds::new(request.analyzer.clone(), vocabulary.clone(), sequence);
    let (train, validation) = (encode(&encoder, &sides.train), encode(&encoder, &sides.validation));
    let embeddings = vectors.map_or_else(Vec::new, |vectors| vectors.sources);
    let checkpoint = request.checkpoint(sides, &embeddings);
    let run = trainer::Run {
        name: &request.name,
        recipe,
        seed: request.seed,
        checkpoint: &checkpoint,
        unknown: vocabulary.unknown(),
        resume: request.resume,
        stop: request.stop,
    };
    let history = trainer::fit(network.as_ref(), &train, &validation, &run)?;
    Ok(Trained {
        architecture,
        weights: network.weights(),
        vocabulary: Some(vocabulary),
        ngrams: None,
        parameters: network.parameters(),
        embeddings,
        checkpoint: Some(checkpoint),
        history,
    })
}

/// The words of the rows to learn from, and how often each occurs. The study's form knows
/// every word and leaves out others.
fn words(
    request: &Request<'_>,
    sides: &Split<'_>,
    sequence: Sequence,
) -> (Vocabulary, HashMap<String, usize>) {
    let rows: Vec<Vec<String>> = (sides.train.iter())
        .map(|row| request.analyzer.words(&row.text, sequence.analysed_max()))
        .collect();
    let texts = rows.iter().map(Vec::as_slice);
    let vocabulary = if sequence.padded {
        Vocabulary::build_closed(texts, usize::MAX, 1)
    } else {
        Vocabulary::build(texts, VOCABULARY_MAX, WORD_COUNT_MIN)
    };
    let mut counts = HashMap::new();
    for word in rows.into_iter().flatten() {
        *counts.entry(word).or_default() += 1;
    }
    (vocabulary, counts)
}

fn encode(encoder: &dyn Encoder, rows: &[&Row]) -> Vec<Example> {
    let example = |row: &&Row| Example {
        ids: encoder.encode(&row.text).ids,
        negative: row.negative,
        weight: row.weight,
    };
    rows.iter().map(example).collect()
}
