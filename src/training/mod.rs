//! From labelled tweets to a registered model.
//!
//! Read the rows ([`read`]), part them by author ([`split`]), let one loop train any
//! family (`trainer.rs`), measure the files that will ship, register them with a card
//! ([`train`]). `families.rs` has what differs between families; a new one starts there.
//!
//! **Invariant.** The same file, seed, machine and number of threads give the same
//! figures. No author stands on two sides of the split, and no text of the test file is
//! learned from. Deliberately absent: a search for hyperparameters; those in
//! `families.rs` were chosen on validation rows, never on held-out or test rows.

mod cards;
mod dataset;
mod evaluate;
mod families;
mod packed;
mod profile;
mod progress;
mod split;
mod trainer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::classifier::{
    self, ArtifactError, ClassifyError, Data, Manifest, Model, ModelId, NewArtifact,
};
use crate::clock::{Clock, SystemClock};
use crate::domain::Probability;
use crate::text::Preset;

pub use dataset::{
    Dataset, DatasetError, Fault, Faulty, Layout, Report, Row, Target, read, read_targets,
};
pub use evaluate::{Confusion, Metrics};
pub use families::Family;
pub use profile::{Place, Profile, Quantiles, picture, profile};
pub use split::{Split, split};

/// Negative from here upwards: cross-entropy leads to calibrated probabilities, and at
/// one half they make the fewest errors.
const THRESHOLD: f32 = 0.5;
/// Texts scored at once when measuring.
const MEASURE_ROWS: usize = 2048;
/// What computes; kept in step with `vendor/tch` by a test.
const TCH: &str = "0.24.0";
const LIBTORCH: &str = "2.11.0";

/// libtorch's generator belongs to the whole process: one training at a time.
static GENERATOR: Mutex<()> = Mutex::new(());

/// What to train, from what, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// The family.
    pub family: Family,
    /// Folder of models.
    pub output: PathBuf,
    /// Passes over the rows at most; `None` leaves it to the family.
    pub epochs_max: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads for libtorch.
    pub threads: usize,
    /// Whether the family's name opens the new version from now on.
    pub promote: bool,
    /// What to type to do it again, for the manifest; without folders.
    pub command: String,
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
         needs negative and positive ones; give more rows"
    )]
    TooFew {
        /// Rows to learn from.
        train: usize,
        /// Rows to validate.
        validation: usize,
        /// Rows held out.
        held_out: usize,
    },
    /// The loss is no number any more.
    #[error("training diverged in epoch {epoch}: the loss is {loss}")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// The model could not be written or opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The new model failed on a row.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}

/// Trains one family on `data`, measures it on the held-out authors (and on `test`, if
/// there is one), registers the next version and, where asked to, promotes it.
///
/// # Errors
/// [`TrainingError`]; the registry is unchanged then.
pub fn train(
    request: &Request,
    data: &Dataset,
    test: Option<&Dataset>,
) -> Result<Manifest, TrainingError> {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(i32::try_from(request.threads).unwrap_or(i32::MAX).max(1));
    tch::manual_seed(request.seed as i64);

    let sides = split(&data.rows, request.seed);
    let (train, validation, held_out) =
        (sides.train.len(), sides.validation.len(), sides.held_out.len());
    if ![&sides.train, &sides.validation, &sides.held_out].into_iter().all(|s| has_both(s)) {
        return Err(TrainingError::TooFew { train, validation, held_out });
    }
    let clock = SystemClock::new();
    let trained = families::fit(request, Preset::Tweet, &sides)?;
    let minutes = (clock.elapsed().as_secs_f64() / 6.0).round() / 10.0;

    let manifest = Manifest {
        name: request.family.as_str().to_owned(),
        version: 0,
        architecture: trained.architecture,
        preset: Preset::Tweet.as_str().to_owned(),
        threshold: THRESHOLD,
        seed: request.seed,
        command: request.command.clone(),
        data: Data {
            file: data.file.clone(),
            sha256: data.sha256.clone(),
            rows_train: train,
            rows_validation: validation,
            rows_held_out: held_out,
        },
        libraries: BTreeMap::from([
            ("monitor".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tch".to_owned(), TCH.to_owned()),
            ("libtorch".to_owned(), LIBTORCH.to_owned()),
        ]),
        minutes,
        metrics: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let artifact =
        NewArtifact { manifest, weights: trained.weights, vocabulary: trained.vocabulary };
    let held_out = &sides.held_out;
    let registered = classifier::register(&request.output, artifact, |mut model, manifest| {
        let figures = measure(&mut model, held_out)?;
        manifest.metrics.insert("held-out authors".into(), figures.figures());
        if let Some(test) = test {
            let rows: Vec<&Row> = test.rows.iter().collect();
            let figures = measure(&mut model, &rows)?;
            manifest.metrics.insert(test.file.clone(), figures.figures());
        }
        Ok::<String, TrainingError>(cards::card(manifest, &data.report))
    })?;
    if request.promote {
        let id: ModelId = registered.id();
        classifier::promote(&request.output, request.family.as_str(), &id)?;
    }
    Ok(registered)
}

/// Scores the rows and compares with their labels.
///
/// # Errors
/// The model failed on a row.
pub fn measure(model: &mut Model, rows: &[&Row]) -> Result<Metrics, ClassifyError> {
    let mut pairs: Vec<(Probability, bool)> = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(MEASURE_ROWS) {
        let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
        let scores = model.score(&texts)?;
        pairs.extend(scores.into_iter().zip(chunk.iter().map(|row| row.negative)));
    }
    Ok(Metrics::of(&pairs, model.threshold))
}

fn has_both(rows: &[&Row]) -> bool {
    rows.iter().any(|row| row.negative) && rows.iter().any(|row| !row.negative)
}

/// The last part of a path, as it stands in manifests.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn library_versions_are_those_of_the_build() {
        let shim = include_str!("../../vendor/tch/Cargo.toml");
        assert!(shim.contains(&format!("package = \"tch\", version = \"{}\"", super::TCH)));
    }
}
