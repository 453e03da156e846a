//! Embedding, one LSTM in each direction, the maximum over time, a linear layer.
//!
//! **Invariant.** A row's score depends on its own ids alone: both directions read the
//! words first and the padding after (the backward one reads them reversed), and the
//! maximum is taken over the true length, so padding never reaches a score. Memory is
//! bounded by [`BATCH_IDS_MAX`] whatever the batch. Method: Hochreiter and Schmidhuber
//! 1997; Graves and Schmidhuber 2005; max-pooling after Conneau et al. 2017.
//! Deliberately absent: packed sequences, which are slower on a CPU.

use tch::{Device, Kind, Tensor, nn, nn::Module, nn::RNN};

use super::weights::WeightsError;
use super::{Classifier, ClassifyError, Encoder, Encoding, Weights, check_ids, probabilities};
use crate::domain::Probability;
use crate::text::{PADDING, Preset, UNKNOWN, Vocabulary};

/// Rows times padded length of one pass through the network.
const BATCH_IDS_MAX: usize = 8 * 1024;
/// A pass takes rows as long as they are at least this share of its longest row.
const FILL_MIN: f64 = 0.75;
/// Under this many ids a pass is all overhead, and takes shorter rows too.
const BATCH_IDS_MIN: usize = 512;

/// What must be known to read the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmShape {
    /// Ids, the reserved ones included.
    pub vocabulary: usize,
    /// Numbers per word.
    pub embedding: usize,
    /// Numbers per direction.
    pub hidden: usize,
    /// Words of a text that are read.
    pub words_max: usize,
}

/// Text to the ids of its words, in order.
#[derive(Debug)]
pub struct WordIds {
    preset: Preset,
    vocabulary: Vocabulary,
    words_max: usize,
}

impl WordIds {
    /// An encoder that reads `words_max` words.
    pub fn new(preset: Preset, vocabulary: Vocabulary, words_max: usize) -> Self {
        Self { preset, vocabulary, words_max }
    }
}

impl Encoder for WordIds {
    fn encode(&self, text: &str) -> Encoding {
        let words = self.preset.words(text, self.words_max);
        let mut ids: Vec<u32> = words.iter().map(|word| self.vocabulary.id(word)).collect();
        if ids.is_empty() {
            ids.push(UNKNOWN);
        }
        Encoding { ids }
    }
}

/// The layers; training and serving run the same ones.
#[derive(Debug)]
pub struct Network {
    shape: LstmShape,
    variables: nn::VarStore,
    embedding: nn::Embedding,
    forward: nn::LSTM,
    backward: nn::LSTM,
    output: nn::Linear,
}

impl Network {
    /// Fresh weights from libtorch's generator, for training.
    pub fn new(shape: LstmShape) -> Self {
        let variables = nn::VarStore::new(Device::Cpu);
        let root = variables.root();
        let (ids, width, hidden) =
            (shape.vocabulary as i64, shape.embedding as i64, shape.hidden as i64);
        // PyTorch's own choice for recurrent layers.
        let bound = 1.0 / (hidden as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        let direction = |name: &str| {
            let config = nn::RNNConfig {
                w_ih_init: uniform,
                w_hh_init: uniform,
                b_ih_init: Some(uniform),
                b_hh_init: Some(uniform),
                ..Default::default()
            };
            nn::lstm(&root / name, width, hidden, config)
        };
        let embedding = nn::embedding(
            &root / "embedding",
            ids,
            width,
            nn::EmbeddingConfig {
                padding_idx: i64::from(PADDING),
                ws_init: nn::Init::Randn { mean: 0.0, stdev: 0.1 },
                ..Default::default()
            },
        );
        let (forward, backward) = (direction("forward"), direction("backward"));
        let output = nn::linear(&root / "output", 2 * hidden, 1, Default::default());
        Self { shape, variables, embedding, forward, backward, output }
    }

    /// The trainable numbers.
    pub fn variables(&self) -> &nn::VarStore {
        &self.variables
    }

    /// Logits of "negative", shape [rows], of rows of ids padded to the longest.
    /// `dropout` is the share of activations silenced while training, 0 in service.
    pub fn logits(&self, rows: &[&[u32]], dropout: f64) -> Tensor {
        let longest = rows.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let size = [rows.len() as i64, longest as i64];
        let padded = |reversed: bool| {
            let mut flat = vec![i64::from(PADDING); rows.len() * longest];
            for (row, ids) in flat.chunks_mut(longest.max(1)).zip(rows) {
                for (place, id) in row.iter_mut().zip(ids.iter()) {
                    *place = i64::from(*id);
                }
                if reversed {
                    row[..ids.len()].reverse();
                }
            }
            Tensor::from_slice(&flat).reshape(size)
        };
        let mask: Vec<bool> =
            rows.iter().flat_map(|ids| (0..longest).map(|at| at >= ids.len())).collect();
        let mask = Tensor::from_slice(&mask).reshape([size[0], size[1], 1]);
        let train = dropout > 0.0;
        let pooled = |lstm: &nn::LSTM, ids: Tensor| {
            let words = self.embedding.forward(&ids).dropout(dropout, train);
            let (states, _) = lstm.seq(&words);
            states.masked_fill(&mask, f64::NEG_INFINITY).amax([1], false)
        };
        let both = Tensor::cat(
            &[pooled(&self.forward, padded(false)), pooled(&self.backward, padded(true))],
            1,
        );
        self.output.forward(&both.dropout(dropout, train)).squeeze_dim(1)
    }

    /// All arrays under their own names, for the weights file.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (name, tensor) in self.variables.variables() {
            let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
            let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).flatten(0, -1))
                .expect("a flat array of single precision converts");
            weights.insert(&name, &shape, values);
        }
        weights
    }

    /// Takes every array of this shape out of the file.
    pub(super) fn load(shape: LstmShape, weights: &mut Weights) -> Result<Self, WeightsError> {
        let network = Self::new(shape);
        for (name, mut tensor) in network.variables.variables() {
            let size = tensor.size();
            let expected: Vec<usize> = size.iter().map(|n| *n as usize).collect();
            let values = Tensor::from_slice(&weights.take(&name, &expected)?).reshape(size);
            tch::no_grad(|| tensor.copy_(&values));
        }
        Ok(network)
    }
}

impl Classifier for Network {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
        check_ids(batch, self.shape.vocabulary)?;
        let lengths: Vec<usize> = batch.iter().map(|row| row.ids.len()).collect();
        let mut scores = vec![0.0; batch.len()];
        for pass in passes(&lengths) {
            let rows: Vec<&[u32]> = pass.iter().map(|row| batch[*row].ids.as_slice()).collect();
            let found = tch::no_grad(|| self.logits(&rows, 0.0).sigmoid());
            let found = Vec::<f32>::try_from(found)
                .map_err(|e| ClassifyError { rows: batch.len(), reason: e.to_string() })?;
            for (row, score) in pass.into_iter().zip(found) {
                scores[row] = score;
            }
        }
        probabilities(scores)
    }
}

/// Groups rows (by index) of like length, longest first, so that little is padding.
fn passes(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(lengths[*row]));
    let mut passes: Vec<Vec<usize>> = Vec::new();
    for row in order {
        if let Some(pass) = passes.last_mut() {
            let longest = lengths[pass[0]].max(1);
            let ids = longest * pass.len();
            let alike = lengths[row] as f64 >= FILL_MIN * longest as f64;
            if ids + longest <= BATCH_IDS_MAX && (alike || ids < BATCH_IDS_MIN) {
                pass.push(row);
                continue;
            }
        }
        passes.push(vec![row]);
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_bounded_and_alike() {
        let lengths: Vec<usize> = (0..5_000).map(|n| 1 + (n * 7) % 40).collect();
        let passes = passes(&lengths);
        let mut seen: Vec<usize> = passes.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..5_000), "each row once");
        for pass in &passes {
            let longest = lengths[pass[0]];
            assert!(longest * pass.len() <= BATCH_IDS_MAX);
        }
        let padded: usize = passes.iter().map(|pass| lengths[pass[0]] * pass.len()).sum();
        let real: usize = lengths.iter().sum();
        assert!((real as f64) > 0.85 * padded as f64, "{real} of {padded}");
    }

    #[test]
    fn neighbours_and_padding_change_nothing() {
        let shape = LstmShape { vocabulary: 50, embedding: 8, hidden: 8, words_max: 40 };
        let mut network = Network::new(shape);
        let rows: Vec<Encoding> = (0..300u32)
            .map(|n| Encoding { ids: (0..=(n * 13) % 40).map(|k| 1 + (n + k * 7) % 49).collect() })
            .collect();
        let together = network.classify(&rows.iter().collect::<Vec<_>>()).unwrap();
        for (row, batched) in rows.iter().zip(together) {
            let alone = network.classify(&[row]).unwrap()[0];
            assert!((alone.get() - batched.get()).abs() < 1e-5, "{alone:?} {batched:?}");
        }
        let padded = [&rows[0].ids[..], &rows[3].ids[..]];
        assert!(padded[1].len() > padded[0].len() * 4, "the test needs much padding");
        let both = Vec::<f32>::try_from(network.logits(&padded, 0.0)).unwrap();
        let alone = Vec::<f32>::try_from(network.logits(&padded[..1], 0.0)).unwrap();
        assert!((both[0] - alone[0]).abs() < 1e-5);
    }
}
