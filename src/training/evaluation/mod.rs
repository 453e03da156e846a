//! How well a model does: figures, where they come from, and how sure they are.
//!
//! **Invariant.** Pure functions of labels and scores; the class of interest is
//! "negative". Deliberately absent: models and files.

mod calibration;
#[cfg(test)]
mod fixture;
mod intervals;
mod metrics;
mod report;

pub use calibration::Calibration;
pub use intervals::Interval;
pub use metrics::{Confusion, Metrics};
pub use report::{ClassReport, ClassificationReport, Figures};
