//! A search for hyperparameters: [`tune`].
//!
//! `space.rs` draws the trials, `halving.rs` says which one is trained next and on how many rows,
//! `results.rs` keeps the results.
//!
//! **Invariant.** Held-out and test rows decide nothing: they leave near-duplicates out of the training
//! set, and are then put away. Nothing is registered. Deliberately absent: trials side by side; one
//! training already uses all threads.

mod halving;
mod results;
mod space;

use std::fs;
use std::path::Path;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Classes, Label};
use monitor_core::hash::sha256_hex;
use monitor_core::text::Preset;
use monitor_model as classifier;

use crate::calibration::{calibrate, deciding};
use crate::data::{Row, Split, has_labels, rows_sha256};
use crate::fit::{
    FitError, Prediction, RUNS, TrainingRequest, best_log_temperature, is_unfinished, scores,
    training_targets,
};
use crate::provenance::LIBTORCH;
use crate::report::{Trial, TrialRun, TrialSettings, Tuning, record};
use crate::train::{
    Prepared, TrainingError, TrainingRows, artifact, fit_alone, keep_share, prepare,
};
use halving::{Done, Job, REDUCTION};
use results::Log;
use space::Fixed;

/// Rows of the lowest rung at least; with fewer, figures are chance.
const ROWS_MIN: usize = 500;
/// Rungs at most: the lowest one has a ninth of the rows.
const RUNGS_MAX: usize = 3;
/// The data set under which a trial's figures are recorded.
const VALIDATION: &str = "validation";
/// Least probability in a loss, as scores are in single precision.
const PROBABILITY_MIN: f64 = 1e-7;

/// How long to search, and what for.
#[derive(Debug, Clone)]
pub struct Search {
    /// Number of trials; the first one has the defaults.
    pub trials: usize,
    /// Weights of the files after the first one; `None` is searched.
    pub weights: Vec<Option<f32>>,
    /// Names of these files.
    pub weighted: Vec<String>,
}

/// Searches for the hyperparameters that `request.hyper` leaves open, and for the weights that
/// `search.weights` does. Results are kept in the folder of models as checkpoints are, so that
/// `request.resume` continues a search that was stopped. `request.stop` ends it early; it is then not
/// complete.
///
/// # Errors
/// [`TrainingError`]; what was found before is kept.
pub fn tune(
    request: &TrainingRequest<'_>,
    rows: TrainingRows<'_>,
    search: &Search,
) -> Result<Tuning, TrainingError> {
    let prepared = prepare(request, rows)?;
    let split = Split { held_out: Vec::new(), ..prepared.split };
    let fits = |rung: &u32| split.train.len() / REDUCTION.pow(*rung) >= ROWS_MIN;
    let rungs = (1..RUNGS_MAX as u32).filter(fits).count() + 1;
    let folder = request.output.join(RUNS).join(format!("tune-{}", request.name));
    let fingerprint = format!(
        "{} {} {} {LIBTORCH}",
        request.command,
        rows_sha256(&split.train),
        rows_sha256(&split.validation)
    );
    let (mut log, results) = Log::open(
        folder.join("trials.jsonl"),
        sha256_hex(format!("{} {fingerprint}", env!("CARGO_PKG_VERSION")).as_bytes()),
        &request.command,
        request.resume,
    )
    .map_err(FitError::from)?;
    let study = request.analyzer.preset() == Preset::Study;
    let fixed = Fixed { hyper: request.hyper, weights: &search.weights, study };
    let draw = |trial| space::draw(request.family, request.seed, trial, &fixed);
    let figure = match request.classes {
        Classes::Two => "ROC AUC",
        Classes::Three => "macro recall",
    };
    let mut tuning = Tuning {
        family: request.family.as_str().to_owned(),
        file: rows.data.file.clone(),
        weighted: search.weighted.clone(),
        figure,
        validation: deciding(&split.validation, request.classes).len(),
        rows: split.train.len(),
        trials: Vec::new(),
        complete: true,
    };
    for (trial, run) in &results {
        add(&mut tuning, *trial, *run, &draw);
    }
    let trainer = Trainer { request, rows, split: &split, folder: &folder };
    while let Some(job) = halving::next(&done(&tuning), search.trials, rungs) {
        let settings = draw(job.trial);
        say(&tuning, job, search.trials, &settings);
        match trainer.run(job, halving::share(job.rung, rungs), &settings) {
            Ok(run) => {
                log.add(job.trial, run, &settings).map_err(FitError::from)?;
                add(&mut tuning, job.trial, run, &draw);
            }
            Err(TrainingError::Fit(FitError::Stopped | FitError::Abandoned)) => {
                tuning.complete = false;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    tuning.sort();
    Ok(tuning)
}

fn add(tuning: &mut Tuning, trial: usize, run: TrialRun, draw: &impl Fn(usize) -> TrialSettings) {
    match tuning.trials.iter_mut().find(|it| it.trial == trial + 1) {
        Some(known) => known.runs.push(run),
        None => {
            let settings = draw(trial);
            tuning.trials.push(Trial { trial: trial + 1, settings, runs: vec![run] });
        }
    }
}

fn done(tuning: &Tuning) -> Vec<Done> {
    let of = |it: &Trial| {
        let trial = it.trial - 1;
        it.runs.clone().into_iter().map(move |run| Done { trial, rung: run.rung, loss: run.loss })
    };
    tuning.trials.iter().flat_map(of).collect()
}

/// What is trained next, and what was best so far.
fn say(tuning: &Tuning, job: Job, trials: usize, settings: &TrialSettings) {
    let named = settings.named(&tuning.weighted);
    let words: Vec<String> = named.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut sorted = tuning.clone();
    sorted.sort();
    let best = sorted.best().map(|best| {
        let TrialRun { rows, loss, .. } = best.last();
        let loss = loss.unwrap_or(f64::INFINITY);
        format!("; best so far: trial {}, loss {loss:.4} from {rows} rows", best.trial)
    });
    eprintln!(
        "trial {} of {trials}: {}{}",
        job.trial + 1,
        words.join(", "),
        best.unwrap_or_default()
    );
}

/// Trains trials.
struct Trainer<'a> {
    request: &'a TrainingRequest<'a>,
    rows: TrainingRows<'a>,
    /// Without held-out rows.
    split: &'a Split<'a>,
    folder: &'a Path,
}

impl Trainer<'_> {
    /// Trains with these settings on a share of the training rows, and measures on the validation
    /// rows that decide.
    fn run(
        &self,
        job: Job,
        share: f64,
        settings: &TrialSettings,
    ) -> Result<TrialRun, TrainingError> {
        let name = format!("trial-{}", job.trial + 1);
        let request = TrainingRequest {
            hyper: settings.hyper,
            output: self.folder.to_owned(),
            train_share: share,
            promote: false,
            teachers: Vec::new(),
            resume: is_unfinished(self.folder, &name),
            command: format!("{} {settings:?}", self.request.command),
            name,
            ..self.request.clone()
        };
        let mut train = self.split.train.clone();
        keep_share(&mut train, &request);
        let train = weighted(&train, &settings.weights);
        let validation = weighted(&self.split.validation, &settings.weights);
        let split = Split {
            train: train.iter().collect(),
            validation: validation.iter().collect(),
            held_out: Vec::new(),
        };
        if !has_labels(&split.train, request.classes) {
            let (train, validation) = (split.train.len(), split.validation.len());
            return Err(TrainingError::TooFew { train, validation, held_out: 0 });
        }
        let clock = SystemClock::new();
        let rows = split.train.len();
        let targets = training_targets(&request, &split, &[])?;
        let trained = match fit_alone(&request, &split, &targets.values) {
            Err(FitError::Diverged { epoch, loss }) => {
                eprintln!("{}: {}", request.name, FitError::Diverged { epoch, loss });
                // Its checkpoint is that of a training which does not go on.
                let _ = fs::remove_dir_all(self.folder.join(RUNS).join(&request.name));
                let minutes = rounded(clock.elapsed().as_secs_f64() / 60.0);
                return Ok(TrialRun { rung: job.rung, rows, loss: None, value: None, minutes });
            }
            other => other?,
        };
        let before: f64 = trained.history.iter().map(|epoch| epoch.seconds).sum();
        let minutes = before.max(clock.elapsed().as_secs_f64()) / 60.0;
        let prepared = Prepared::of(split);
        let (new, checkpoint) = artifact(&request, self.rows, &prepared, trained, minutes);
        let measured = self.measure(&request, new)?;
        if let Some(checkpoint) = checkpoint {
            checkpoint.remove();
        }
        let (loss, value) = (rounded(measured.0), measured.1);
        let minutes = rounded(minutes);
        eprintln!("{}: validation loss {loss:.4} from {rows} rows", request.name);
        Ok(TrialRun { rung: job.rung, rows, loss: Some(loss), value, minutes })
    }

    /// Loss and figure of the model, opened from the files that it would ship as.
    fn measure(
        &self,
        request: &TrainingRequest<'_>,
        new: classifier::NewArtifact,
    ) -> Result<(f64, Option<f64>), TrainingError> {
        let validation = &self.split.validation;
        let deciding = deciding(validation, request.classes);
        let mut loss = f64::NAN;
        let folder = tempfile::tempdir_in(self.folder).map_err(TrainingError::Temporary)?;
        let registered =
            classifier::register(folder.path(), new, request.device, |mut model, manifest| {
                let calibration = calibrate(&mut model, manifest, validation, None)?;
                let predictions = scores(&mut model, &deciding)?;
                loss = cross_entropy(&predictions);
                let sha256 = rows_sha256(&deciding);
                record(manifest, VALIDATION, &predictions, calibration, sha256);
                Ok::<String, TrainingError>(String::new())
            })?;
        let key = if request.classes == Classes::Two { "roc_auc" } else { "macro_recall" };
        let figures = registered.metrics.get(VALIDATION);
        Ok((loss, figures.and_then(|figures| figures.get(key)).copied()))
    }
}

/// The rows with the weights of their files; that of the first file stays.
fn weighted(rows: &[&Row], weights: &[f32]) -> Vec<Row> {
    let weight = |row: &Row| match row.source.checked_sub(1).and_then(|at| weights.get(at)) {
        Some(weight) => *weight,
        None => row.weight,
    };
    rows.iter().map(|row| Row { weight: weight(row), ..(*row).clone() }).collect()
}

/// To six decimals, which a file gives back exactly.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Mean cross-entropy of the labels at the temperature that suits the scores best, as in training.
fn cross_entropy(rows: &[Prediction]) -> f64 {
    // A model of two classes has no probability of neutral.
    let has_neutral = rows.iter().any(|row| row.probabilities.neutral().get() > 0.0);
    let takes_part = |label: &Label| *label != Label::Neutral || has_neutral;
    let labels: Vec<Label> = Label::ALL.into_iter().filter(takes_part).collect();
    let log = |row: &Prediction, label| {
        f64::from(row.probabilities.of(label).get()).max(PROBABILITY_MIN).ln()
    };
    let loss = |log_temperature: f64| {
        let scaled = |row: &Prediction, label| log(row, label) / log_temperature.exp();
        let of = |row: &Prediction| {
            let all: f64 = labels.iter().map(|label| scaled(row, *label).exp()).sum();
            all.ln() - scaled(row, row.label)
        };
        rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64
    };
    loss(best_log_temperature(loss))
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Probabilities;

    use super::*;

    #[test]
    fn the_loss_is_that_of_the_label() {
        let row = |negative, neutral, label| Prediction {
            probabilities: Probabilities::new(negative, neutral).unwrap(),
            label,
        };
        let rows = [row(0.5, 0.25, Label::Negative), row(0.5, 0.25, Label::Positive)];
        let expected = (2f64.ln() + 4f64.ln()) / 2.0;
        assert!((cross_entropy(&rows) - expected).abs() < 1e-6);
        let wrong = cross_entropy(&[row(1.0, 0.0, Label::Positive)]);
        assert!(wrong.is_finite() && wrong > 1.0, "{wrong}");
    }

    #[test]
    fn weights_are_those_of_the_files() {
        let row = |source, weight| Row { source, weight, ..Row::new(Label::Negative, "a") };
        let rows = [row(0, 2.0), row(1, 1.0), row(2, 1.0)];
        let rows: Vec<&Row> = rows.iter().collect();
        let found: Vec<f32> = weighted(&rows, &[0.5, 0.1]).iter().map(|row| row.weight).collect();
        assert_eq!(found, [2.0, 0.5, 0.1]);
        let found: Vec<f32> = weighted(&rows, &[]).iter().map(|row| row.weight).collect();
        assert_eq!(found, [2.0, 1.0, 1.0]);
    }
}
