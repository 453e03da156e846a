//! The layers for inference: the arithmetic of rust-bert's layers with fewer passes over
//! memory.
//!
//! Query, key and value are one matrix product; attention and GELU are libtorch's fused ones;
//! the last layer is computed only for the first token, because only that token determines the
//! classes.
//!
//! **Invariant.** Logits are those of rust-bert's layers, except rounding; a test compares
//! them. Deliberately absent: dropout and gradients; training uses rust-bert's layers.

use rust_bert::Activation;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::{TransformerConfig, TransformerKind};
use crate::network::Padded;

/// The constant that LayerNorm adds to the variance.
const EPS: f64 = 1e-12;

/// The layers, with their arrays in the form that inference needs.
pub(super) struct InferenceTransformer {
    /// Shape [vocabulary, width].
    words: Tensor,
    /// Positions plus the only segment, shape [positions, width].
    places: Tensor,
    norm: Affine,
    layers: Vec<Layer>,
    heads: i64,
    activation: fn(&Tensor) -> Tensor,
    /// The layer between the first token and the classes.
    pooler: Affine,
    pooled: fn(&Tensor) -> Tensor,
    classifier: Affine,
}

struct Layer {
    /// Query, key and value, concatenated: weight [3 width, width].
    attention: Affine,
    out: Affine,
    attention_norm: Affine,
    up: Affine,
    down: Affine,
    norm: Affine,
}

/// The weight and bias of a linear layer or of a LayerNorm.
struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    fn linear(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }

    fn norm(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPS, false)
    }
}

/// Names of the arrays.
struct Names {
    layer: &'static str,
    attention: [&'static str; 3],
    out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
    pooler: &'static str,
}

const BERT: Names = Names {
    layer: "bert.encoder.layer",
    attention: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
    pooler: "bert.pooler.dense",
};

const DISTILBERT: Names = Names {
    layer: "distilbert.transformer.layer",
    attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    pooler: "pre_classifier",
};

impl InferenceTransformer {
    /// The layers of that configuration, with the arrays of rust-bert's layers.
    pub(super) fn new(config: &TransformerConfig, variables: &VarStore) -> Self {
        let arrays = variables.variables();
        let array = |name: &str| arrays.get(name).expect("rust-bert has created it").detach();
        let affine = |name: &str| Affine {
            weight: array(&format!("{name}.weight")),
            bias: array(&format!("{name}.bias")),
        };
        let shape = config.shape(0);
        let names = match shape.kind {
            TransformerKind::Bert => BERT,
            TransformerKind::DistilBert => DISTILBERT,
        };
        let layer = |number: usize| {
            let of = |part: &str| format!("{}.{number}.{part}", names.layer);
            let parts = names.attention.map(|part| affine(&of(part)));
            Layer {
                attention: Affine {
                    weight: Tensor::cat(&parts.each_ref().map(|part| &part.weight), 0),
                    bias: Tensor::cat(&parts.each_ref().map(|part| &part.bias), 0),
                },
                out: affine(&of(names.out)),
                attention_norm: affine(&of(names.attention_norm)),
                up: affine(&of(names.up)),
                down: affine(&of(names.down)),
                norm: affine(&of(names.norm)),
            }
        };
        let embeddings = format!("{}.embeddings", config.prefix());
        let table = |name: &str| array(&format!("{embeddings}.{name}.weight"));
        let places = table("position_embeddings");
        let (places, pooled): (_, fn(&Tensor) -> Tensor) = match shape.kind {
            TransformerKind::Bert => (places + table("token_type_embeddings").get(0), Tensor::tanh),
            TransformerKind::DistilBert => (places, Tensor::relu),
        };
        Self {
            words: table("word_embeddings"),
            places,
            norm: affine(&format!("{embeddings}.LayerNorm")),
            layers: (0..shape.layers).map(layer).collect(),
            heads: shape.heads as i64,
            activation: match config.activation() {
                Activation::gelu_new => |x| x.gelu("tanh"),
                Activation::relu => Tensor::relu,
                _ => |x| x.gelu("none"),
            },
            pooler: affine(names.pooler),
            pooled,
            classifier: affine("classifier"),
        }
    }

    /// Logits of the classes, shape [rows, classes], in the order of `config.json`.
    pub(super) fn classes(&self, rows: &Padded) -> Tensor {
        let (count, longest) = rows.ids.size2().expect("rows of ids");
        let words = Tensor::embedding(&self.words, &rows.ids, -1, false, false);
        let mut x = self.norm.norm(&(words + self.places.narrow(0, 0, longest)));
        let mask = rows
            .has_padding()
            .then(|| rows.mask().to_kind(Kind::Bool).view([count, 1, 1, longest]));
        let last = self.layers.len() - 1;
        for (number, layer) in self.layers.iter().enumerate() {
            x = self.layer(layer, &x, mask.as_ref(), number == last);
        }
        let first = (self.pooled)(&self.pooler.linear(&x.select(1, 0)));
        self.classifier.linear(&first)
    }

    /// One layer; only for the first token if `first_only`.
    fn layer(&self, layer: &Layer, x: &Tensor, mask: Option<&Tensor>, first_only: bool) -> Tensor {
        let (rows, longest, width) = x.size3().expect("rows of tokens of numbers");
        let parts = layer.attention.linear(x).view([rows, longest, 3, self.heads, -1]);
        let parts = parts.permute([2, 0, 3, 1, 4]);
        let (mut query, mut x) = (parts.get(0), x.shallow_clone());
        if first_only {
            query = query.narrow(2, 0, 1);
            x = x.narrow(1, 0, 1);
        }
        let seen = Tensor::scaled_dot_product_attention(
            &query,
            &parts.get(1),
            &parts.get(2),
            mask,
            0.0,
            false,
            None,
            false,
        );
        let seen = seen.transpose(1, 2).reshape([rows, -1, width]);
        let x = layer.attention_norm.norm(&(layer.out.linear(&seen) + x));
        let wide = (self.activation)(&layer.up.linear(&x));
        layer.norm.norm(&(layer.down.linear(&wide) + x))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Device;

    use super::super::{Network, Transformer};
    use super::*;

    #[test]
    fn computes_the_logits_of_rust_bert() {
        let check = |config: serde_json::Value| {
            let name = config.to_string();
            let config = TransformerConfig::parse(name.as_bytes()).unwrap();
            let mut network = Transformer::new(&config, 40, Device::Cpu);
            let long: Vec<u32> = (0..40).map(|n| n * 7 % 50).collect();
            let mixed: Vec<&[u32]> = vec![&long, &long[..3], &long[5..22], &long[..1]];
            let alike: Vec<&[u32]> = vec![&long[..9], &long[9..18]];
            for rows in [mixed, alike] {
                let rows = Padded::new(&rows, Device::Cpu);
                network.inference = None;
                let slow = network.logits(&rows, 0.0);
                network.prepare_inference(&config);
                let difference = (network.logits(&rows, 0.0) - &slow).abs().max();
                let spread = slow.abs().max().double_value(&[]);
                assert!(spread > 1e-3, "{name}: the test needs logits that differ");
                assert!(difference.double_value(&[]) < 1e-5 * (1.0 + spread), "{name}");
            }
        };
        let bert = |activation: &str| {
            json!({
                "model_type": "bert", "hidden_size": 24, "num_attention_heads": 3, "vocab_size": 50,
                "num_hidden_layers": 3, "intermediate_size": 48, "max_position_embeddings": 48,
                "hidden_act": activation
            })
        };
        check(bert("gelu"));
        check(bert("gelu_new"));
        check(bert("relu"));
        check(json!({
            "model_type": "distilbert", "dim": 24, "n_heads": 4, "n_layers": 2, "hidden_dim": 48,
            "vocab_size": 50, "max_position_embeddings": 48
        }));
    }
}
