//! BERT and DistilBERT with two classes, in the folder layout of Hugging Face.
//!
//! **Invariant.** Padding is masked, so a row's score depends on its own tokens alone.
//! Methods: Vaswani et al. 2017; Devlin et al. 2019; Sanh et al. 2019; the layers are
//! rust-bert's. Deliberately absent: rust-bert's pipelines, which pad and pass no mask, and
//! formats that can carry code (a pickle is refused, never read).

mod config;
mod frozen;
mod pieces;
mod pretrained;

use std::collections::BTreeMap;

use rust_bert::bert::BertForSequenceClassification;
use rust_bert::distilbert::DistilBertModelClassifier;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use frozen::Frozen;

use super::network::{Network, Padded};
use super::{Weights, WeightsError};

pub use config::TransformerConfig;
pub use pieces::{WordPieces, without_names};
pub use pretrained::Pretrained;

/// First weights of a new head, as in the paper.
const HEAD_STDEV: f64 = 0.02;

/// Which layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransformerKind {
    /// Encoder with a pooler (Devlin et al. 2019).
    Bert,
    /// Half the layers, no pooler (Sanh et al. 2019).
    DistilBert,
}

/// What a manifest says of a transformer; `config.json` beside it has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerShape {
    /// Which layers.
    pub kind: TransformerKind,
    /// How many of them.
    pub layers: usize,
    /// Numbers per token.
    pub width: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Tokens that are read of a text, the two at its ends included.
    pub tokens_max: usize,
}

/// The layers.
pub struct Transformer {
    shape: TransformerShape,
    /// Place of the negative class.
    negative: i64,
    variables: VarStore,
    layers: Layers,
    /// The same layers as they serve; absent while they are trained.
    frozen: Option<Frozen>,
}

enum Layers {
    Bert(BertForSequenceClassification),
    DistilBert(DistilBertModelClassifier),
}

impl Transformer {
    /// The layers, with random first weights out of libtorch's generator: hold
    /// [`GENERATOR`](super::GENERATOR).
    pub fn new(config: &TransformerConfig, tokens_max: usize, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        let layers = match config {
            TransformerConfig::Bert(config) => Layers::Bert(
                BertForSequenceClassification::new(&root, config).expect("its labels are set"),
            ),
            TransformerConfig::DistilBert(config) => Layers::DistilBert(
                DistilBertModelClassifier::new(&root, config).expect("its labels are set"),
            ),
        };
        Self {
            shape: config.shape(tokens_max),
            negative: config.negative(),
            variables,
            layers,
            frozen: None,
        }
    }

    /// The layers with a pretrained body, whose head may be missing and is new then.
    ///
    /// # Errors
    /// Arrays of the body are missing, unexpected, or have another shape.
    pub fn begin(
        config: &TransformerConfig,
        mut body: Weights,
        tokens_max: usize,
        device: Device,
    ) -> Result<Self, WeightsError> {
        let network = Self::new(config, tokens_max, device);
        // In the order of their names, or a seed would not give the same numbers.
        let variables: BTreeMap<_, _> = network.variables.variables().into_iter().collect();
        for (name, mut tensor) in variables {
            let is_head = ["classifier.", "pre_classifier.", "bert.pooler."];
            if is_head.iter().any(|head| name.starts_with(head)) && !body.contains(&name) {
                let first = if name.ends_with(".bias") {
                    Init::Const(0.0)
                } else {
                    Init::Randn { mean: 0.0, stdev: HEAD_STDEV }
                };
                tch::no_grad(|| tensor.init(first));
                body.insert_tensor(&name, &tensor);
            }
        }
        network.load(body)?;
        Ok(network)
    }

    /// Rounds the weights to bfloat16, to compute with.
    pub fn halve(&mut self) {
        self.variables.bfloat16();
    }

    /// Prepares for service with the weights there are now: faster, and no more to be trained.
    pub fn freeze(&mut self, config: &TransformerConfig) {
        self.frozen = Some(tch::no_grad(|| Frozen::new(config, &self.variables)));
    }

    /// Logits of both classes, shape [rows, 2], in the order of the labels.
    fn classes(&self, rows: &Padded, train: bool) -> Tensor {
        let (ids, mask) = (Some(&rows.ids), rows.mask());
        let logits = match &self.layers {
            _ if let Some(frozen) = &self.frozen => frozen.classes(rows),
            Layers::Bert(bert) => bert.forward_t(ids, Some(&mask), None, None, None, train).logits,
            Layers::DistilBert(bert) => {
                let output = bert.forward_t(ids, Some(&mask), None, train);
                output.expect("ids are given, and no embeddings").logits
            }
        };
        logits.to_kind(Kind::Float)
    }
}

impl Network for Transformer {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn variables_mut(&mut self) -> &mut VarStore {
        &mut self.variables
    }

    fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    /// While training, `config.json` says which shares are silenced, as it does for Python's
    /// transformers.
    fn logits(&self, rows: &Padded, dropout: f64) -> Tensor {
        let classes = self.classes(rows, dropout > 0.0);
        classes.select(1, self.negative) - classes.select(1, 1 - self.negative)
    }
}

#[cfg(test)]
mod tests;
