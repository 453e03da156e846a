//! BERT and DistilBERT with two or three classes, in Hugging Face's folder layout.
//!
//! **Invariant.** Padding is masked, so a row's score depends on its own tokens alone.
//! Methods: Vaswani et al. 2017; Devlin et al. 2019; Sanh et al. 2019; the layers are
//! rust-bert's. Deliberately absent: rust-bert's pipelines, which pad and pass no mask, and
//! formats that can carry code (a pickle is refused, never read).

mod config;
mod inference;
mod pieces;
mod pretrained;

use std::collections::BTreeMap;

use rust_bert::bert::BertForSequenceClassification;
use rust_bert::distilbert::DistilBertModelClassifier;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use inference::InferenceTransformer;
use monitor_core::domain::Classes;

use super::network::{Network, Padded};
use super::{Weights, WeightsError};

pub use config::TransformerConfig;
pub use pieces::{WordPieces, without_names};
pub use pretrained::Pretrained;

/// Standard deviation of the initial weights of a new head, as in the paper.
const HEAD_STDEV: f64 = 0.02;

/// The architecture of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransformerKind {
    /// Encoder with a pooler (Devlin et al. 2019).
    Bert,
    /// Half the layers, no pooler (Sanh et al. 2019).
    DistilBert,
}

/// The transformer in a manifest; `config.json` in the same folder has the other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerShape {
    /// The architecture of the layers.
    pub kind: TransformerKind,
    /// Number of layers.
    pub layers: usize,
    /// Numbers per token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Largest number of tokens that are read of a text, the two at its ends included.
    pub tokens_max: usize,
}

/// The layers.
pub struct Transformer {
    shape: TransformerShape,
    classes: Classes,
    /// Index of the output of each class.
    outputs: Vec<i64>,
    variables: VarStore,
    layers: Layers,
    /// The same layers for inference; `None` during training.
    inference: Option<InferenceTransformer>,
}

enum Layers {
    Bert(BertForSequenceClassification),
    DistilBert(DistilBertModelClassifier),
}

impl Transformer {
    /// The layers, with random initial weights from libtorch's generator: the caller holds
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
            classes: config.classes(),
            outputs: config.outputs(),
            variables,
            layers,
            inference: None,
        }
    }

    /// The layers with a pretrained body. If the body has no head, a new one is created.
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
        // In the order of names, so that a seed gives the same numbers.
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

    /// Rounds the weights to bfloat16, in which the network then computes.
    pub fn to_bf16(&mut self) {
        self.variables.bfloat16();
    }

    /// Prepares for inference with the current weights: faster, and without training from then
    /// on.
    pub fn prepare_inference(&mut self, config: &TransformerConfig) {
        self.inference = Some(tch::no_grad(|| InferenceTransformer::new(config, &self.variables)));
    }

    /// Logits of the classes, shape [rows, classes], in the order of `config.json`.
    fn outputs(&self, rows: &Padded, train: bool) -> Tensor {
        let (ids, mask) = (Some(&rows.ids), rows.mask());
        let logits = match &self.layers {
            _ if let Some(inference) = &self.inference => inference.classes(rows),
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

    fn classes(&self) -> Classes {
        self.classes
    }

    /// In training, `config.json` gives the dropout rates, as for Python's transformers.
    fn logits(&self, rows: &Padded, dropout: f64) -> Tensor {
        let outputs = self.outputs(rows, dropout > 0.0);
        let columns: Vec<Tensor> = self.outputs.iter().map(|at| outputs.select(1, *at)).collect();
        Tensor::stack(&columns, 1)
    }
}

#[cfg(test)]
mod tests;
