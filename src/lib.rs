//! Monitors brands in a stream of tweets.
//!
//! The daemon reads tweets from Kafka and stores one row and one count per tweet in Postgres,
//! exactly once. When a brand's share of negative tweets rises more than chance can explain, it
//! notifies people by email and webhook, with the reasons.
//!
//! Two rules apply everywhere:
//!
//! 1. **Postgres has the authoritative state; memory is derived from it.** Scores, minute
//!    counts and Kafka offsets are written in one transaction.
//! 2. **Decisions are pure functions of (state, input, now)**; async code only executes them.
//!
//! This package connects the crates below `crates/`; `ARCHITECTURE.md` has the map.

pub mod backtest;
pub mod cli;
#[cfg(feature = "embedded")]
pub mod demo;
pub mod digest;
pub mod drift;
pub mod parquet;
pub mod pipeline;
pub mod promotion;
pub mod replay;
pub mod retraining;
pub mod settings;
pub mod tweets;
