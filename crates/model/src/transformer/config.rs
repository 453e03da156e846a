//! `config.json` of BERT and DistilBERT classifiers.
//!
//! **Invariant.** A configuration that is accepted has the classes negative and positive, or
//! these and neutral, and layers that rust-bert computes like transformers. Deliberately absent: other kinds of
//! model.

use std::collections::HashMap;

use monitor_core::domain::{Classes, Label};
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
        let mut found: Vec<Option<Label>> =
            names.iter().map(|(_, name)| label(name, names.len())).collect();
        found.sort_unstable();
        let expected =
            |classes: Classes| found.iter().copied().eq(classes.labels().iter().copied().map(Some));
        let counted = names.iter().map(|(id, _)| **id).eq(0..names.len() as i64);
        if counted && (expected(Classes::Two) || expected(Classes::Three)) {
            Ok(())
        } else {
            Err(format!(
                "its labels are {names:?}; there must be negative and positive, or negative, neutral \
                 and positive (or LABEL_0 and so on, in this order), numbered from 0"
            ))
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

    /// The classes of its labels.
    pub fn classes(&self) -> Classes {
        if self.labels().len() == 3 { Classes::Three } else { Classes::Two }
    }

    /// Index of the output of each class, in the order of [`Classes::labels`].
    pub fn outputs(&self) -> Vec<i64> {
        let labels = self.labels();
        let output = |wanted: &Label| {
            let is_it = |(_, name): &(&i64, &String)| label(name, labels.len()) == Some(*wanted);
            labels.iter().find(is_it).map_or(0, |(id, _)| *id)
        };
        self.classes().labels().iter().map(output).collect()
    }

    /// The same layers with the outputs of `classes`, in their order.
    pub fn with_classes(mut self, classes: Classes) -> Self {
        let names = classes.labels().iter().map(|label| label.as_str().to_owned());
        let labels = Some((0..).zip(names).collect());
        match &mut self {
            Self::Bert(config) => config.id2label = labels,
            Self::DistilBert(config) => config.id2label = labels,
        }
        self
    }

    fn labels(&self) -> &HashMap<i64, String> {
        let (Self::Bert(BertConfig { id2label, .. })
        | Self::DistilBert(DistilBertConfig { id2label, .. })) = self;
        id2label.as_ref().expect("reading set them")
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

/// The meaning of a label among `count`: by its name, or by the number in LABEL_0.
fn label(name: &str, count: usize) -> Option<Label> {
    if let Some(number) = name.strip_prefix("LABEL_") {
        let classes = Classes::try_from(u8::try_from(count).ok()?).ok()?;
        return classes.labels().get(number.parse::<usize>().ok()?).copied();
    }
    Label::of_word(name.get(..3)?)
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
/// transformers, and single precision. Labels stay if their number is right.
pub fn of_classifier(base: &[u8], classes: Classes) -> Result<Vec<u8>, String> {
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
    if all.get("id2label").is_none_or(Value::is_null) || config.classes() != classes {
        let (mut names, mut ids) = (Map::new(), Map::new());
        for (id, label) in classes.labels().iter().enumerate() {
            names.insert(id.to_string(), json!(label.as_str()));
            ids.insert(label.as_str().into(), json!(id));
        }
        all.insert("id2label".into(), names.into());
        all.insert("label2id".into(), ids.into());
        all.remove("num_labels");
    }
    let mut text = serde_json::to_vec_pretty(&all).expect("it was JSON before");
    text.push(b'\n');
    Ok(text)
}

/// The configuration `text`, which was read before, with `layers` layers.
pub fn with_layers(text: &[u8], layers: usize) -> Vec<u8> {
    changed(text, |all| {
        let kind = all.get("model_type").and_then(Value::as_str);
        let name = if kind == Some("distilbert") { "n_layers" } else { "num_hidden_layers" };
        all.insert(name.into(), json!(layers));
    })
}

/// The configuration `text`, which was read before, with `count` token ids.
pub fn with_vocabulary(text: &[u8], count: usize) -> Vec<u8> {
    changed(text, |all| {
        all.insert("vocab_size".into(), json!(count));
    })
}

fn changed(text: &[u8], change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let mut all = serde_json::from_slice(text).expect("it was read before");
    change(&mut all);
    serde_json::to_vec(&all).expect("it was JSON before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let check = |name: &str, text: Value, expected: Result<(usize, &[i64]), &str>| {
            let parsed = TransformerConfig::parse(text.to_string().as_bytes());
            let found = parsed.as_ref().map(|it| (it.shape(8).layers, it.outputs()));
            match (found, expected) {
                (Ok((layers, outputs)), Ok(expected)) => {
                    assert_eq!((layers, outputs.as_slice()), expected, "{name}");
                }
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{name}: {error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        let labels = |a: &str, b: &str| json!({"0": a, "1": b});
        check("published", json!({"model_type": "distilbert"}), Ok((6, &[0, 1])));
        check("ours", json!({"model_type": "bert", "num_hidden_layers": 3}), Ok((3, &[0, 1])));
        let turned = json!({"model_type": "bert", "id2label": labels("positive", "negative")});
        check("labels turned", turned, Ok((12, &[1, 0])));
        let unnamed = json!({"model_type": "bert", "id2label": labels("LABEL_0", "LABEL_1")});
        check("labels unnamed", unnamed, Ok((12, &[0, 1])));
        let three = json!({"0": "positive", "1": "neutral", "2": "negative"});
        let three = json!({"model_type": "bert", "id2label": three});
        check("three labels", three.clone(), Ok((12, &[2, 1, 0])));
        let config = TransformerConfig::parse(three.to_string().as_bytes()).unwrap();
        assert_eq!(
            (config.classes(), config.with_classes(Classes::Two).outputs()),
            (Classes::Three, vec![0, 1])
        );
        let four = json!({"0": "neg", "1": "neu", "2": "pos", "3": "pos"});
        check("four labels", json!({"model_type": "bert", "id2label": four}), Err("its labels"));
        let stars = json!({"model_type": "bert", "id2label": labels("1 star", "5 stars")});
        check("other labels", stars, Err("its labels"));
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
