//! A commercial sentiment service, for comparison with our own models.
//!
//! [`Azure`] asks the Text Analytics service (`azure.rs`); `answer.rs` parses and
//! checks its answers; `retry.rs` decides when to retry.
//!
//! **Invariant.** No more text records are sent than allowed, retries included. The key is
//! never shown: not in errors, not in `Debug`, and it is removed from answers that contain it.
//! An answer that does not have the documented form is an error.
//! Deliberately absent: a trait for several services, because there is only one; concurrent
//! requests, because the free tier allows 300 per minute.

mod answer;
mod azure;
mod retry;

pub use answer::{Batch, Confidence, InvalidConfidence, Reply, Sentiment};
pub use azure::{Azure, BATCH_DOCUMENTS_MAX, Limits, ProviderError, Usage, text_records};
pub use retry::{Next, Retry};
