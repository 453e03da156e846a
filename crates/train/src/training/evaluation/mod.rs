//! How well a model does: figures, where they come from, and how sure they are.
//!
//! [`select`] says which rows of a file may be measured on, [`score`] lets a model score
//! them, [`Metrics`], [`ClassificationReport`] and [`slices`] compare scores with labels;
//! [`Evaluation`] is all of it for one model, [`Comparison`] the table of several.
//!
//! **Invariant.** Pure functions of labels and scores, but for `running.rs`; the class of
//! interest is "negative". Deliberately absent: reading files, and training.

mod cascaded;
mod comparison;
#[cfg(test)]
mod fixture;
mod intervals;
mod metrics;
mod pictures;
mod reliability;
mod report;
mod running;
mod selection;
mod slices;
mod summary;

pub use cascaded::{Cascaded, Found};
pub use comparison::{Compared, Comparison, Published};
pub use intervals::Interval;
pub use metrics::{Confusion, Metrics};
pub use pictures::{comparison_svg, evaluation_svg};
pub use reliability::Reliability;
pub use report::{ClassReport, ClassificationReport, Figures};
pub use running::{Scored, Speed, score, speeds};
pub(super) use selection::select_to_fit;
pub use selection::{Part, Selection, SelectionError, select};
pub use slices::{Slice, slices};
pub use summary::{Evaluation, Measured, pairs};
