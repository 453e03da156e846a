//! A folder in Hugging Face's layout: `config.json`, `model.safetensors` and
//! `tokenizer.json`, or `vocab.txt` in place of the last.
//!
//! **Invariant.** No code of such a folder is run: weights are read from safetensors, and a
//! pickle is rejected. Deliberately absent: weights in several files.

use std::fs;
use std::path::{Path, PathBuf};

use tch::Device;

use monitor_core::hash::sha256_hex;

use monitor_core::domain::Classes;

use super::config::{self, TransformerConfig};
use super::{Transformer, WordPieces};
use crate::artifact::{ArtifactError, at, read_file, read_manifest};
use crate::{Source, Weights, WeightsError};

/// A pretrained transformer, the start of a training.
pub struct Pretrained {
    folder: PathBuf,
    weights_path: PathBuf,
    config_json: Vec<u8>,
    config: TransformerConfig,
    tokenizer: Words,
    weights: Weights,
    source: Source,
}

#[derive(PartialEq, Eq)]
enum Words {
    Json(Vec<u8>),
    Vocabulary { text: String, lowercase: bool },
}

impl Pretrained {
    /// Reads the folder.
    ///
    /// # Errors
    /// A file is missing, damaged or not supported.
    pub fn read(folder: &Path) -> Result<Self, ArtifactError> {
        let config_path = folder.join("config.json");
        let config_json = read(&config_path)?;
        let config = TransformerConfig::parse(&config_json)
            .map_err(|reason| ArtifactError::Unfit { path: config_path, reason })?;
        let json = folder.join("tokenizer.json");
        let tokenizer = if json.exists() {
            Words::Json(read(&json)?)
        } else {
            let path = folder.join("vocab.txt");
            let text = String::from_utf8(read(&path)?)
                .map_err(|error| ArtifactError::Unfit { path, reason: error.to_string() })?;
            let about = fs::read(folder.join("tokenizer_config.json")).unwrap_or_default();
            let about: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
            Words::Vocabulary { text, lowercase: about["do_lower_case"].as_bool().unwrap_or(true) }
        };
        let path = weights_file(folder)?;
        let bytes = read(&path)?;
        let name = Self::name(folder);
        let source = Source {
            file: format!("{name}/{}", path.file_name().unwrap_or_default().to_string_lossy()),
            sha256: sha256_hex(&bytes),
            about: "pretrained weights to begin with".into(),
        };
        let weights = Weights::parse(&bytes)
            .map_err(|source| ArtifactError::Weights { path: path.clone(), source })?;
        let weights = named(weights, config.prefix());
        Ok(Self {
            folder: folder.to_owned(),
            weights_path: path,
            config_json,
            config,
            tokenizer,
            weights,
            source,
        })
    }

    /// The name of a folder in manifests: `name@version` of a registered model; in the cache of
    /// the model hub (`models--owner--name/snapshots/<commit>`), the model's name there; else its
    /// last part.
    pub fn name(folder: &Path) -> String {
        if let Ok(manifest) = read_manifest(folder) {
            return manifest.id().to_string();
        }
        let last =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let snapshots = folder.parent().filter(|parent| last(parent) == "snapshots");
        let repository = snapshots.and_then(Path::parent).map(last);
        match repository.as_deref().and_then(|folder| folder.strip_prefix("models--")) {
            Some(name) => name.replace("--", "/"),
            None => last(folder),
        }
    }

    /// The mean of its weights and of those of `others`, which began with the same weights: it often knows what
    /// each of them knows ("Model soups", Wortsman et al., ICML 2022).
    ///
    /// # Errors
    /// Another one has other layers, classes or word pieces.
    pub fn mean_with(mut self, others: Vec<Self>) -> Result<Self, ArtifactError> {
        let tokens = self.config.positions();
        for other in &others {
            let same = self.tokenizer == other.tokenizer
                && self.config.classes() == other.config.classes()
                && self.config.shape(tokens) == other.config.shape(tokens);
            if !same {
                return Err(ArtifactError::Unfit {
                    path: other.folder.clone(),
                    reason: format!(
                        "it has other layers, classes or word pieces than {}: only weights of one shape have a mean",
                        self.folder.display()
                    ),
                });
            }
            self.source.about = "one of those whose mean weights it begins with".into();
        }
        let others: Vec<Weights> = others.into_iter().map(|other| other.weights).collect();
        self.weights = self
            .weights
            .mean(&others)
            .map_err(|source| ArtifactError::Weights { path: self.weights_path.clone(), source })?;
        Ok(self)
    }

    /// Keeps `layers` of its layers, evenly spaced and with the last one, as a student of DistilBERT's kind
    /// begins (Sanh et al. 2019).
    ///
    /// # Errors
    /// It has fewer layers.
    pub fn with_layers(mut self, layers: usize) -> Result<Self, ArtifactError> {
        let before = self.config.shape(1).layers;
        if layers > before {
            let reason = format!("it has {before} layers, fewer than the {layers} to keep");
            return Err(ArtifactError::Unfit { path: self.folder.join("config.json"), reason });
        }
        let kept: Vec<usize> = (1..=layers).map(|nth| nth * before / layers - 1).collect();
        self.weights = self.weights.rename(|name| layer_renamed(name, &kept));
        self.config_json = config::with_layers(&self.config_json, layers);
        self.config = TransformerConfig::parse(&self.config_json).expect("it was read before");
        self.source.about = format!("{}, {layers} of its {before} layers", self.source.about);
        Ok(self)
    }

    /// Keeps `count` of its word pieces: the most frequent ones of `texts`, which are given by their
    /// token ids. The special tokens, the ids before them, and pieces of one character are always
    /// among them, so that every word can still be read, if in more pieces.
    ///
    /// # Errors
    /// It has fewer word pieces, or those that are always kept are more.
    pub fn with_vocabulary(
        mut self,
        count: usize,
        texts: impl Iterator<Item = Vec<u32>>,
    ) -> Result<Self, ArtifactError> {
        let pieces = self.tokenizer(self.config.positions())?;
        let before = pieces.ids();
        let kept = pieces.most_frequent(count, texts).map_err(|reason| ArtifactError::Unfit {
            path: self.folder.join("config.json"),
            reason,
        })?;
        let table = format!("{}.embeddings.word_embeddings.weight", self.config.prefix());
        self.weights
            .keep_rows(&table, &kept)
            .map_err(|source| ArtifactError::Weights { path: self.weights_path.clone(), source })?;
        self.tokenizer = Words::Json(pieces.with(&kept));
        self.config_json = config::with_vocabulary(&self.config_json, kept.len());
        self.config = TransformerConfig::parse(&self.config_json).expect("it was read before");
        self.source.about = format!("{}, {count} of its {before} word pieces", self.source.about);
        Ok(self)
    }

    /// Layers and labels.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The source of its weights.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Its tokenizer, for texts of up to `tokens_max` tokens.
    ///
    /// # Errors
    /// It is invalid, or has more ids than the model.
    pub fn tokenizer(&self, tokens_max: usize) -> Result<WordPieces, ArtifactError> {
        let unfit = |file, reason| ArtifactError::Unfit { path: self.folder.join(file), reason };
        let (file, pieces) = match &self.tokenizer {
            Words::Json(json) => ("tokenizer.json", WordPieces::parse(json, tokens_max)),
            Words::Vocabulary { text, lowercase } => {
                ("vocab.txt", WordPieces::of_vocabulary(text, *lowercase, tokens_max))
            }
        };
        let pieces = pieces.map_err(|reason| unfit(file, reason))?;
        let (known, ids) = (self.config.shape(tokens_max).vocabulary, pieces.ids());
        if ids > known {
            let reason = format!("it has {ids} ids, and the model of config.json has {known}");
            return Err(unfit(file, reason));
        }
        Ok(pieces)
    }

    /// `config.json` of the classifier that is trained from it.
    pub fn classifier_config(&self, classes: Classes) -> Vec<u8> {
        config::of_classifier(&self.config_json, classes).expect("it was read before")
    }

    /// The layers to train, with a new head if it has none or one for other classes.
    ///
    /// # Errors
    /// Arrays are missing, unexpected, or have another shape than `config.json` says.
    pub fn network(
        &self,
        classes: Classes,
        tokens_max: usize,
        device: Device,
    ) -> Result<Transformer, ArtifactError> {
        let (mut config, mut weights) = (self.config.clone(), self.weights.clone());
        if config.classes() != classes {
            config = config.with_classes(classes);
            let keep = |name: &str| (!name.starts_with("classifier.")).then(|| name.to_owned());
            weights = weights.rename(keep);
        }
        Transformer::begin(&config, weights, tokens_max, device).map_err(|source: WeightsError| {
            ArtifactError::Weights { path: self.weights_path.clone(), source }
        })
    }
}

/// Reads a file of the folder.
fn read(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    read_file(path).map_err(|error| match error {
        ArtifactError::Missing(path) => missing(path),
        other => other,
    })
}

fn missing(path: PathBuf) -> ArtifactError {
    let reason = "it is missing: a pretrained transformer is a folder with config.json, \
                  model.safetensors and tokenizer.json or vocab.txt";
    ArtifactError::Unfit { path, reason: reason.into() }
}

/// The weights file.
fn weights_file(folder: &Path) -> Result<PathBuf, ArtifactError> {
    let whole = folder.join("model.safetensors");
    if whole.exists() {
        return Ok(whole);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        names.push(entry.map_err(at(folder))?.file_name().to_string_lossy().into_owned());
    }
    let is_weights = |name: &&String| name.ends_with(".safetensors");
    match names.iter().filter(is_weights).collect::<Vec<_>>()[..] {
        [one] => return Ok(folder.join(one)),
        [] => {}
        _ => {
            let reason = "its weights are in several files; save them as one model.safetensors";
            return Err(ArtifactError::Unfit { path: folder.into(), reason: reason.into() });
        }
    }
    let is_pickle = |name: &&String| name.ends_with(".bin") || name.ends_with(".pt");
    match names.iter().find(is_pickle) {
        Some(name) => Err(ArtifactError::Unfit {
            path: folder.join(name),
            reason: "a pickle can contain code and is never read; save the model as \
                     model.safetensors (Python: model.save_pretrained(folder))"
                .into(),
        }),
        None => Err(missing(whole)),
    }
}

/// The arrays under the names of a classifier, without the arrays of other tasks. Old files
/// call the arrays of a LayerNorm gamma and beta; a body without a head has no prefix.
fn named(weights: Weights, prefix: &str) -> Weights {
    let heads = ["classifier.", "pre_classifier."];
    let others =
        ["cls.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "qa_outputs."];
    let begins = |name: &str, with: &[&str]| with.iter().any(|with| name.starts_with(with));
    weights.rename(|name| {
        if begins(name, &others) || name.ends_with("position_ids") {
            return None;
        }
        let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
        let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
        let whole = name.starts_with(&format!("{prefix}.")) || begins(&name, &heads);
        Some(if whole { name } else { format!("{prefix}.{name}") })
    })
}

/// The name of an array whose layer is among those `kept`, by its new number; `None` if it is not.
/// Arrays outside the layers keep their names.
fn layer_renamed(name: &str, kept: &[usize]) -> Option<String> {
    const LAYER: &str = ".layer.";
    let number = name.find(LAYER).map(|at| at + LAYER.len());
    let Some((begin, end)) = number.and_then(|from| Some((from, from + name[from..].find('.')?)))
    else {
        return Some(name.to_owned());
    };
    let number: usize = name[begin..end].parse().ok()?;
    let now = kept.iter().position(|layer| *layer == number)?;
    Some(format!("{}{now}{}", &name[..begin], &name[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_kept_by_their_number() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(layer_renamed(name, &[1, 3, 11]).as_deref(), expected, "{name}");
        };
        check(
            "bert.encoder.layer.3.output.dense.bias",
            Some("bert.encoder.layer.1.output.dense.bias"),
        );
        check(
            "bert.encoder.layer.11.output.dense.bias",
            Some("bert.encoder.layer.2.output.dense.bias"),
        );
        check("bert.encoder.layer.2.output.dense.bias", None);
        check(
            "distilbert.transformer.layer.1.ffn.lin1.bias",
            Some("distilbert.transformer.layer.0.ffn.lin1.bias"),
        );
        check("bert.embeddings.LayerNorm.bias", Some("bert.embeddings.LayerNorm.bias"));
        check("classifier.weight", Some("classifier.weight"));
    }

    #[test]
    fn names() {
        let check = |folder: &str, expected| {
            assert_eq!(Pretrained::name(Path::new(folder)), expected, "{folder}");
        };
        check("models/minilm", "minilm");
        check("models/minilm/", "minilm");
        check("hub/models--distilbert-base-uncased/snapshots/12f0", "distilbert-base-uncased");
        check("/a/models--owner--name/snapshots/12f0", "owner/name");
        check("snapshots/12f0", "12f0");
        check("run/snapshots/12f0", "12f0");
    }
}
