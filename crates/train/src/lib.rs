//! From labelled tweets to a registered model, and how well it does.
//!
//! The rooms, from the bottom up; a room imports only those above it in this list:
//! - `progress`, `provenance`: progress lines, and library versions for manifests;
//! - [`data`]: files of tweets, labels, splits, word lists, word embeddings;
//! - [`fit`]: learns the parameters of a model from rows;
//! - [`report`]: figures, comparisons, pictures, model cards;
//! - [`train`](train()) and [`cascade`](cascade()): fit a model, measure it, register it;
//!   [`tune`](tune()): search for hyperparameters on validation rows.
//!
//! [`hub`] fetches pretrained models and [`provider`] asks a sentiment service; neither
//! imports a room.
//!
//! **Invariant.** The same file, seed, machine and number of threads give the same
//! figures. With the split by user, no author is in two sets, and no text of the test file, or
//! nearly one, is in the training set. Hyperparameters are chosen on validation rows, never on
//! held-out or test rows.

mod calibration;
mod cascade;
pub mod data;
pub mod fit;
pub mod hub;
mod progress;
mod provenance;
pub mod provider;
pub mod report;
mod train;
mod tune;

pub use calibration::TooFewToCalibrate;
pub use cascade::{CascadeRequest, cascade};
pub use fit::TrainingRequest;
pub use progress::training_time;
pub use train::{Registered, TrainingError, TrainingRows, train};
pub use tune::{Search, tune};
