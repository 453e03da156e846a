//! Where the stages meet, and the order in which they stop.
//!
//! ```text
//! source ─events─> intake ─batches─> prepare ─> score ─> commit ─> Postgres ─> judge ─> outbox ─> dispatcher
//! ```
//!
//! Each arrow is a bounded channel, first in, first out, and carries partition changes in
//! line with the rows, so the commit stage alone knows which positions are held.
//!
//! **Invariant.** A row is dropped only where its partition is no longer held, and then
//! its next owner reads it again. To stop, the source stops first, each stage ends when
//! the one before it has, and what is in flight is stored if Postgres answers in time.
//! Deliberately absent: SQL, Kafka calls, statistics; each has its own folder.

mod commit;
mod daemon;
mod evaluator;
mod models;
mod positions;
mod routes;
mod stages;

pub use commit::CommitError;
pub use daemon::{Daemon, DaemonError, brand_rules};
pub use evaluator::{Evaluator, audience, reason};
pub use models::follow;
pub use positions::StoredPositions;
pub use routes::{policy, routes, surge_policy, thresholds};
pub use stages::{Pipeline, Settings};
