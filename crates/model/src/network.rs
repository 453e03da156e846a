//! The common parts of the neural models: a table of word vectors, rows padded to one length,
//! reading and writing a weights file.
//!
//! **Invariant.** A row's score depends on its own ids alone. Training and inference run the
//! same layers. Deliberately absent: packed sequences, which are slower on a CPU.

use std::sync::Mutex;

use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor, nn};

use monitor_core::domain::Classes;
use monitor_core::text::PADDING;

use super::Weights;
use super::weights::WeightsError;

/// Guards libtorch's random generator, which belongs to the whole process. Code that seeds it
/// or draws from it holds this lock.
pub static GENERATOR: Mutex<()> = Mutex::new(());

/// Layers that turn rows of ids into logits.
pub trait Network: Send {
    /// The arrays, trainable or frozen.
    fn variables(&self) -> &VarStore;
    /// The same, to change their number format.
    fn variables_mut(&mut self) -> &mut VarStore;
    /// Number of ids that have a vector.
    fn vocabulary(&self) -> usize;
    /// The classes that it tells apart.
    fn classes(&self) -> Classes;
    /// Logits of the classes, shape [rows, classes], in the order of [`Classes::labels`].
    /// `dropout` is the share of activations set to zero in training, 0 in inference.
    fn logits(&self, rows: &Padded, dropout: f64) -> Tensor;

    /// All arrays by name, for the weights file.
    fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (name, tensor) in self.variables().variables() {
            weights.insert_tensor(&name, &tensor);
        }
        weights
    }

    /// Takes its arrays out of a weights file that contains exactly these.
    ///
    /// # Errors
    /// Arrays are missing, unexpected, or have another shape; the message lists them all.
    fn load(&self, weights: Weights) -> Result<(), WeightsError> {
        let mut variables: Vec<_> = self.variables().variables().into_iter().collect();
        variables.sort_by(|(a, _), (b, _)| a.cmp(b));
        weights.fill(variables)
    }

    /// Number of parameters, and number of trainable ones.
    fn parameters(&self) -> (usize, usize) {
        let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::numel).sum();
        let all = self.variables().variables().into_values().collect();
        (count(all), count(self.variables().trainable_variables()))
    }
}

/// A tensor's numbers, flat, in single precision.
pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1))
        .expect("a flat array of single precision converts")
}

/// The purpose of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training, from random initial weights of libtorch's generator.
    Training {
        /// Whether the word vectors stay unchanged.
        frozen: bool,
    },
    /// Inference, with weights from a file. Draws no random numbers, so that opening a model
    /// does not change a training in the same process.
    Inference,
}

impl Purpose {
    /// The initial weights of an array.
    pub(super) fn first(self, init: Init) -> Init {
        if self == Self::Inference { Init::Const(0.0) } else { init }
    }

    /// A linear layer with libtorch's initial weights (He et al. 2015).
    pub(super) fn linear(self, path: nn::Path<'_>, inputs: usize, outputs: usize) -> nn::Linear {
        let default = nn::LinearConfig::default();
        let bound = 1.0 / (inputs as f64).sqrt();
        let config = nn::LinearConfig {
            ws_init: self.first(default.ws_init),
            bs_init: Some(self.first(Init::Uniform { lo: -bound, up: bound })),
            ..default
        };
        nn::linear(path, inputs as i64, outputs as i64, config)
    }

    /// A table of word vectors, shape [vocabulary, width]; the vector of padding is zero.
    pub(super) fn word_vectors(
        self,
        root: &nn::Path<'_>,
        vocabulary: usize,
        width: usize,
    ) -> Tensor {
        let size = [vocabulary as i64, width as i64];
        let path = root / "embedding";
        let table = if self == (Self::Training { frozen: true }) {
            path.zeros_no_train("weight", &size)
        } else {
            path.var("weight", &size, self.first(Init::Randn { mean: 0.0, stdev: 0.1 }))
        };
        let _ = tch::no_grad(|| table.get(i64::from(PADDING)).zero_());
        table
    }
}

/// Rows of ids, padded at the end to the longest.
#[derive(Debug)]
pub struct Padded {
    /// Shape [rows, longest].
    pub(super) ids: Tensor,
    /// Positions of each row's ids from last to first, then of its padding, shape
    /// [rows, longest, 1].
    pub(super) backwards: Tensor,
    /// Whether a position is padding, shape [rows, longest, 1].
    pub(super) padding: Tensor,
    /// Number of ids of each row, shape [rows, 1].
    pub(super) lengths: Tensor,
    has_padding: bool,
}

impl Padded {
    /// Whether any row is padded.
    pub(super) fn has_padding(&self) -> bool {
        self.has_padding
    }

    /// 1 for ids, 0 for padding, shape [rows, longest].
    pub(super) fn mask(&self) -> Tensor {
        self.padding.squeeze_dim(-1).logical_not().to_kind(Kind::Int64)
    }

    /// Tensors on `device`.
    pub fn new(rows: &[&[u32]], device: Device) -> Self {
        let longest = rows.iter().map(|ids| ids.len()).max().unwrap_or(0).max(1);
        let size = [rows.len() as i64, longest as i64];
        let mut flat = vec![i64::from(PADDING); rows.len() * longest];
        let mut backwards = vec![0; rows.len() * longest];
        let places = flat.chunks_mut(longest).zip(backwards.chunks_mut(longest));
        for ((row, backwards), ids) in places.zip(rows) {
            for (place, id) in row.iter_mut().zip(ids.iter()) {
                *place = i64::from(*id);
            }
            for (place, backwards) in backwards.iter_mut().enumerate() {
                *backwards = ids.len().checked_sub(place + 1).unwrap_or(place) as i64;
            }
        }
        let backwards = Tensor::from_slice(&backwards).reshape([size[0], size[1], 1]);
        let padding: Vec<bool> =
            rows.iter().flat_map(|ids| (0..longest).map(|at| at >= ids.len())).collect();
        let padding = Tensor::from_slice(&padding).reshape([size[0], size[1], 1]);
        let lengths: Vec<f32> = rows.iter().map(|ids| ids.len() as f32).collect();
        Self {
            ids: Tensor::from_slice(&flat).reshape(size).to_device(device),
            backwards: backwards.to_device(device),
            padding: padding.to_device(device),
            lengths: Tensor::from_slice(&lengths).reshape([-1, 1]).to_device(device),
            has_padding: rows.iter().any(|ids| ids.len() < longest),
        }
    }
}

/// Looks ids up. The gradient is sparse: it has only the rows that were read, and never
/// the one of padding.
pub(super) fn look_up(table: &Tensor, ids: &Tensor) -> Tensor {
    Tensor::embedding(table, ids, i64::from(PADDING), false, table.requires_grad())
}

/// Logits in the order of [`Classes::labels`] from those of an output layer of ours: with two
/// classes, positive stands first in it, as in the files of old.
pub(super) fn in_order_of_labels(output: &Tensor, classes: Classes) -> Tensor {
    match classes {
        Classes::Two => output.flip([1]),
        Classes::Three => output.shallow_clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use monitor_core::domain::Label;

    use crate::batched_network::BatchedNetwork;
    use crate::{Encoding, classify_all};

    /// A network of 50 ids must give a row the same score alone and together with others.
    pub fn neighbours_and_padding_change_nothing(network: impl Network) {
        let rows: Vec<Encoding> = (0..300u32)
            .map(|n| Encoding::new((0..=(n * 13) % 40).map(|k| 1 + (n + k * 7) % 49).collect()))
            .collect();
        let padded = [&rows[0].ids[..], &rows[3].ids[..]];
        assert!(padded[1].len() > padded[0].len() * 4, "the test needs much padding");
        let logits =
            |rows: &[&[u32]]| values(&network.logits(&Padded::new(rows, Device::Cpu), 0.0));
        assert!((logits(&padded)[0] - logits(&padded[..1])[0]).abs() < 1e-5);
        let mut scorer = BatchedNetwork::new(network, 2_048);
        let together = classify_all(&mut scorer, &rows.iter().collect::<Vec<_>>()).unwrap();
        for (row, batched) in rows.iter().zip(together) {
            let alone = classify_all(&mut scorer, &[row]).unwrap()[0];
            for label in Label::ALL {
                let apart = (alone.of(label).get() - batched.of(label).get()).abs();
                assert!(apart < 1e-5, "{alone:?} {batched:?}");
            }
        }
    }
}
