//! The pipeline of the daemon: how the stages are connected, and in which order they stop.
//!
//! ```text
//! source ─events─> intake ─batches─> prepare ─> score ─> commit ─> Postgres ─> evaluator ─> outbox ─> dispatcher
//! ```
//!
//! Each arrow is a bounded FIFO channel. It carries partition changes in order with the rows, so
//! only the commit stage needs to know which positions are held.
//!
//! **Invariant.** A row is dropped only if its partition is no longer held; the next owner of the
//! partition reads it again. On shutdown the source stops first, each stage ends after the
//! stage before it, and the rows in flight are stored if Postgres is available in time.
//! Deliberately absent: SQL, Kafka calls, statistics; each has its own crate.

mod commit;
mod counted;
mod daemon;
mod digest;
mod drift;
mod error;
mod evaluator;
mod flow;
mod lanes;
mod lineup;
mod models;
mod positions;
mod recorded;
mod retrain;
mod routes;
mod scoring;
mod serving;
mod stages;
mod upkeep;

pub use daemon::{Daemon, DaemonError, brand_rules, counting};
pub use digest::Weekly;
pub use drift::DriftWatch;
pub use error::PipelineError;
pub use evaluator::{Evaluator, audience, reason};
pub use lineup::Lineup;
pub use models::{FollowSettings, ModelsError, follow, open_models};
pub use positions::StoredPositions;
pub use recorded::stored_model;
pub use retrain::{RETRAINING_BUSY, RETRAINING_FOLDER, RetrainCommand, Retrainer};
pub use routes::{brand_policy, buzz_policy, policy, routes, volume_policies};
pub use scoring::{LineupScorer, inference_limits};
pub use serving::access;
pub use stages::{Pipeline, Settings};
