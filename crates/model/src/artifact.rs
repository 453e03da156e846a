//! One version of one model on disk.
//!
//! `models/<name>/<version>/` holds `manifest.json`, `weights.safetensors`,
//! `README.md` (the model card) and, if the family has one, `vocabulary.txt`; with the
//! study's preset also `lexicon.txt`. A transformer's folder has Hugging Face's layout
//! instead (`config.json`, `model.safetensors`, `tokenizer.json`,
//! `tokenizer_config.json`), so that Python's transformers can open it. A cascade has
//! neither weights nor words.
//!
//! **Invariant.** A version is written whole or not at all (a temporary folder, then a
//! rename), and never changed: the manifest contains every file's SHA-256, and loading checks
//! that of each file the model reads. Deliberately absent: paths of the machine that trained
//! it, and formats that can contain code.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::batched_network::BatchedNetwork;
use super::manifest::{Architecture, Manifest};
use super::weights::{StoredPrecision, WeightsError};
use super::{
    Cascade, Classifier, Compute, Dense, DeviceError, Encoder, GENERATOR, HashedWords, KnownNgrams,
    Logistic, Lstm, Member, Model, ModelId, Network, Purpose, Sequence, Tfidf, Transformer,
    TransformerConfig, Weights, WordIds, WordPieces,
};

use monitor_core::hash::sha256_hex;
use monitor_core::text::{
    Analyzer, Lexicon, LexiconError, Ngrams, NgramsError, Preset, Vocabulary, VocabularyError,
};

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "weights.safetensors";
const VOCABULARY: &str = "vocabulary.txt";
const HF_WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// Only for Python's transformers.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const LEXICON: &str = "lexicon.txt";
const NGRAMS: &str = "ngrams.txt";
/// Name of the model card.
pub const CARD: &str = "README.md";
/// The content of a version before it is written.
#[derive(Debug)]
pub struct NewArtifact {
    /// Complete except `version` and `files`, which writing fills in.
    pub manifest: Manifest,
    /// The weights.
    pub weights: Weights,
    /// The words, if the family has any.
    pub vocabulary: Option<Vocabulary>,
    /// From texts to words; its word lists are kept with the vocabulary.
    pub analyzer: Analyzer,
    /// The n-grams, if the family has any.
    pub ngrams: Option<Ngrams>,
    /// The other files that Python's transformers reads, for a transformer.
    pub transformer: Option<TransformerFiles>,
    /// Further files to keep with it, such as the training log.
    pub extra: BTreeMap<String, Vec<u8>>,
}

/// The files of a transformer's folder except its weights.
#[derive(Debug)]
pub struct TransformerFiles {
    /// `config.json`
    pub config: Vec<u8>,
    /// `tokenizer.json`
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub tokenizer_config: Vec<u8>,
}

/// Why a model could not be read or written, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No model of that name.
    #[error("there is no model {name:?} in {}; {}", .directory.display(), one_of(.known))]
    Unknown {
        /// The requested name.
        name: String,
        /// The searched folder.
        directory: PathBuf,
        /// The existing models.
        known: Vec<String>,
    },
    /// An invalid model name.
    #[error(
        "{0:?} is not a model name: use lower-case letters, digits, '-' and '_', {max} at most",
        max = super::NAME_BYTES_MAX
    )]
    Name(String),
    /// A file in the manifest is missing.
    #[error("{} is missing: restore it, or train the model again (monitor retrain)", .0.display())]
    Missing(PathBuf),
    /// A file has changed since it was written.
    #[error(
        "{} was changed or truncated: its SHA-256 is {found}, and the manifest says {expected}; \
         restore the file, or train the model again (monitor retrain)", .path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// SHA-256 in the manifest.
        expected: String,
        /// SHA-256 of the file.
        found: String,
    },
    /// A JSON file is invalid or lacks a field.
    #[error("{}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The manifest has a value that this program does not support.
    #[error("{}: {reason}", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file of a transformer's folder is invalid or not supported.
    #[error("{}: {reason}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A model of a cascade cannot be opened, or is another version.
    #[error(
        "{cascade} needs {member}: {source}; or fit the cascade again (monitor models cascade)"
    )]
    Member {
        /// The cascade.
        cascade: ModelId,
        /// Its model.
        member: ModelId,
        /// The reason.
        source: Box<ArtifactError>,
    },
    /// The device of the settings is unknown or missing.
    #[error("model.device: {0}")]
    Device(#[from] DeviceError),
    /// The weights do not fit the manifest.
    #[error("{}: {source}", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: WeightsError,
    },
    /// The vocabulary is invalid.
    #[error("{}: {source}", .path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: VocabularyError,
    },
    /// The word lists of the study's preset are invalid.
    #[error("{}: {source}", .path.display())]
    Lexicon {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: LexiconError,
    },
    /// The list of n-grams is invalid.
    #[error("{}: {source}", .path.display())]
    Ngrams {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: NgramsError,
    },
}

fn one_of(known: &[String]) -> String {
    if known.is_empty() {
        "there are none: train one (monitor retrain), or set model.directory to another folder"
            .into()
    } else {
        format!("there are {}", known.join(", "))
    }
}

/// Adds a path to the system's error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { path, source }
}

/// Reads `manifest.json` of the version in `folder`.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, ArtifactError> {
    let path = folder.join(MANIFEST);
    let text = read_file(&path)?;
    serde_json::from_slice(&text).map_err(|source| ArtifactError::Json { path, source })
}

/// SHA-256 of a file that must exist.
pub(super) fn checksum(path: &Path) -> Result<String, ArtifactError> {
    Ok(sha256_hex(&read_file(path)?))
}

/// Reads a file that must exist.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArtifactError::Missing(path.to_owned()),
        _ => at(path)(source),
    })
}

/// The manifest's SHA-256, which covers all files that the model reads.
pub(super) fn manifest_checksum(folder: &Path) -> Result<String, ArtifactError> {
    checksum(&folder.join(MANIFEST))
}

/// Rejects a version with another manifest than expected.
pub(super) fn check_manifest(folder: &Path, expected: &str) -> Result<(), ArtifactError> {
    let found = manifest_checksum(folder)?;
    if found == expected {
        return Ok(());
    }
    let (path, expected) = (folder.join(MANIFEST), expected.to_owned());
    Err(ArtifactError::Checksum { path, expected, found })
}

/// Reads and verifies the version in `folder`; `open` opens the models of a cascade.
pub(super) fn load(
    folder: &Path,
    compute: Compute,
    open: impl Fn(&Member) -> Result<Model, ArtifactError>,
) -> Result<Model, ArtifactError> {
    let manifest = read_manifest(folder)?;
    // The model card is not read, so a corrected typo in it does not stop a daemon.
    let mut files = BTreeMap::new();
    for (name, expected) in manifest.files_read() {
        let path = folder.join(name);
        let bytes = read_file(&path)?;
        let found = sha256_hex(&bytes);
        if found != *expected {
            return Err(ArtifactError::Checksum { path, expected: expected.clone(), found });
        }
        files.insert(name.as_str(), bytes);
    }
    let refuse = |reason: String| ArtifactError::Manifest { path: folder.join(MANIFEST), reason };
    let preset: Preset = manifest.preset.parse().map_err(|error| refuse(format!("{error}")))?;
    // Parse the verified bytes, not the file, which may have changed since.
    let mut verified = |name: &str| {
        files.remove(name).ok_or_else(|| refuse(format!("{name:?} is not among its files")))
    };
    let numbers_file = weights_file(&manifest);
    let numbers = numbers_file.map(&mut verified).transpose()?;
    let list = match list(&manifest) {
        Some(name) => text(&folder.join(name), verified(name)?)?,
        None => String::new(),
    };
    let analyzer = match preset {
        Preset::Tweet => Analyzer::tweet(),
        Preset::Study => {
            let path = folder.join(LEXICON);
            let lexicon = Lexicon::parse(&text(&path, verified(LEXICON)?)?)
                .map_err(|source| ArtifactError::Lexicon { path, source })?;
            Analyzer::study(Arc::new(lexicon))
        }
    };
    let Manifest { classes, calibration, .. } = manifest;
    let languages = manifest.languages.clone();
    if !calibration.has_valid_temperatures() {
        return Err(refuse("a temperature is not above zero".into()));
    }
    let thresholds =
        calibration.thresholds().map_err(|error| refuse(format!("threshold {error}")))?;

    let unfit = |source| ArtifactError::Weights {
        path: folder.join(numbers_file.unwrap_or(MANIFEST)),
        source,
    };
    let mut weights = match numbers {
        Some(numbers) => Weights::parse(&numbers).map_err(unfit)?,
        None => Weights::default(),
    };
    let words = |size: usize, sequence: Sequence| {
        let vocabulary = Vocabulary::parse(&list).map_err(|source| ArtifactError::Vocabulary {
            path: folder.join(VOCABULARY),
            source,
        })?;
        if vocabulary.len() != size {
            return Err(refuse(format!(
                "it says {size} words, and {VOCABULARY} has {}",
                vocabulary.len()
            )));
        }
        Ok(Arc::new(WordIds::new(analyzer.clone(), vocabulary, sequence)))
    };
    let id = manifest.id();
    let device = compute.device;
    let (encoder, classifier): (Arc<dyn Encoder>, Box<dyn Classifier>) = match manifest.architecture
    {
        Architecture::LogisticHash(shape) => {
            let encoder = HashedWords::new(analyzer, shape).ok_or_else(|| {
                refuse(format!("2^{} buckets are out of range", shape.buckets_log2))
            })?;
            (
                Arc::new(encoder),
                Box::new(Logistic::load(shape, classes, &mut weights).map_err(unfit)?),
            )
        }
        Architecture::LogisticTfidf(shape) => {
            let ngrams = Ngrams::parse(list)
                .map_err(|source| ArtifactError::Ngrams { path: folder.join(NGRAMS), source })?;
            if ngrams.ids() != shape.ngrams {
                return Err(refuse(format!(
                    "it says {} ids (one per line, and one for an empty text), and {NGRAMS} gives {}",
                    shape.ngrams,
                    ngrams.ids()
                )));
            }
            let encoder = KnownNgrams::new(analyzer, ngrams, shape);
            (Arc::new(encoder), Box::new(Tfidf::load(shape, classes, &mut weights).map_err(unfit)?))
        }
        Architecture::Dense(shape) => {
            let encoder = words(shape.vocabulary, shape.sequence)?;
            let network = Dense::new(shape, classes, Purpose::Inference, device);
            network.load(weights).map_err(unfit)?;
            (encoder, Box::new(BatchedNetwork::new(network, compute.tokens_max)))
        }
        Architecture::Lstm(shape) => {
            let encoder = words(shape.vocabulary, shape.sequence)?;
            let mut network = Lstm::new(shape, classes, Purpose::Inference, device);
            network.load(weights).map_err(unfit)?;
            if compute.bf16 {
                network.to_bf16();
            }
            (encoder, Box::new(BatchedNetwork::new(network, compute.tokens_max)))
        }
        Architecture::Transformer(shape) => {
            let refuse = |file, reason| ArtifactError::Unfit { path: folder.join(file), reason };
            let config = TransformerConfig::parse(&verified(CONFIG)?)
                .map_err(|reason| refuse(CONFIG, reason))?;
            if config.shape(shape.tokens_max) != shape
                || shape.tokens_max > config.positions()
                || config.classes() != classes
            {
                return Err(refuse(CONFIG, "it differs from the manifest".into()));
            }
            let encoder = WordPieces::parse(&verified(TOKENIZER)?, shape.tokens_max)
                .map_err(|reason| refuse(TOKENIZER, reason))?;
            let (ids, known) = (encoder.ids(), shape.vocabulary);
            if ids > known {
                let reason = format!("it has {ids} ids, and the manifest says {known}");
                return Err(refuse(TOKENIZER, reason));
            }
            let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
            let mut network = Transformer::new(&config, shape.tokens_max, device);
            drop(guard);
            network.load(weights).map_err(unfit)?;
            if compute.bf16 {
                network.to_bf16();
            }
            network.prepare_inference(&config);
            (Arc::new(encoder), Box::new(BatchedNetwork::new(network, compute.tokens_max)))
        }
        Architecture::Cascade(shape) => {
            let open = |member: &Member| {
                open(member).map_err(|source| ArtifactError::Member {
                    cascade: id.clone(),
                    member: member.model.clone(),
                    source: Box::new(source),
                })
            };
            let (cheap, costly) = (open(&shape.cheap)?, open(&shape.costly)?);
            return Ok(Cascade::model(id, shape, cheap, costly));
        }
    };
    let model = Model { id, classes, languages, thresholds, encoder, classifier };
    Ok(model.calibrated(calibration, thresholds))
}

/// The weights file, if the family has one.
fn weights_file(manifest: &Manifest) -> Option<&'static str> {
    match manifest.architecture {
        Architecture::Transformer(_) => Some(HF_WEIGHTS),
        Architecture::Cascade(_) => None,
        _ => Some(WEIGHTS),
    }
}

/// The file that lists the words or n-grams of the ids, if the family has one.
fn list(manifest: &Manifest) -> Option<&'static str> {
    match manifest.architecture {
        Architecture::LogisticHash(_) | Architecture::Transformer(_) | Architecture::Cascade(_) => {
            None
        }
        Architecture::LogisticTfidf(_) => Some(NGRAMS),
        Architecture::Dense(_) | Architecture::Lstm(_) => Some(VOCABULARY),
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, ArtifactError> {
    String::from_utf8(bytes)
        .map_err(|error| at(path)(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))
}

/// Writes weights and words of a version into `folder`; [`seal`] finishes it.
pub(super) fn write_content(folder: &Path, artifact: &NewArtifact) -> Result<(), ArtifactError> {
    let numbers = artifact.weights.to_bytes(StoredPrecision::Fp16);
    let mut files: Vec<_> =
        weights_file(&artifact.manifest).map(|file| (file, numbers)).into_iter().collect();
    if let Some(TransformerFiles { config, tokenizer, tokenizer_config }) = &artifact.transformer {
        files.extend([
            (CONFIG, config.clone()),
            (TOKENIZER, tokenizer.clone()),
            (TOKENIZER_CONFIG, tokenizer_config.clone()),
        ]);
    }
    if let Some(vocabulary) = &artifact.vocabulary {
        files.push((VOCABULARY, vocabulary.to_text().into_bytes()));
    }
    if let Some(lexicon) = artifact.analyzer.lexicon() {
        files.push((LEXICON, lexicon.to_text().into_bytes()));
    }
    if let Some(ngrams) = &artifact.ngrams {
        files.push((NGRAMS, ngrams.text().as_bytes().to_vec()));
    }
    files.extend(artifact.extra.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    files.into_iter().try_for_each(|(name, bytes)| write_file(&folder.join(name), &bytes))
}

/// Writes the model card, and the manifest with the checksums of all files in `folder`.
pub(super) fn seal(
    folder: &Path,
    manifest: &mut Manifest,
    card: &str,
) -> Result<(), ArtifactError> {
    write_file(&folder.join(CARD), card.as_bytes())?;
    manifest.files.clear();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != MANIFEST {
            manifest.files.insert(name, checksum(&path)?);
        }
    }
    let mut json =
        serde_json::to_vec_pretty(&manifest).expect("a manifest has text keys and finite numbers");
    json.push(b'\n');
    write_file(&folder.join(MANIFEST), &json)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    fs::write(path, bytes).map_err(at(path))
}
