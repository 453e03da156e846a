//! Word vectors, an LSTM in one direction or two, two classes.
//!
//! **Invariant.** A row's score depends on its own ids alone. [`Pooling::Max`]: both
//! directions read the words first and the padding after (the backward one reads them
//! reversed), and the maximum is taken over the true length. [`Pooling::Last`]: all rows
//! have the same length, with padding in front, which the study's network reads like words. Method: Hochreiter and Schmidhuber 1997; Graves and
//! Schmidhuber 2005; max-pooling after Conneau et al. 2017. One bias vector per gate, as in
//! Keras; the second one of cuDNN and libtorch is redundant and stays zero. Deliberately
//! absent: stacked layers, which did not improve the results.

use tch::nn::{Init, Module, VarStore};
use tch::{Device, Kind, Tensor, nn};

use monitor_core::domain::Classes;

use super::network::{self, Network, Padded, Purpose};
use super::words::Sequence;

/// How the states of all steps are reduced to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The last state.
    Last,
    /// The maximum of each number over all states.
    Max,
}

/// The shape of the weights, and how texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmShape {
    /// Number of ids, the reserved ones included.
    pub vocabulary: usize,
    /// Numbers per word.
    pub embedding: usize,
    /// Numbers per direction.
    pub hidden: usize,
    /// 1: forward; 2: also backward.
    pub directions: usize,
    /// How the states of all steps are reduced to one.
    pub pooling: Pooling,
    /// Which words of a text are read.
    pub sequence: Sequence,
}

/// The layers.
#[derive(Debug)]
pub struct Lstm {
    shape: LstmShape,
    classes: Classes,
    variables: VarStore,
    embedding: Tensor,
    forward: Direction,
    backward: Option<Direction>,
    output: nn::Linear,
}

/// One direction. Gates are in libtorch's order: input, forget, cell, output.
#[derive(Debug)]
struct Direction {
    /// Shape [4 hidden, embedding].
    input: Tensor,
    /// Shape [4 hidden, hidden].
    recurrent: Tensor,
    /// Shape [4 hidden].
    bias: Tensor,
    /// Shape [4 hidden]; not a parameter.
    no_bias: Tensor,
}

impl Direction {
    /// The initial weights of Keras: uniform after Glorot and Bengio 2010, orthogonal, and an
    /// open forget gate (Jozefowicz et al. 2015).
    fn new(path: &nn::Path<'_>, purpose: Purpose, width: i64, hidden: i64) -> Self {
        let glorot = (6.0 / (width + 4 * hidden) as f64).sqrt();
        let glorot = purpose.first(Init::Uniform { lo: -glorot, up: glorot });
        let orthogonal = purpose.first(Init::Orthogonal { gain: 1.0 });
        let bias = path.var("bias", &[4 * hidden], Init::Const(0.0));
        let _ = tch::no_grad(|| bias.narrow(0, hidden, hidden).fill_(1.0));
        Self {
            input: path.var("input", &[4 * hidden, width], glorot),
            recurrent: path.var("recurrent", &[4 * hidden, hidden], orthogonal),
            no_bias: bias.detach().zeros_like(),
            bias,
        }
    }

    /// States of all steps, shape [rows, steps, hidden], of words, shape [rows, steps, embedding].
    fn states(&self, words: &Tensor) -> Tensor {
        let start = Tensor::zeros(
            [1, words.size()[0], self.recurrent.size()[1]],
            (words.kind(), words.device()),
        );
        let params = [&self.input, &self.recurrent, &self.bias, &self.no_bias];
        let (states, ..) = words.lstm(&[&start, &start], &params, true, 1, 0.0, false, false, true);
        states
    }
}

impl Lstm {
    /// The layers, with initial weights for that purpose.
    pub fn new(shape: LstmShape, classes: Classes, purpose: Purpose, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        let (width, hidden) = (shape.embedding as i64, shape.hidden as i64);
        let direction = |name: &str| Direction::new(&(&root / name), purpose, width, hidden);
        let features = shape.directions * shape.hidden;
        Self {
            embedding: purpose.word_vectors(&root, shape.vocabulary, shape.embedding),
            forward: direction("forward"),
            backward: (shape.directions == 2).then(|| direction("backward")),
            output: purpose.linear(&root / "output", features, classes.count()),
            classes,
            shape,
            variables,
        }
    }

    /// Rounds word vectors and directions to bfloat16, in which they then compute. The output
    /// layer, a thousandth of the work, stays in single precision.
    pub fn to_bf16(&mut self) {
        let mut tensors = vec![&mut self.embedding];
        for it in [Some(&mut self.forward), self.backward.as_mut()].into_iter().flatten() {
            tensors.extend([&mut it.input, &mut it.recurrent, &mut it.bias, &mut it.no_bias]);
        }
        for tensor in tensors {
            let rounded = tensor.to_kind(Kind::BFloat16);
            tensor.set_data(&rounded);
        }
    }
}

impl Network for Lstm {
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
        // The same dropout for both directions, so that neither sees what the other may not.
        let words = network::look_up(&self.embedding, &rows.ids).dropout(dropout, train);
        let pool = |states: Tensor| match self.shape.pooling {
            Pooling::Last => states.select(1, -1),
            Pooling::Max => states.masked_fill(&rows.padding, f64::NEG_INFINITY).amax([1], false),
        };
        let mut features = vec![pool(self.forward.states(&words))];
        if let Some(backward) = &self.backward {
            let words = words.gather(1, &rows.backwards.expand_as(&words), false);
            features.push(pool(backward.states(&words)));
        }
        let features = Tensor::cat(&features, 1).to_kind(Kind::Float).dropout(dropout, train);
        network::in_order_of_labels(&self.output.forward(&features), self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(words_max: usize) -> Sequence {
        Sequence { words_max, padded: false, frequent_max: None }
    }

    #[test]
    fn neighbours_and_padding_change_nothing() {
        let shape = LstmShape {
            vocabulary: 50,
            embedding: 8,
            hidden: 8,
            directions: 2,
            pooling: Pooling::Max,
            sequence: sequence(40),
        };
        network::tests::neighbours_and_padding_change_nothing(Lstm::new(
            shape,
            Classes::Three,
            Purpose::Training { frozen: false },
            Device::Cpu,
        ));
    }

    #[test]
    fn half_precision_changes_little() {
        let shape = LstmShape {
            vocabulary: 200,
            embedding: 32,
            hidden: 32,
            directions: 2,
            pooling: Pooling::Max,
            sequence: sequence(40),
        };
        let purpose = Purpose::Training { frozen: false };
        let mut network = Lstm::new(shape, Classes::Three, purpose, Device::Cpu);
        let rows: Vec<Vec<u32>> = (0..50u32)
            .map(|n| (0..=n % 30).map(|k| 1 + (n * 7 + k * 13) % 199).collect())
            .collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let logits = |network: &Lstm| {
            network::values(&network.logits(&Padded::new(&rows, Device::Cpu), 0.0))
        };
        let single = logits(&network);
        network.to_bf16();
        assert_eq!(network.embedding.kind(), Kind::BFloat16);
        let half = logits(&network);
        let apart = single.iter().zip(&half).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 0.02, "{apart}");
    }

    /// Numbers of the study's Keras summaries.
    #[test]
    fn networks_of_the_study_have_their_known_sizes() {
        for (width, all, trainable) in [(50, 1_692_802, 20_302), (300, 10_756_802, 721_802)] {
            let shape = LstmShape {
                vocabulary: 1 + 33_449, // padding and the words
                embedding: width,
                hidden: width,
                directions: 1,
                pooling: Pooling::Last,
                sequence: sequence(25),
            };
            assert_eq!(
                Lstm::new(shape, Classes::Two, Purpose::Training { frozen: true }, Device::Cpu)
                    .parameters(),
                (all, trainable)
            );
        }
    }
}
