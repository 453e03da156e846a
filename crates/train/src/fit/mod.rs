//! Learns the parameters of a model from rows.
//!
//! `families.rs` has what differs between families; add a new one there. `hyperparameters.rs` has
//! the values that a training may be given. `trainer.rs` is the loop for all networks, with `adam.rs` and `checkpoint.rs`; `linear.rs` and `logistic.rs`
//! fit the logistic regressions; `teacher.rs` makes the targets of a distillation;
//! `calibrate.rs` fits temperature and threshold, `band.rs` the band of a cascade.
//!
//! **Invariant.** Nothing here reads a data file, registers a model or reports on one.

mod adam;
mod band;
mod calibrate;
mod checkpoint;
mod error;
mod families;
mod hyperparameters;
pub mod linear;
mod logistic;
mod request;
mod scores;
mod teacher;
mod trainer;
mod vectors;

pub use checkpoint::{CheckpointError, is_unfinished};
pub use error::FitError;
pub use families::{Family, LSTM_RECIPE};
pub use hyperparameters::Hyperparameters;
pub use request::TrainingRequest;
pub use scores::{Prediction, classes_of, scores};
pub use trainer::Recipe;

pub(crate) use band::{Band, CascadeRow, fit as fit_band};
pub(crate) use calibrate::{Goal, Pair, best_log_temperature, binary, three_classes, threshold};
pub(crate) use checkpoint::{Checkpoint, RUNS};
pub(crate) use families::{Trained, fit};
pub use teacher::Target;
pub(crate) use teacher::training_targets;
pub(crate) use trainer::Epoch;
