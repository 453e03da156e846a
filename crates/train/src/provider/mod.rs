//! Sentiment bought from others, to compare our own models with.
//!
//! [`Azure`] asks the Text Analytics service (`azure.rs`); `answer.rs` reads what it says
//! and trusts none of it; `retry.rs` says when to ask again.
//!
//! **Invariant.** Nothing goes out beyond the number of text records allowed, repeated
//! requests included. The key is shown nowhere: not in errors, not in `Debug`, and where
//! the service echoes it, it is taken out before anybody reads on. An answer that is not
//! what the documentation promises is an error, never a guess.
//! Deliberately absent: a trait over several services, while there is one; requests side
//! by side, since the free tier lets 300 a minute pass.

mod answer;
mod azure;
mod retry;

pub use answer::{Batch, Confidence, InvalidConfidence, Reply, Sentiment};
pub use azure::{Azure, BATCH_DOCUMENTS_MAX, Limits, ProviderError, Usage, text_records};
pub use retry::Retry;
