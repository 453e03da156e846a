//! The base Keras network: word vectors, their mean, a dense layer, two classes.
//!
//! **Invariant.** The mean is over a row's own ids. The vector of padding is zero. Padding at
//! the end of a row is not counted; padding in front (the study's form) is counted, as in
//! Keras without a mask. Method: a deep averaging network with one hidden layer (Iyyer et al.
//! 2015). Deliberately absent: the order of words; see [`Lstm`](super::Lstm).

use tch::nn::{Module, VarStore};
use tch::{Device, Kind, Tensor, nn};

use monitor_core::domain::Classes;

use super::network::{self, Network, Padded, Purpose};
use super::words::Sequence;

/// The shape of the weights, and how texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseShape {
    /// Number of ids, the reserved ones included.
    pub vocabulary: usize,
    /// Numbers per word.
    pub embedding: usize,
    /// Numbers of the dense layer.
    pub hidden: usize,
    /// Which words of a text are read.
    pub sequence: Sequence,
}

/// The layers.
#[derive(Debug)]
pub struct Dense {
    shape: DenseShape,
    classes: Classes,
    variables: VarStore,
    embedding: Tensor,
    hidden: nn::Linear,
    output: nn::Linear,
}

impl Dense {
    /// The layers, with initial weights for that purpose.
    pub fn new(shape: DenseShape, classes: Classes, purpose: Purpose, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        Self {
            embedding: purpose.word_vectors(&root, shape.vocabulary, shape.embedding),
            hidden: purpose.linear(&root / "hidden", shape.embedding, shape.hidden),
            output: purpose.linear(&root / "output", shape.hidden, classes.count()),
            classes,
            shape,
            variables,
        }
    }
}

impl Network for Dense {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn variables_mut(&mut self) -> &mut VarStore {
        &mut self.variables
    }

    fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    fn classes(&self) -> Classes {
        self.classes
    }

    fn logits(&self, rows: &Padded, dropout: f64) -> Tensor {
        let train = dropout > 0.0;
        let sum =
            network::look_up(&self.embedding, &rows.ids).sum_dim_intlist(1, false, Kind::Float);
        let mean = (sum / &rows.lengths).dropout(dropout, train);
        let hidden = self.hidden.forward(&mean).relu().dropout(dropout, train);
        network::in_order_of_labels(&self.output.forward(&hidden), self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_padding_change_nothing() {
        let sequence = Sequence { words_max: 40, padded: false, frequent_max: None };
        let shape = DenseShape { vocabulary: 50, embedding: 8, hidden: 4, sequence };
        let dense =
            Dense::new(shape, Classes::Two, Purpose::Training { frozen: false }, Device::Cpu);
        assert_eq!(
            dense.parameters(),
            (50 * 8 + 8 * 4 + 4 + 4 * 2 + 2, 50 * 8 + 8 * 4 + 4 + 4 * 2 + 2)
        );
        network::tests::neighbours_and_padding_change_nothing(dense);
    }
}
