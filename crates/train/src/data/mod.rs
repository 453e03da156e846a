//! Files: labelled tweets, word lists, word embeddings; and which rows serve which purpose.
//!
//! `packed.rs` unpacks, `encoding.rs` decodes, `records.rs` cuts bytes into rows, `fields.rs` cuts a row into
//! columns. `layouts.rs` finds the layout of a labelled file, `labels.rs` interprets its
//! labels, `reader.rs` reads it row by row, `dataset.rs` reads it whole. `tweet_file.rs` reads
//! tweets with a time, for backtest and replay.
//!
//! There are two row types: [`Row`] is validated and has a label, which training needs;
//! [`TweetRow`] has unparsed text, because replay forwards JSON lines unchanged and backtest applies
//! the checks of the stream.
//!
//! `split.rs` draws the training, validation and held-out sets, `near.rs` leaves out of the first what is
//! near to the others; `selection.rs` reconstructs the
//! held-out set of a trained model. `profile` describes a file.
//!
//! **Invariant.** Nothing here knows a network, a training or a report. Deliberately absent:
//! cleaning of texts; `monitor_core::text` does that, in training and in the daemon alike.

mod columns;
mod dataset;
pub mod embeddings;
mod encoding;
mod fields;
mod labels;
mod layouts;
mod near;
pub mod packed;
mod profile;
mod read_report;
mod reader;
mod records;
mod selection;
mod split;
mod tweet_file;
mod word_lists;

use std::path::Path;

pub use dataset::{
    Dataset, HELD_OUT, Row, RowSet, read, read_all, read_excluding, read_with_columns, rows_sha256,
};
pub use embeddings::{EmbeddingError, EmbeddingFault};
pub use fields::Fields;
pub use layouts::{Fault, Layout};
pub use profile::{Place, Profile, Quantiles, picture, profile};
pub use read_report::{DatasetError, Faulty, ReadReport};
pub use records::{ROW_BYTES_MAX, Records, RowEnd};
pub use selection::{Part, Selection, SelectionError, select};
pub use split::{Split, SplitBy, split};
pub use tweet_file::{RowCounts, TweetColumns, TweetFile, TweetFileError, TweetRow};
pub use word_lists::{WordListError, find as find_word_lists};

pub(crate) use dataset::has_labels;
pub(crate) use near::NearRows;
pub(crate) use selection::select_to_fit;
pub(crate) use split::{halves, split_with_further_rows};

use dataset::text_hash;
use reader::LabelledReader;

/// The last part of a path, as manifests name files.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
