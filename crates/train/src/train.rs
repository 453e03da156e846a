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
use monitor_core::text::unit_interval;
use monitor_model::{
    self as classifier, ArtifactError, BEFORE_CALIBRATION, Calibration, ClassifyError, Data,
    GENERATOR, Manifest, ModelId, NearDuplicates, NewArtifact, Pretrained, Promotion, Source,
    add_filters_of_base, learned_filter,
};

use crate::calibration::{HumanLabelled, TooFewToCalibrate, calibrate};
use crate::data::{
    Dataset, DatasetError, HELD_OUT, NearRows, Row, SelectionError, Split, has_labels, rows_sha256,
    split_with_further_rows,
};
use crate::fit::{
    Checkpoint, Epoch, Family, FitError, Target, Trained, TrainingRequest, fit, scores,
    training_targets,
};
use crate::progress::threads;
use crate::provenance::{LIBTORCH, TCH};
use crate::report::{card, record};

/// The rows of a training.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRows<'a> {
    /// Rows to split into training, validation and held-out sets.
    pub data: &'a Dataset,
    /// Further files in `data`, for the manifest.
    pub also: &'a [Source],
    /// How many of the last rows came from those; they are only used for training.
    pub also_rows: usize,
    /// Further files in `data` that were split like the first one, for the manifest.
    pub more: &'a [Source],
    /// Files to measure on in the end.
    pub tests: &'a [Dataset],
    /// Human-labelled rows to calibrate with, if any.
    pub calibrate: Option<&'a Dataset>,
}

/// A new version in the folder of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Its manifest.
    pub manifest: Manifest,
    /// Result of the promotion; `None` if it was not requested.
    pub promotion: Option<Promotion>,
}

/// Why there is no new model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A data file is invalid.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Too few rows in one set of the split.
    #[error(
        "{train} rows for training, {validation} for validation and {held_out} held out: each set \
         needs rows of each class; give more rows (--split time holds out only rows that \
         have a date, --split file those that the file's column `split` calls test)"
    )]
    TooFew {
        /// Rows of the training set.
        train: usize,
        /// Rows of the validation set.
        validation: usize,
        /// Rows of the held-out set.
        held_out: usize,
    },
    /// A folder for a moment could not be made.
    #[error("cannot make a temporary folder: {0}")]
    Temporary(std::io::Error),
    /// Too few human-labelled rows.
    #[error(transparent)]
    TooFewToCalibrate(#[from] TooFewToCalibrate),
    /// There are no rows that the models may be measured on.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Too few rows outside the training sets of a cascade's models.
    #[error(
        "{file}: outside the training sets of both models, {fit} rows are left to fit a cascade on \
         and {held_out} to measure it on: each part needs negative and positive rows. Give the file \
         that both were trained on, with equal --seed and --split, or one that neither has seen"
    )]
    TooFewForCascade {
        /// Which file.
        file: String,
        /// Rows in both validation sets.
        fit: usize,
        /// Rows in both held-out sets.
        held_out: usize,
    },
    /// The models of a cascade tell other classes apart.
    #[error(
        "{cheap} and {costly} do not tell the same classes apart: a cascade needs two models of \
         two classes, or two of three"
    )]
    OtherClasses {
        /// One of them.
        cheap: ModelId,
        /// The other.
        costly: ModelId,
    },
    /// The models of a cascade know no language in common.
    #[error(
        "{cheap} and {costly} know no language in common (`monitor models show`): a cascade scores \
         the tweets of the languages that both know"
    )]
    OtherLanguages {
        /// One of them.
        cheap: ModelId,
        /// The other.
        costly: ModelId,
    },
    /// The model could not be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The model cannot be written or opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The new model failed on a row.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}

/// Trains one family on `rows.data`, chooses its threshold, measures it on the held-out rows
/// (and on the test file, if any) and registers it as the next version. If requested, promotes
/// it, unless it is worse than the version promoted now.
///
/// # Errors
/// [`TrainingError`]; the registry is unchanged then.
pub fn train(
    request: &TrainingRequest<'_>,
    rows: TrainingRows<'_>,
) -> Result<Registered, TrainingError> {
    classifier::ready(&request.output, &request.name)?;
    let data = rows.data;
    let prepared = prepare(request, rows)?;
    let Prepared { split, tests, .. } = &prepared;
    let human = |human| HumanLabelled::new(human, data, tests, request.classes);
    let human = rows.calibrate.map(human).transpose()?;
    let clock = SystemClock::new();
    let targets = training_targets(request, split, rows.also)?;
    let trained = fit_alone(request, split, &targets.values)?;
    eprintln!("{}: trained; measuring", request.name);
    let before: f64 = trained.history.iter().map(|epoch| epoch.seconds).sum();
    let minutes = before.max(clock.elapsed().as_secs_f64()) / 60.0;

    let fitted_on = human.iter().flat_map(|human| &human.fit);
    let learned = split.train.iter().chain(&split.validation).chain(fitted_on);
    let mut filters = learned_filter(learned.map(|row| row.text.as_str()));
    let bases = request.base.iter().chain(&request.mean_with);
    for base in bases.filter(|_| request.family == Family::Transformer) {
        let has_list = add_filters_of_base(&mut filters, base)?;
        let name = Pretrained::name(base);
        if !has_list && name.contains('@') {
            eprintln!(
                "{name} keeps no list of the rows it learned from (trained before lists were kept): an \
                 evaluation of {} will not recognise those",
                request.name
            );
        }
    }
    let extra = course(&trained.history).into_iter().chain(filters).collect();
    let (mut new, checkpoint) = artifact(request, rows, &prepared, trained, minutes);
    new.extra = extra;
    new.manifest.data.teachers = targets.teachers;
    new.manifest.data.calibrate = rows.calibrate.zip(human.as_ref()).map(|(data, human)| Source {
        file: data.file.clone(),
        sha256: data.sha256.clone(),
        about: format!("{} rows fitted on", human.fit.len()),
    });
    let registered =
        classifier::register(&request.output, new, request.device, |mut model, manifest| {
            let validated = calibrate(&mut model, manifest, &split.validation, human.as_ref())?;
            let mut sets = vec![(HELD_OUT.to_owned(), split.held_out_of(0))];
            for (source, Source { file, .. }) in (1..).zip(rows.more) {
                sets.push((format!("{HELD_OUT} of {file}"), split.held_out_of(source)));
            }
            for test in rows.tests {
                sets.push((test.file.clone(), test.rows.iter().collect()));
            }
            for (name, rows) in &sets {
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
    if let Some(checkpoint) = checkpoint {
        checkpoint.remove();
    }
    let id = registered.id();
    let promotion = request.promote.then(|| promote(&request.output, &id, clock.now()));
    Ok(Registered { manifest: registered, promotion: promotion.transpose()? })
}

/// The sets of a training.
pub(crate) struct Prepared<'a> {
    pub(crate) split: Split<'a>,
    /// The rows of the test files.
    tests: NearRows,
    near_duplicates: NearDuplicates,
}

impl<'a> Prepared<'a> {
    /// Sets of which nothing has to be left out.
    pub(crate) fn of(split: Split<'a>) -> Self {
        Self { split, tests: NearRows::default(), near_duplicates: NearDuplicates::default() }
    }
}

/// Splits the rows, leaves near-duplicates and what exceeds the share out of the training set, and
/// checks that each set has rows of each class.
pub(crate) fn prepare<'a>(
    request: &TrainingRequest<'_>,
    rows: TrainingRows<'a>,
) -> Result<Prepared<'a>, TrainingError> {
    let data = rows.data;
    let (own, also) = data.rows.split_at(data.rows.len().saturating_sub(rows.also_rows));
    let mut split = split_with_further_rows(own, also, request.split, request.seed);
    let tests = near_tests(rows.tests);
    let near_duplicates = leave_out_near_duplicates(&mut split, &tests);
    keep_share(&mut split.train, request);
    let sets = [&split.train, &split.validation, &split.held_out];
    if !sets.into_iter().all(|set| has_labels(set, request.classes)) {
        let [train, validation, held_out] = sets.map(Vec::len);
        return Err(TrainingError::TooFew { train, validation, held_out });
    }
    Ok(Prepared { split, tests, near_duplicates })
}

/// Keeps the requested share of the training rows. Those of a smaller share are among those of a
/// larger one.
pub(crate) fn keep_share(train: &mut Vec<&Row>, request: &TrainingRequest<'_>) {
    let TrainingRequest { seed, train_share, .. } = *request;
    if train_share < 1.0 {
        train.retain(|row| unit_interval(seed, &format!("learn {}", row.text)) < train_share);
    }
}

/// Fits the model while libtorch's random numbers belong to this training. A teacher must have been
/// opened before, because that takes the same lock.
pub(crate) fn fit_alone(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    targets: &[Target],
) -> Result<Trained, FitError> {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(i32::try_from(request.threads).unwrap_or(i32::MAX).max(1));
    tch::manual_seed(request.seed as i64);
    fit(request, split, targets)
}

/// The version that a training gives, without figures, and its checkpoint.
pub(crate) fn artifact(
    request: &TrainingRequest<'_>,
    rows: TrainingRows<'_>,
    prepared: &Prepared<'_>,
    trained: Trained,
    minutes: f64,
) -> (NewArtifact, Option<Checkpoint>) {
    let Prepared { split, near_duplicates, .. } = prepared;
    let (parameters, trainable) = trained.parameters;
    let manifest = Manifest {
        name: request.name.clone(),
        version: 0,
        architecture: trained.architecture,
        classes: request.classes,
        languages: request.languages.clone(),
        preset: request.analyzer.preset().as_str().to_owned(),
        calibration: Calibration::NONE,
        parameters,
        trainable,
        seed: request.seed,
        command: request.command.clone(),
        data: Data {
            file: rows.data.file.clone(),
            sha256: rows.data.sha256.clone(),
            rows_train: split.train.len(),
            rows_validation: split.validation.len(),
            rows_held_out: split.held_out.len(),
            near_duplicates: *near_duplicates,
            split: request.split.as_str().to_owned(),
            more: rows.more.to_vec(),
            also: rows.also.to_vec(),
            calibrate: None,
            embeddings: trained.embeddings,
            teachers: Vec::new(),
        },
        commit: request.commit.clone(),
        libraries: BTreeMap::from([
            ("monitor".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tch".to_owned(), TCH.to_owned()),
            ("libtorch".to_owned(), LIBTORCH.to_owned()),
        ]),
        machine: machine(request),
        trained_at: SystemClock::new().now(),
        minutes: (minutes * 1e3).round() / 1e3,
        metrics: BTreeMap::new(),
        rows_sha256: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let new = NewArtifact {
        manifest,
        weights: trained.weights,
        vocabulary: trained.vocabulary,
        analyzer: request.analyzer.clone(),
        ngrams: trained.ngrams,
        transformer: trained.transformer,
        extra: BTreeMap::new(),
    };
    (new, trained.checkpoint)
}

/// The rows of the test files.
fn near_tests(tests: &[Dataset]) -> NearRows {
    let mut near = NearRows::default();
    tests.iter().for_each(|test| near.add(&test.rows));
    near
}

/// Leaves rows out of the training and validation sets that are near to a row of a test file or
/// of a later set, and returns their numbers.
fn leave_out_near_duplicates(split: &mut Split<'_>, tests: &NearRows) -> NearDuplicates {
    let (mut held_out, mut validation) = (NearRows::default(), NearRows::default());
    held_out.add(split.held_out.iter().copied());
    let of_tests = tests.leave_out_of(&mut split.train) + tests.leave_out_of(&mut split.validation);
    let of_held_out =
        held_out.leave_out_of(&mut split.train) + held_out.leave_out_of(&mut split.validation);
    validation.add(split.validation.iter().copied());
    let of_validation = validation.leave_out_of(&mut split.train);
    let found = NearDuplicates { of_tests, of_held_out, of_validation };
    if found != NearDuplicates::default() {
        eprintln!("left out of training: {found}");
    }
    found
}

/// Promotes a new version, unless its figures are worse than those of the promoted one.
pub(crate) fn promote(
    directory: &Path,
    id: &ModelId,
    now: DateTime<Utc>,
) -> Result<Promotion, TrainingError> {
    let compare = |old: &Manifest, new: &Manifest| Ok(classifier::comparable(old, new));
    classifier::promote_checked(directory, id, now, compare)
}

/// The training history as CSV, one line per epoch.
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

/// Processor, threads and device, for the manifest.
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
