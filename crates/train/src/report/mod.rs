//! How well a model performs: metrics with their intervals, comparisons, pictures, model cards.
//!
//! [`score`] scores rows with a model; [`Metrics`], [`ClassificationReport`] and [`slices`]
//! compare scores with labels; [`Evaluation`] has all figures of one model, [`Comparison`] is
//! the table of several.
//!
//! **Invariant.** Pure functions of labels and scores, except `running.rs`,
//! `measure.rs` and `faithfulness.rs`;
//! the positive class is "negative sentiment". Deliberately absent: reading files, and training.

mod by_column;
mod cards;
mod cascaded;
mod classification;
mod comparison;
mod faithfulness;
mod figures;
#[cfg(test)]
mod fixture;
mod intervals;
mod learning_curve;
mod measure;
mod metrics;
mod paired;
mod pictures;
mod precision_recall;
mod reliability;
mod running;
mod share;
mod slices;
mod summary;
mod tuning;

pub use crate::fit::classes_of;
pub use by_column::{ByColumn, CorrectedErrors, OfValue, ShareErrors};
pub use cascaded::{Cascaded, Found};
pub use classification::{ClassReport, ClassificationReport, Figures};
pub use comparison::{Compared, Comparison, Published};
pub use faithfulness::{Faithfulness, Mean, faithfulness};
pub use figures::{classification, figures};
pub use learning_curve::{CurvePoint, LearningCurve};
pub use measure::measure;
pub use metrics::{Confusion, Metrics};
pub use paired::PairedRecall;
pub use pictures::{comparison_svg, evaluation_svg, learning_curve_svg, tuning_svg};
pub use precision_recall::{PrecisionRecall, PrecisionRecallPoint};
pub use reliability::Reliability;
pub use running::{Scored, Speed, score, speeds};
pub use share::{NegativeShare, rates};
pub use slices::{Slice, slices};
pub use summary::{Evaluation, Measured, pairs, predictions};
pub use tuning::{Trial, TrialRun, TrialSettings, Tuning};

pub(crate) use cards::card;
pub(crate) use measure::record;
