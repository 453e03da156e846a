//! Registers a cascade: a cheap model that escalates uncertain rows to a costly one.
//!
//! **Invariant.** The band is fitted on rows outside both training sets, and measured on rows
//! held out from both models. Deliberately absent: speed; `monitor evaluate` measures it
//! together with that of the costly model.

use std::collections::BTreeMap;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Classes, LabelThresholds};
use monitor_core::text::Analyzer;
use monitor_model::{
    self as classifier, Architecture, BinaryCalibration, Calibration, CascadeShape, Data, Member,
    NewArtifact, OpenOptions, Source, Weights, certainty, learned_filter,
};

use crate::data::{Dataset, HELD_OUT, has_labels, rows_sha256, select_to_fit};
use crate::fit::{Band, CascadeRow, Prediction, fit_band, scores};
use crate::provenance::{LIBTORCH, TCH};
use crate::report::{self, card, record};
use crate::train::{Registered, TrainingError, promote};

/// Which models to combine, and how.
pub struct CascadeRequest<'a> {
    /// Name of the new model.
    pub name: String,
    /// Name or `name@version` of the model that scores every row.
    pub cheap: String,
    /// Name or `name@version` of the model that scores the escalated rows.
    pub costly: String,
    /// Accuracy that may be lost against the costly model alone, in percentage points.
    pub accuracy_loss_max: f64,
    /// Folder of models, device and threads.
    pub models: &'a OpenOptions,
    /// Whether to promote the new version.
    pub promote: bool,
    /// Commit of the program, for the manifest.
    pub commit: Option<String>,
    /// Command that reproduces it, for the manifest; without folders.
    pub command: String,
}

/// Fits the band on validation rows common to both models, measures the cascade and both models
/// on rows held out from both, and registers the cascade.
///
/// # Errors
/// [`TrainingError`]; the registry is unchanged then.
pub fn cascade(request: &CascadeRequest<'_>, data: &Dataset) -> Result<Registered, TrainingError> {
    let directory = &request.models.directory;
    classifier::ready(directory, &request.name)?;
    let clock = SystemClock::new();
    let members = [&request.cheap, &request.costly].map(|name| classifier::member(directory, name));
    let [cheap, costly] = members;
    let (cheap, costly): (Member, Member) = (cheap?, costly?);
    let read = |member: &Member| classifier::read_manifest(directory, &member.model.to_string());
    let (cheap_manifest, costly_manifest) = (read(&cheap)?, read(&costly)?);
    let known = |member: &Member| classifier::known(directory, &member.model.to_string());
    let (to_fit, held_out) = select_to_fit(data, &[known(&cheap)?, known(&costly)?].concat())?;
    let classes = cheap_manifest.classes;
    if classes != costly_manifest.classes {
        return Err(TrainingError::OtherClasses { cheap: cheap.model, costly: costly.model });
    }
    let languages: Vec<_> = (cheap_manifest.languages.iter().copied())
        .filter(|language| costly_manifest.languages.contains(language))
        .collect();
    if languages.is_empty() {
        return Err(TrainingError::OtherLanguages { cheap: cheap.model, costly: costly.model });
    }
    if !(has_labels(&to_fit, classes) && has_labels(&held_out, classes)) {
        let (file, fit, held_out) = (data.file.clone(), to_fit.len(), held_out.len());
        return Err(TrainingError::TooFewForCascade { file, fit, held_out });
    }
    let open = |member: &Member| classifier::open(request.models, &member.model.to_string());
    let (mut cheap_model, mut costly_model) = (open(&cheap)?, open(&costly)?);
    let thresholds = costly_model.thresholds;
    eprintln!(
        "{}: {} rows to fit on, {} to measure on",
        request.name,
        to_fit.len(),
        held_out.len()
    );
    let rows = cascade_rows(
        (&scores(&mut cheap_model, &to_fit)?, cheap_model.thresholds),
        (&scores(&mut costly_model, &to_fit)?, thresholds),
        classes,
    );
    let loss_max = request.accuracy_loss_max / 100.0;
    // A band of certainties begins at 0: its middle is its low end.
    let middle = match classes {
        Classes::Two => cheap_model.thresholds.negative.get(),
        Classes::Three => 0.0,
    };
    let Band { low, high } = fit_band(&rows, middle, loss_max);
    let certainty = (classes == Classes::Three).then_some(high);
    let shape = CascadeShape { cheap, costly, low, high, certainty };

    let minutes = clock.elapsed().as_secs_f64() / 60.0;
    let manifest = classifier::Manifest {
        name: request.name.clone(),
        version: 0,
        architecture: Architecture::Cascade(shape.clone()),
        classes,
        languages,
        preset: cheap_manifest.preset,
        calibration: Calibration {
            threshold: thresholds.negative.get(),
            positive: (classes == Classes::Three).then_some(BinaryCalibration {
                threshold: thresholds.positive.get(),
                ..BinaryCalibration::NONE
            }),
            ..Calibration::NONE
        },
        parameters: cheap_manifest.parameters + costly_manifest.parameters,
        trainable: 2,
        seed: costly_manifest.seed,
        command: request.command.clone(),
        data: data_section(data, costly_manifest.data, to_fit.len(), held_out.len()),
        commit: request.commit.clone(),
        libraries: BTreeMap::from([
            ("monitor".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tch".to_owned(), TCH.to_owned()),
            ("libtorch".to_owned(), LIBTORCH.to_owned()),
        ]),
        machine: costly_manifest.machine,
        trained_at: clock.now(),
        minutes: cheap_manifest.minutes + costly_manifest.minutes + (minutes * 1e3).round() / 1e3,
        metrics: BTreeMap::new(),
        rows_sha256: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let artifact = NewArtifact {
        manifest,
        weights: Weights::default(),
        vocabulary: None,
        analyzer: Analyzer::tweet(),
        ngrams: None,
        transformer: None,
        extra: learned_filter(to_fit.iter().map(|row| row.text.as_str())).into_iter().collect(),
    };
    let device =
        classifier::device(&request.models.device).map_err(classifier::ArtifactError::from)?;
    let manifest = classifier::register(directory, artifact, device, |mut model, manifest| {
        let pairs = scores(&mut model, &held_out)?;
        record(manifest, HELD_OUT, &pairs, manifest.calibration, rows_sha256(&held_out));
        let figures = manifest.metrics.entry(HELD_OUT.to_owned()).or_default();
        let cheap = scores(&mut cheap_model, &held_out)?;
        let escalates =
            |row: &&Prediction| shape.escalates(row.probabilities, cheap_model.thresholds);
        let escalated = cheap.iter().filter(escalates).count();
        let share = escalated as f64 / cheap.len() as f64;
        figures.insert("escalated_share".to_owned(), (share * 1e4).round() / 1e4);
        let costly = scores(&mut costly_model, &held_out)?;
        for (name, rows, thresholds) in
            [("cheap", &cheap, cheap_model.thresholds), ("costly", &costly, thresholds)]
        {
            let found = report::figures(rows, thresholds);
            for figure in ["accuracy", "macro_recall"] {
                let value = found.get(figure);
                figures.extend(value.map(|value| (format!("{name}_{figure}"), *value)));
            }
        }
        Ok::<String, TrainingError>(card(manifest, &data.report))
    })?;
    let promotion = request.promote.then(|| promote(directory, &manifest.id(), clock.now()));
    Ok(Registered { manifest, promotion: promotion.transpose()? })
}

/// The manifest's data section. If `data` is not the costly model's own file, it is recorded as
/// calibration data, so that later evaluations know that the band was fitted on it.
fn data_section(data: &Dataset, costly: Data, fit: usize, held_out: usize) -> Data {
    if data.sha256 == costly.sha256 {
        let Data { file, sha256, split, near_duplicates, more, also, .. } = costly;
        let (rows_train, rows_validation, rows_held_out) = (0, fit, held_out);
        let (calibrate, embeddings) = (None, Vec::new());
        return Data {
            file,
            sha256,
            rows_train,
            rows_validation,
            rows_held_out,
            split,
            near_duplicates,
            more,
            also,
            calibrate,
            embeddings,
            teachers: Vec::new(),
        };
    }
    let calibrate = Some(Source {
        file: data.file.clone(),
        sha256: data.sha256.clone(),
        about: format!("{fit} rows fitted on"),
    });
    Data { calibrate, ..costly }
}

/// Compares both models row by row; each argument has a model's scores and its thresholds.
fn cascade_rows(
    (cheap, cheap_thresholds): (&[Prediction], LabelThresholds),
    (costly, costly_thresholds): (&[Prediction], LabelThresholds),
    classes: Classes,
) -> Vec<CascadeRow> {
    let rows = cheap.iter().zip(costly);
    rows.map(|(cheap, costly)| {
        let right = |row: &Prediction, thresholds| {
            i8::from(row.predicted(thresholds, classes) == row.label)
        };
        let lost = right(costly, costly_thresholds) - right(cheap, cheap_thresholds);
        let cheap = match classes {
            Classes::Two => cheap.probabilities.negative().get(),
            Classes::Three => certainty(cheap.probabilities, cheap_thresholds),
        };
        CascadeRow { cheap, lost }
    })
    .collect()
}
