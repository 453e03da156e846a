//! Fits one model, measures it and registers it: [`train`].
//!
//! **Invariant.** The registry is unchanged if any step fails. The manifest's figures were
//! measured with the files of the new version.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;

use chrono::{DateTime, Utc};
use tch::Device;

use monitor_core::clock::{Clock, SystemClock};
use monitor_model::{
    self as classifier, ArtifactError, BEFORE_CALIBRATION, Calibration, ClassifyError, Data,
    GENERATOR, Manifest, ModelId, NewArtifact, Promotion, Source,
};

use crate::calibration::{HumanLabelled, TooFewToCalibrate, choose_threshold};
use crate::data::{
    Dataset, DatasetError, HELD_OUT, Row, SelectionError, has_both_labels, rows_sha256,
    split_with_further_rows,
};
use crate::fit::{Epoch, FitError, TrainingRequest, fit, scores, training_targets};
use crate::progress::threads;
use crate::provenance::{LIBTORCH, TCH};
use crate::report::{card, record};

/// The rows of a training.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRows<'a> {
    /// To learn from, validate and hold out.
    pub data: &'a Dataset,
    /// Further files among them, for the manifest.
    pub also: &'a [Source],
    /// How many of the last rows came from those: they are learned from and never held out.
    pub also_rows: usize,
    /// To measure on at the end.
    pub test: Option<&'a Dataset>,
    /// Human-labelled, to calibrate with.
    pub calibrate: Option<&'a Dataset>,
}

/// A new version in the folder of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// What it says about itself.
    pub manifest: Manifest,
    /// What became of its promotion; `None` where none was asked for.
    pub promotion: Option<Promotion>,
}

/// Why there is no new model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A data file will not do.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Too few rows on one side of the split.
    #[error(
        "{train} rows to learn from, {validation} to validate and {held_out} held out: each side \
         needs negative and positive ones; give more rows (--split time holds out only rows that \
         have a date)"
    )]
    TooFew {
        /// Rows to learn from.
        train: usize,
        /// Rows to validate.
        validation: usize,
        /// Rows held out.
        held_out: usize,
    },
    /// Too few human-labelled rows.
    #[error(transparent)]
    TooFewToCalibrate(#[from] TooFewToCalibrate),
    /// A model learned from the rows at hand.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Too few rows that neither model of a cascade learned from.
    #[error(
        "{file}: {fit} rows are left to fit a cascade on, and {held_out} to measure it on, that \
         neither of its models learned from: each part needs negative and positive ones. Give the \
         file that both were trained on, with equal --seed and --split, or one that neither knows"
    )]
    TooFewForCascade {
        /// Which file.
        file: String,
        /// Rows that neither learned from, and that decided when to stop.
        fit: usize,
        /// Rows that neither has ever seen.
        held_out: usize,
    },
    /// The model could not be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The model could not be written or opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The new model failed on a row.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}

/// Trains one family on `rows.data`, chooses its threshold, measures it on the held-out
/// rows (and on those of the test), registers the next version and, where asked to,
/// promotes it, unless it is worse than the one promoted now.
///
/// # Errors
/// [`TrainingError`]; the registry is unchanged then.
pub fn train(
    request: &TrainingRequest<'_>,
    rows: TrainingRows<'_>,
) -> Result<Registered, TrainingError> {
    classifier::ready(&request.output, &request.name)?;
    let data = rows.data;
    let (own, also) = data.rows.split_at(data.rows.len().saturating_sub(rows.also_rows));
    let sides = split_with_further_rows(own, also, request.split, request.seed);
    let counts = (sides.train.len(), sides.validation.len(), sides.held_out.len());
    if ![&sides.train, &sides.validation, &sides.held_out].into_iter().all(|s| has_both_labels(s)) {
        let (train, validation, held_out) = counts;
        return Err(TrainingError::TooFew { train, validation, held_out });
    }
    let human = rows.calibrate.map(|human| HumanLabelled::new(human, data)).transpose()?;
    let clock = SystemClock::new();
    // A model that is opened takes its turn at the generator too.
    let lessons = training_targets(request, &sides, rows.also)?;
    let alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(i32::try_from(request.threads).unwrap_or(i32::MAX).max(1));
    tch::manual_seed(request.seed as i64);
    let trained = fit(request, &sides, &lessons.targets)?;
    // Nothing is drawn from here on; whoever opens a transformer waits for this.
    drop(alone);
    eprintln!("{}: trained; measuring", request.name);
    let before: f64 = trained.history.iter().map(|epoch| epoch.seconds).sum();
    let seconds = before.max(clock.elapsed().as_secs_f64());

    let (parameters, trainable) = trained.parameters;
    let manifest = Manifest {
        name: request.name.clone(),
        version: 0,
        architecture: trained.architecture,
        preset: request.analyzer.preset().as_str().to_owned(),
        calibration: Calibration::NONE,
        parameters,
        trainable,
        seed: request.seed,
        command: request.command.clone(),
        data: Data {
            file: data.file.clone(),
            sha256: data.sha256.clone(),
            rows_train: counts.0,
            rows_validation: counts.1,
            rows_held_out: counts.2,
            split: request.split.as_str().to_owned(),
            also: rows.also.to_vec(),
            calibrate: rows.calibrate.zip(human.as_ref()).map(|(data, human)| Source {
                file: data.file.clone(),
                sha256: data.sha256.clone(),
                about: format!("{} rows fitted on", human.fit.len()),
            }),
            embeddings: trained.embeddings,
            teacher: lessons.teacher,
        },
        commit: request.commit.clone(),
        libraries: BTreeMap::from([
            ("monitor".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tch".to_owned(), TCH.to_owned()),
            ("libtorch".to_owned(), LIBTORCH.to_owned()),
        ]),
        machine: machine(request),
        trained_at: clock.now(),
        minutes: (seconds / 60.0 * 1e3).round() / 1e3,
        metrics: BTreeMap::new(),
        rows_sha256: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let artifact = NewArtifact {
        manifest,
        weights: trained.weights,
        vocabulary: trained.vocabulary,
        analyzer: request.analyzer.clone(),
        ngrams: trained.ngrams,
        transformer: trained.transformer,
        extra: course(&trained.history),
    };
    let registered =
        classifier::register(&request.output, artifact, request.device, |mut model, manifest| {
            let validated =
                choose_threshold(&mut model, manifest, &sides.validation, human.as_ref())?;
            let test: Vec<&Row> = rows.test.iter().flat_map(|test| &test.rows).collect();
            let name = rows.test.map_or("", |test| test.file.as_str());
            for (name, rows) in [(HELD_OUT, &sides.held_out), (name, &test)] {
                if rows.is_empty() {
                    continue;
                }
                let pairs = scores(&mut model, rows)?;
                record(manifest, name, &pairs, manifest.calibration, rows_sha256(rows));
                if manifest.calibration != validated {
                    let name = format!("{name}{BEFORE_CALIBRATION}");
                    record(manifest, &name, &pairs, validated, rows_sha256(rows));
                }
            }
            Ok::<String, TrainingError>(card(manifest, &data.report))
        })?;
    if let Some(checkpoint) = trained.checkpoint {
        checkpoint.remove();
    }
    let id = registered.id();
    let promotion = request.promote.then(|| promote(&request.output, &id, clock.now()));
    Ok(Registered { manifest: registered, promotion: promotion.transpose()? })
}

/// Promotes a new version, unless its own figures say that it is worse.
pub(crate) fn promote(
    directory: &Path,
    id: &ModelId,
    now: DateTime<Utc>,
) -> Result<Promotion, TrainingError> {
    let compare = |old: &Manifest, new: &Manifest| Ok(classifier::comparable(old, new));
    classifier::promote_checked(directory, id, now, compare)
}

/// The course of the training as CSV, a line an epoch.
fn course(history: &[Epoch]) -> BTreeMap<String, Vec<u8>> {
    if history.is_empty() {
        return BTreeMap::new();
    }
    let mut csv = csv::Writer::from_writer(Vec::new());
    for epoch in history {
        csv.serialize(epoch).expect("numbers go into memory");
    }
    let bytes = csv.into_inner().expect("memory needs no flushing");
    BTreeMap::from([("training.csv".to_owned(), bytes)])
}

/// What computes, in words.
fn machine(request: &TrainingRequest<'_>) -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    let device = match request.device {
        Device::Cpu => String::new(),
        other => format!(", {other:?}"),
    };
    format!("{processor}, {}{device}", threads(request.threads))
}
