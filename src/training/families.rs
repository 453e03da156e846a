//! What differs between families: shape, encoder, recipe, and how libtorch computes them.
//!
//! **Invariant.** Rows are encoded by the very encoder that will serve. A further family
//! is one more arm in [`fit`]. Deliberately absent: the loop itself; see `trainer.rs`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use super::trainer::{self, Example, Recipe, Trainable};
use super::{Request, Row, Split, TrainingError};
use crate::classifier::{
    Architecture, Encoder, HashedWords, LogisticShape, LstmNetwork, LstmShape, Weights, WordIds,
};
use crate::text::{Preset, UNKNOWN, Vocabulary};

/// A family that can be trained here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Logistic regression over hashed words and word pairs; small and fast.
    Logistic,
    /// Bidirectional LSTM over words; reads them in order.
    Lstm,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Logistic, Self::Lstm];

    /// Name of the family, of its model, and of its folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Lstm => "lstm",
        }
    }
}

const LOGISTIC: LogisticShape = LogisticShape { buckets_log2: 20, words_max: 64 };
const LOGISTIC_RECIPE: Recipe = Recipe {
    epochs_max: 20,
    patience: 2,
    batch_rows: 256,
    learning_rate: 0.01,
    learning_rate_decay: 0.8,
    gradient_norm_max: 5.0,
};

/// The vocabulary's size is what the rows give, up to this.
const LSTM: LstmShape = LstmShape { vocabulary: 24_000, embedding: 96, hidden: 96, words_max: 48 };
const LSTM_WORD_COUNT_MIN: usize = 3;
/// Share of activations silenced.
const LSTM_DROPOUT: f64 = 0.4;
/// Share of words hidden, so that the model learns to live with unknown ones.
const LSTM_WORD_DROPOUT: f64 = 0.1;
const LSTM_RECIPE: Recipe = Recipe {
    epochs_max: 4,
    patience: 2,
    batch_rows: 128,
    learning_rate: 0.002,
    learning_rate_decay: 0.4,
    gradient_norm_max: 1.0,
};

/// A trained model, before it is written.
pub(super) struct Trained {
    pub(super) architecture: Architecture,
    pub(super) weights: Weights,
    pub(super) vocabulary: Option<Vocabulary>,
}

/// Trains the family that is asked for.
pub(super) fn fit(
    request: &Request,
    preset: Preset,
    sides: &Split<'_>,
) -> Result<Trained, TrainingError> {
    let run = |model: &dyn Trainable, encoder: &dyn Encoder, recipe: Recipe| {
        let recipe =
            Recipe { epochs_max: request.epochs_max.unwrap_or(recipe.epochs_max), ..recipe };
        let (train, validation) =
            (encode(encoder, &sides.train), encode(encoder, &sides.validation));
        trainer::fit(request.family.as_str(), model, &train, &validation, &recipe, request.seed)
    };
    match request.family {
        Family::Logistic => {
            let encoder = HashedWords::new(preset, LOGISTIC).expect("20 bits are in range");
            let model = LogisticNetwork::new(LOGISTIC);
            run(&model, &encoder, LOGISTIC_RECIPE)?;
            let architecture = Architecture::Logistic(LOGISTIC);
            Ok(Trained { architecture, weights: model.weights(), vocabulary: None })
        }
        Family::Lstm => {
            let words: Vec<Vec<String>> =
                sides.train.iter().map(|row| preset.words(&row.text, LSTM.words_max)).collect();
            let vocabulary = Vocabulary::build(
                words.iter().map(Vec::as_slice),
                LSTM.vocabulary,
                LSTM_WORD_COUNT_MIN,
            );
            let shape = LstmShape { vocabulary: vocabulary.len(), ..LSTM };
            let encoder = WordIds::new(preset, vocabulary.clone(), shape.words_max);
            let model = LstmNetwork::new(shape);
            run(&model, &encoder, LSTM_RECIPE)?;
            let architecture = Architecture::Lstm(shape);
            Ok(Trained { architecture, weights: model.weights(), vocabulary: Some(vocabulary) })
        }
    }
}

fn encode(encoder: &dyn Encoder, rows: &[&Row]) -> Vec<Example> {
    rows.iter()
        .map(|row| Example { ids: encoder.encode(&row.text).ids, negative: row.negative })
        .collect()
}

/// The logistic model as libtorch trains it; `classifier::logistic` computes the same.
struct LogisticNetwork {
    variables: VarStore,
    /// Shape [buckets, 1].
    weight: Tensor,
    /// Shape [1].
    bias: Tensor,
}

impl LogisticNetwork {
    fn new(shape: LogisticShape) -> Self {
        let variables = VarStore::new(Device::Cpu);
        let root = variables.root();
        let weight = root.var("weight", &[1 << shape.buckets_log2, 1], Init::Const(0.0));
        let bias = root.var("bias", &[1], Init::Const(0.0));
        Self { variables, weight, bias }
    }

    fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (name, tensor) in [("weight", &self.weight), ("bias", &self.bias)] {
            let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).flatten(0, -1))
                .expect("a flat array of single precision converts");
            weights.insert(name, &[values.len()], values);
        }
        weights
    }
}

impl Trainable for LogisticNetwork {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn logits(&self, rows: &[&[u32]], _noise: Option<&mut ChaCha8Rng>) -> Tensor {
        let ids: Vec<i64> = rows.iter().copied().flatten().map(|id| i64::from(*id)).collect();
        let mut starts = Vec::with_capacity(rows.len());
        let mut scales = Vec::with_capacity(rows.len());
        let mut start = 0;
        for row in rows {
            starts.push(start);
            scales.push(1.0 / (row.len() as f32).sqrt());
            start += row.len() as i64;
        }
        let (sums, ..) = Tensor::embedding_bag::<Tensor>(
            &self.weight,
            &Tensor::from_slice(&ids),
            &Tensor::from_slice(&starts),
            false,
            0, // the sum, not the mean
            false,
            None,
            false,
        );
        sums.squeeze_dim(1) * Tensor::from_slice(&scales) + &self.bias
    }
}

impl Trainable for LstmNetwork {
    fn variables(&self) -> &VarStore {
        LstmNetwork::variables(self)
    }

    fn logits(&self, rows: &[&[u32]], noise: Option<&mut ChaCha8Rng>) -> Tensor {
        let Some(random) = noise else {
            return LstmNetwork::logits(self, rows, 0.0);
        };
        let noisy: Vec<Vec<u32>> = (rows.iter())
            .map(|row| {
                let hide =
                    |id: &u32| if random.random_bool(LSTM_WORD_DROPOUT) { UNKNOWN } else { *id };
                row.iter().map(hide).collect()
            })
            .collect();
        let rows: Vec<&[u32]> = noisy.iter().map(Vec::as_slice).collect();
        LstmNetwork::logits(self, &rows, LSTM_DROPOUT)
    }
}
