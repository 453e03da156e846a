//! `config.json` of BERT and DistilBERT classifiers.
//!
//! **Invariant.** A configuration that is accepted has two classes, one of them negative,
//! and layers that rust-bert computes like transformers. Deliberately absent: other kinds of
//! model.

use rust_bert::Activation;
use rust_bert::bert::BertConfig;
use rust_bert::distilbert::DistilBertConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{TransformerKind, TransformerShape};

/// The constant that LayerNorm adds to the variance in rust-bert and in all published BERTs.
const LAYER_NORM_EPS: f64 = 1e-12;
/// Upper limit of every size in a configuration.
const SIZE_MAX: i64 = 1 << 20;

/// Layers and labels.
#[derive(Debug, Clone)]
pub enum TransformerConfig {
    /// `"model_type": "bert"`
    Bert(BertConfig),
    /// `"model_type": "distilbert"`
    DistilBert(DistilBertConfig),
}

impl TransformerConfig {
    /// Reads `config.json`. Without labels, they are `NEGATIVE` and `POSITIVE`.
    ///
    /// # Errors
    /// A message that says what is invalid.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut given: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let kind = given.get("model_type").and_then(Value::as_str).unwrap_or("none");
        let kind = match kind {
            "bert" => TransformerKind::Bert,
            "distilbert" => TransformerKind::DistilBert,
            other => {
                return Err(format!(
                    "its model_type is {other:?}; supported are \"bert\" and \"distilbert\""
                ));
            }
        };
        let eps = given.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(LAYER_NORM_EPS);
        if eps != LAYER_NORM_EPS {
            return Err(format!("layer_norm_eps is {eps}; supported is {LAYER_NORM_EPS}"));
        }
        let positions = given.get("position_embedding_type").and_then(Value::as_str);
        if let Some(other) = positions.filter(|kind| *kind != "absolute") {
            return Err(format!("position_embedding_type is {other:?}; supported is \"absolute\""));
        }
        if given.get("id2label").is_none_or(Value::is_null) {
            given.insert("id2label".into(), json!({"0": "NEGATIVE", "1": "POSITIVE"}));
        }
        let config = match kind {
            TransformerKind::Bert => Self::Bert(complete(given, &BertConfig::default())?),
            TransformerKind::DistilBert => {
                Self::DistilBert(complete(given, &DistilBertConfig::default())?)
            }
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let (sizes, labels) = match self {
            Self::Bert(it) => (
                [
                    it.hidden_size,
                    it.num_hidden_layers,
                    it.num_attention_heads,
                    it.intermediate_size,
                    it.max_position_embeddings,
                    it.vocab_size,
                ],
                &it.id2label,
            ),
            Self::DistilBert(it) => (
                [
                    it.dim,
                    it.n_layers,
                    it.n_heads,
                    it.hidden_dim,
                    it.max_position_embeddings,
                    it.vocab_size,
                ],
                &it.id2label,
            ),
        };
        if let Some(size) = sizes.iter().find(|size| !(1..=SIZE_MAX).contains(*size)) {
            return Err(format!("a size of {size} is out of range"));
        }
        if sizes[0] % sizes[2] != 0 {
            return Err(format!(
                "the width {1} is not a multiple of the {0} heads",
                sizes[2], sizes[0]
            ));
        }
        if !matches!(self.activation(), Activation::gelu | Activation::gelu_new | Activation::relu)
        {
            return Err(format!(
                "its activation is {:?}; supported are gelu, gelu_new and relu",
                self.activation()
            ));
        }
        let mut names: Vec<_> = labels.iter().flatten().collect();
        names.sort();
        match names[..] {
            [(0, first), (1, second)] if is_negative(first) != is_negative(second) => Ok(()),
            _ => Err(format!(
                "its labels are {names:?}; there must be two, one of which begins with \"neg\" or is \
                 LABEL_0"
            )),
        }
    }

    /// Its shape in a manifest.
    pub fn shape(&self, tokens_max: usize) -> TransformerShape {
        let (kind, layers, width, heads, vocabulary) = match self {
            Self::Bert(it) => (
                TransformerKind::Bert,
                it.num_hidden_layers,
                it.hidden_size,
                it.num_attention_heads,
                it.vocab_size,
            ),
            Self::DistilBert(it) => {
                (TransformerKind::DistilBert, it.n_layers, it.dim, it.n_heads, it.vocab_size)
            }
        };
        TransformerShape {
            kind,
            layers: layers as usize,
            width: width as usize,
            heads: heads as usize,
            vocabulary: vocabulary as usize,
            tokens_max,
        }
    }

    /// The activation between the two matrices of a layer.
    pub fn activation(&self) -> Activation {
        let (Self::Bert(BertConfig { hidden_act: it, .. })
        | Self::DistilBert(DistilBertConfig { activation: it, .. })) = self;
        *it
    }

    /// Index of the negative class, 0 or 1.
    pub fn negative(&self) -> i64 {
        let (Self::Bert(BertConfig { id2label, .. })
        | Self::DistilBert(DistilBertConfig { id2label, .. })) = self;
        let labels = id2label.iter().flatten();
        labels.filter(|(_, name)| is_negative(name)).map(|(id, _)| *id).next().unwrap_or(0)
    }

    /// Largest number of tokens of a text.
    pub fn positions(&self) -> usize {
        let (Self::Bert(BertConfig { max_position_embeddings, .. })
        | Self::DistilBert(DistilBertConfig { max_position_embeddings, .. })) = self;
        *max_position_embeddings as usize
    }

    /// Prefix of the names of its arrays: `bert` or `distilbert`.
    pub fn prefix(&self) -> &'static str {
        match self {
            Self::Bert(_) => "bert",
            Self::DistilBert(_) => "distilbert",
        }
    }
}

fn is_negative(label: &str) -> bool {
    label == "LABEL_0" || label.to_ascii_lowercase().starts_with("neg")
}

/// The given configuration; missing values are those of published models.
fn complete<C: serde::Serialize + DeserializeOwned>(
    given: Map<String, Value>,
    published: &C,
) -> Result<C, String> {
    let published = serde_json::to_value(published).expect("a configuration is numbers and text");
    let Value::Object(mut all) = published else { unreachable!("a struct is an object") };
    all.extend(given);
    serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
}

/// `config.json` of a classifier trained from `base`: with named labels, the class for Python's
/// transformers, and single precision.
pub fn of_classifier(base: &[u8]) -> Result<Vec<u8>, String> {
    let config = TransformerConfig::parse(base)?;
    let mut all: Map<String, Value> =
        serde_json::from_slice(base).map_err(|error| error.to_string())?;
    let class = match config {
        TransformerConfig::Bert(_) => "BertForSequenceClassification",
        TransformerConfig::DistilBert(_) => "DistilBertForSequenceClassification",
    };
    for gone in ["_name_or_path", "transformers_version", "gradient_checkpointing", "dtype"] {
        all.remove(gone);
    }
    all.insert("architectures".into(), json!([class]));
    all.insert("torch_dtype".into(), json!("float32"));
    if all.get("id2label").is_none_or(Value::is_null) {
        all.insert("id2label".into(), json!({"0": "NEGATIVE", "1": "POSITIVE"}));
        all.insert("label2id".into(), json!({"NEGATIVE": 0, "POSITIVE": 1}));
    }
    let mut text = serde_json::to_vec_pretty(&all).expect("it was JSON before");
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let check = |name: &str, text: Value, expected: Result<(usize, i64), &str>| {
            let parsed = TransformerConfig::parse(text.to_string().as_bytes());
            let found = parsed.as_ref().map(|it| (it.shape(8).layers, it.negative()));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{name}: {error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        let labels = |a: &str, b: &str| json!({"0": a, "1": b});
        check("published", json!({"model_type": "distilbert"}), Ok((6, 0)));
        check("ours", json!({"model_type": "bert", "num_hidden_layers": 3}), Ok((3, 0)));
        let turned = json!({"model_type": "bert", "id2label": labels("positive", "negative")});
        check("labels turned", turned, Ok((12, 1)));
        let unnamed = json!({"model_type": "bert", "id2label": labels("LABEL_0", "LABEL_1")});
        check("labels unnamed", unnamed, Ok((12, 0)));
        let stars = json!({"model_type": "bert", "id2label": labels("1 star", "5 stars")});
        check("other labels", stars, Err("begins with"));
        check("another kind", json!({"model_type": "roberta"}), Err("\"roberta\""));
        check("no kind", json!({}), Err("model_type"));
        let relative =
            json!({"model_type": "bert", "position_embedding_type": "relative_key_query"});
        check("positions", relative, Err("relative_key_query"));
        check("eps", json!({"model_type": "bert", "layer_norm_eps": 1e-5}), Err("layer_norm_eps"));
        check("heads", json!({"model_type": "bert", "num_attention_heads": 7}), Err("7 heads"));
        check("swish", json!({"model_type": "bert", "hidden_act": "swish"}), Err("swish"));
        check("size", json!({"model_type": "bert", "vocab_size": -1}), Err("-1"));
        check("type", json!({"model_type": "bert", "vocab_size": "many"}), Err("many"));
        assert!(TransformerConfig::parse(b"\x80\x04pickle").is_err());
    }
}
