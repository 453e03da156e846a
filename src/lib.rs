//! A streaming bad-buzz monitor.
//!
//! A tweet enters from Kafka and leaves as one row and one count in Postgres, exactly
//! once; when a brand's share of negative tweets rises beyond what chance explains,
//! people hear of it by email and webhook, with the reasons.
//!
//! Two laws hold everywhere:
//!
//! 1. **Postgres is the ground state; memory is derived.** Scores, minute counts and
//!    Kafka offsets are written in one transaction.
//! 2. **Decisions are pure functions of (state, input, now)**; async code only carries
//!    them out.
//!
//! `ARCHITECTURE.md` has the map; `tests/layering.rs` holds the folders to it.

pub mod alerting;
pub mod batching;
pub mod classifier;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod hub;
pub mod ingest;
pub mod notify;
pub mod pipeline;
pub mod provider;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod training;
