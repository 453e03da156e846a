//! What differs between families: shape, encoder, hyperparameters.
//!
//! **Invariant.** The encoder used in training is the one used when scoring. A new family is
//! one more arm in [`fit`]. Deliberately absent: the training loop; see `trainer.rs`.

use std::collections::HashMap;

use tch::Tensor;

use monitor_core::domain::Classes;
use monitor_core::hash::sha256_hex;
use monitor_core::text::{Ngrams, Preset, Vocabulary};
use monitor_model::{
    Architecture, Dense, DenseShape, Encoder, Lstm, LstmShape, Network, Pooling, Pretrained,
    Purpose, Sequence, Source, TransformerFiles, Weights, WordIds,
};

use super::checkpoint::Checkpoint;
use super::linear::{self, HashModel, Settings, TfidfModel};
use super::trainer::{self, Epoch, Example, Recipe};
use super::vectors::{self, Fitting, Vectors};
use super::{FitError, Hyperparameters, Target, TrainingRequest};
use crate::data::{Row, Split, rows_sha256};
use crate::provenance::LIBTORCH;

/// A family that can be trained here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Logistic regression over hashed words and word pairs.
    LogisticHash,
    /// Logistic regression over TF-IDF of word and character n-grams.
    LogisticTfidf,
    /// The mean of word vectors and a dense layer: the base Keras network.
    Dense,
    /// LSTM over word vectors.
    Lstm,
    /// A pretrained BERT or DistilBERT, fine-tuned.
    Transformer,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LogisticHash, Self::LogisticTfidf, Self::Dense, Self::Lstm, Self::Transformer];

    /// Name of the family, and default name of its model.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogisticHash => "logistic-hash",
            Self::LogisticTfidf => "logistic-tfidf",
            Self::Dense => "dense",
            Self::Lstm => "lstm",
            Self::Transformer => "transformer",
        }
    }

    /// Whether it is a logistic regression.
    pub fn is_logistic(self) -> bool {
        matches!(self, Self::LogisticHash | Self::LogisticTfidf)
    }

    /// The hyperparameters of a training that sets none, with the study's preset or without. The
    /// width of the study's LSTM is that of its word vectors, and so not among them.
    pub fn defaults(self, study: bool) -> Hyperparameters {
        let of = |recipe: Recipe, hidden: Option<usize>| Hyperparameters {
            epochs_max: Some(recipe.epochs_max),
            batch_rows: Some(recipe.batch_rows),
            learning_rate: Some(recipe.learning_rate),
            dropout: Some(recipe.dropout),
            word_dropout: Some(recipe.word_dropout),
            weight_decay: Some(recipe.weight_decay),
            hidden,
            ..Hyperparameters::default()
        };
        match self {
            Self::LogisticHash | Self::LogisticTfidf => linear::defaults(self),
            Self::Dense if study => of(STUDY_RECIPE, Some(DENSE_HIDDEN)),
            Self::Lstm if study => of(STUDY_RECIPE, None),
            Self::Dense => of(DENSE_RECIPE, Some(DENSE_HIDDEN)),
            Self::Lstm => of(LSTM_RECIPE, Some(HIDDEN)),
            Self::Transformer => {
                Hyperparameters { word_dropout: None, ..of(TRANSFORMER_RECIPE, None) }
            }
        }
    }
}

/// Early stopping as in the study. With a falling learning rate and few epochs, the last weights
/// are nearly always the best.
const PATIENCE: usize = 5;

const DENSE_RECIPE: Recipe = Recipe {
    epochs_max: 12,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.002,
    warm_up: 0.0,
    learning_rate_falls: true,
    weight_decay: 0.0,
    gradient_norm_max: 1.0,
    dropout: 0.4,
    word_dropout: 0.1,
};
/// For the `tweet` preset; public for the benchmark, which trains the same network in PyTorch.
pub const LSTM_RECIPE: Recipe = Recipe {
    epochs_max: 6,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.002,
    warm_up: 0.0,
    learning_rate_falls: true,
    weight_decay: 0.0,
    gradient_norm_max: 1.0,
    dropout: 0.5,
    word_dropout: 0.15,
};
/// The study's: Adam with Keras' constant default learning rate, and no dropout. (Keras'
/// epsilon is 1e-7; PyTorch's and ours is 1e-8.)
const STUDY_RECIPE: Recipe = Recipe {
    epochs_max: 20,
    patience: PATIENCE,
    batch_rows: 128,
    learning_rate: 0.001,
    warm_up: 0.0,
    learning_rate_falls: false,
    weight_decay: 0.0,
    gradient_norm_max: f64::INFINITY,
    dropout: 0.0,
    word_dropout: 0.0,
};

/// The study's for DistilBERT, with BERT's weight decay: AdamW at 2e-5 after a warm-up.
pub(super) const TRANSFORMER_RECIPE: Recipe = Recipe {
    epochs_max: 4,
    patience: PATIENCE,
    batch_rows: 32,
    learning_rate: 2e-5,
    warm_up: 0.1,
    learning_rate_falls: true,
    weight_decay: 0.01,
    gradient_norm_max: 1.0,
    dropout: 0.1,
    word_dropout: 0.0,
};

/// Vocabulary of the `tweet` preset: words at most, and occurrences of a word at least.
const VOCABULARY_MAX: usize = 24_000;
const WORD_COUNT_MIN: usize = 3;
/// Width of a word vector and of an LSTM direction in the `tweet` preset.
const WIDTH: usize = 128;
const HIDDEN: usize = 128;
/// Width of the dense layer.
const DENSE_HIDDEN: usize = 64;
const SEQUENCE: Sequence = Sequence { words_max: 48, padded: false, frequent_max: None };
/// The study's: every word has a vector; the last 25 words of a tweet are read, among the 2,500
/// most frequent.
const STUDY_SEQUENCE: Sequence =
    Sequence { words_max: 25, padded: true, frequent_max: Some(2_500) };

/// A fitted model, not yet registered.
pub(crate) struct Trained {
    pub(crate) architecture: Architecture,
    pub(crate) weights: Weights,
    pub(crate) vocabulary: Option<Vocabulary>,
    pub(crate) ngrams: Option<Ngrams>,
    pub(crate) transformer: Option<TransformerFiles>,
    /// All parameters, and the trainable ones.
    pub(crate) parameters: (usize, usize),
    /// Files that initialised the weights.
    pub(crate) embeddings: Vec<Source>,
    /// Its checkpoint, to be removed when the model is registered.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// One entry per epoch; empty for the logistic families.
    pub(crate) history: Vec<Epoch>,
}

/// Fits the requested family on `split.train` and `targets`, one per row.
pub(crate) fn fit(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    targets: &[Target],
) -> Result<Trained, FitError> {
    let TrainingRequest { seed, threads, stop, .. } = *request;
    let classes = request.classes;
    let (analyzer, hyper) = (&request.analyzer, request.hyper);
    let settings = Settings { analyzer, classes, hyper, seed, threads, stop };
    match request.family {
        Family::LogisticHash => {
            let fitted = linear::fit_hash(&split.train, targets, settings);
            let HashModel { shape, weights } = fitted.ok_or(FitError::Abandoned)?;
            let architecture = Architecture::LogisticHash(shape);
            let decisions = classes.count() - 1;
            let parameters = decisions * ((1 << shape.buckets_log2) + 1);
            Ok(linear_model(architecture, weights, None, (parameters, parameters)))
        }
        Family::LogisticTfidf => {
            let fitted = linear::fit_tfidf(&split.train, targets, linear::lengths(hyper), settings);
            let TfidfModel { shape, weights, ngrams } = fitted.ok_or(FitError::Abandoned)?;
            let architecture = Architecture::LogisticTfidf(shape);
            let trained = (classes.count() - 1) * (shape.ngrams + 1);
            let parameters = (shape.ngrams + trained, trained);
            Ok(linear_model(architecture, weights, Some(ngrams), parameters))
        }
        Family::Dense => neural(request, split, targets, Neural::Dense),
        Family::Lstm => neural(request, split, targets, Neural::Lstm),
        Family::Transformer => transformer(request, split, targets),
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
        transformer: None,
        parameters,
        embeddings: Vec::new(),
        checkpoint: None,
        history: Vec::new(),
    }
}

/// The word-vector families, which the training loop fits.
enum Neural {
    Dense,
    Lstm,
}

fn neural(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    targets: &[Target],
    family: Neural,
) -> Result<Trained, FitError> {
    let study = request.analyzer.preset() == Preset::Study;
    let sequence = if study { STUDY_SEQUENCE } else { SEQUENCE };
    let (vocabulary, counts) = words(request, split, sequence);
    let fitting = if study { Fitting::AsTheyAre } else { Fitting::To(WIDTH) };
    let vectors = match request.embeddings.as_slice() {
        [] => None,
        files => Some(vectors::read(files, &vocabulary, &counts, fitting)?),
    };
    let width = vectors.as_ref().map_or(WIDTH, |vectors| vectors.table.size()[1] as usize);
    let frozen = request.frozen.unwrap_or(study && vectors.is_some());
    let purpose = Purpose::Training { frozen };
    let (mut network, architecture, recipe): (Box<dyn Network>, _, _) = match family {
        Neural::Dense => {
            let shape = DenseShape {
                vocabulary: vocabulary.len(),
                embedding: width,
                hidden: request.hyper.hidden.unwrap_or(DENSE_HIDDEN),
                sequence,
            };
            let network = Dense::new(shape, request.classes, purpose, request.device);
            (Box::new(network), Architecture::Dense(shape), DENSE_RECIPE)
        }
        Neural::Lstm => {
            let shape = LstmShape {
                vocabulary: vocabulary.len(),
                embedding: width,
                hidden: request.hyper.hidden.unwrap_or(if study { width } else { HIDDEN }),
                directions: request.directions.unwrap_or(if study { 1 } else { 2 }),
                pooling: if study { Pooling::Last } else { Pooling::Max },
                sequence,
            };
            let network = Lstm::new(shape, request.classes, purpose, request.device);
            (Box::new(network), Architecture::Lstm(shape), LSTM_RECIPE)
        }
    };
    if let Some(Vectors { table, .. }) = &vectors {
        set_word_vectors(network.as_ref(), table);
    }
    let recipe = if study { STUDY_RECIPE } else { recipe };
    let encoder = WordIds::new(request.analyzer.clone(), vocabulary.clone(), sequence);
    let train = encode(&encoder, &split.train, request.classes, Some(targets));
    let validation = encode(&encoder, &split.validation, request.classes, None);
    let sources = vectors.map_or_else(Vec::new, |vectors| vectors.sources);
    let training =
        NetworkTraining { sources: &sources, recipe, unknown: vocabulary.unknown(), half: false };
    let (history, checkpoint) =
        train_network(request, split, network.as_mut(), (&train, &validation), training)?;
    Ok(Trained {
        architecture,
        weights: network.weights(),
        vocabulary: Some(vocabulary),
        ngrams: None,
        transformer: None,
        parameters: network.parameters(),
        embeddings: sources,
        checkpoint: Some(checkpoint),
        history,
    })
}

/// Replaces the initial word vectors; `vectors` has shape [vocabulary, width].
fn set_word_vectors(network: &dyn Network, vectors: &Tensor) {
    let mut table =
        network.variables().variables().remove("embedding.weight").expect("both have a table");
    tch::no_grad(|| table.copy_(vectors));
}

/// How to train a network.
struct NetworkTraining<'a> {
    /// Files that initialised its weights.
    sources: &'a [Source],
    recipe: Recipe,
    unknown: Option<u32>,
    half: bool,
}

/// Trains the network; returns its history and its checkpoint.
fn train_network(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    network: &mut dyn Network,
    (train, validation): (&[Example], &[Example]),
    training: NetworkTraining<'_>,
) -> Result<(Vec<Epoch>, Checkpoint), FitError> {
    let NetworkTraining { sources, recipe, unknown, half } = training;
    let recipe = request.hyper.recipe(recipe);
    // Part of the fingerprint: a teacher of the same name may give other targets.
    let targets: Vec<u8> =
        (train.iter()).flat_map(|row| row.target.classes.map(f32::to_le_bytes).concat()).collect();
    let checkpoint = checkpoint(request, split, sources, &sha256_hex(&targets));
    let run = trainer::Run {
        name: &request.name,
        recipe,
        seed: request.seed,
        checkpoint: &checkpoint,
        unknown,
        half,
        resume: request.resume,
        stop: request.stop,
    };
    Ok((trainer::fit(network, train, validation, &run)?, checkpoint))
}

/// The checkpoint of this training on exactly these data.
fn checkpoint(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    embeddings: &[Source],
    taught: &str,
) -> Checkpoint {
    let TrainingRequest { command, threads, device, .. } = request;
    let (train, validation) = (rows_sha256(&split.train), rows_sha256(&split.validation));
    let lists = request.analyzer.lexicon().map(|lexicon| sha256_hex(lexicon.to_text().as_bytes()));
    let about = format!(
        "{command} {threads} {device:?} {train} {validation} {taught} {embeddings:?} {lists:?} {} \
         {LIBTORCH}",
        env!("CARGO_PKG_VERSION")
    );
    Checkpoint::new(&request.output, &request.name, sha256_hex(about.as_bytes()), command.clone())
}

/// Fine-tunes a pretrained transformer. Texts are truncated to the 95 % quantile of their
/// lengths in tokens, as in the study, rounded up to a multiple of eight.
fn transformer(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    targets: &[Target],
) -> Result<Trained, FitError> {
    let base = request.base.as_deref().ok_or(FitError::NoBase)?;
    let mut base = Pretrained::read(base)?;
    let others = request.mean_with.iter().map(|folder| Pretrained::read(folder));
    let others: Vec<Pretrained> = others.collect::<Result<_, _>>()?;
    let mut sources: Vec<_> = others.iter().map(|other| other.source().clone()).collect();
    base = base.mean_with(others)?;
    if let Some(layers) = request.hyper.layers {
        base = base.with_layers(layers)?;
    }
    let positions = base.config().positions();
    if let Some(pieces) = request.hyper.vocabulary {
        let tokenizer = base.tokenizer(positions)?;
        let texts = split.train.iter().map(|row| tokenizer.encode(&row.text).ids);
        base = base.with_vocabulary(pieces, texts)?;
    }
    let mut train =
        encode(&base.tokenizer(positions)?, &split.train, request.classes, Some(targets));
    let mut lengths: Vec<usize> = train.iter().map(|row| row.ids.len()).collect();
    lengths.sort_unstable();
    let quantile = lengths[(lengths.len() - 1) * 95 / 100];
    let tokens_max = quantile.next_multiple_of(8).min(positions);
    let tokenizer = base.tokenizer(tokens_max)?;
    for (example, row) in train.iter_mut().zip(&split.train) {
        if example.ids.len() > tokens_max {
            example.ids = tokenizer.encode(&row.text).ids;
        }
    }
    let validation = encode(&tokenizer, &split.validation, request.classes, None);
    let mut network = base.network(request.classes, tokens_max, request.device)?;
    sources.insert(0, base.source().clone());
    let training = NetworkTraining {
        sources: &sources,
        recipe: TRANSFORMER_RECIPE,
        unknown: None,
        half: request.half,
    };
    let (history, checkpoint) =
        train_network(request, split, &mut network, (&train, &validation), training)?;
    Ok(Trained {
        architecture: Architecture::Transformer(base.config().shape(tokens_max)),
        weights: network.weights(),
        vocabulary: None,
        ngrams: None,
        transformer: Some(TransformerFiles {
            config: base.classifier_config(request.classes),
            tokenizer: tokenizer.to_json(),
            tokenizer_config: tokenizer.config_json(),
        }),
        parameters: network.parameters(),
        embeddings: sources,
        checkpoint: Some(checkpoint),
        history,
    })
}

/// Vocabulary of the training set, and how often each word occurs. The study's vocabulary has
/// every word and no id for unknown words.
fn words(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    sequence: Sequence,
) -> (Vocabulary, HashMap<String, usize>) {
    let rows: Vec<Vec<String>> = (split.train.iter())
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

/// Encodes rows; without `targets`, the labels are the targets.
fn encode(
    encoder: &dyn Encoder,
    rows: &[&Row],
    classes: Classes,
    targets: Option<&[Target]>,
) -> Vec<Example> {
    let example = |(place, row): (usize, &&Row)| Example {
        ids: encoder.encode(&row.text).ids,
        target: targets.map_or_else(|| Target::of(row, classes), |targets| targets[place]),
        weight: row.weight,
    };
    rows.iter().enumerate().map(example).collect()
}
