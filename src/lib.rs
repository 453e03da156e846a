//! A streaming bad-buzz monitor.
//!
//! A tweet enters from Kafka and leaves as one row and one count in Postgres, exactly
//! once; when a brand's share of negative tweets rises beyond what chance explains,
//! people are notified by email and webhook, with the reasons.
//!
//! Two laws hold everywhere:
//!
//! 1. **Postgres is the ground state; memory is derived.** Scores, minute counts and
//!    Kafka offsets are written in one transaction.
//! 2. **Decisions are pure functions of (state, input, now)**; async code only carries
//!    them out.
//!
//! This package joins the crates below `crates/`; `ARCHITECTURE.md` has the map.

pub mod backtest;
pub mod cli;
#[cfg(feature = "embedded")]
pub mod demo;
pub mod pipeline;
pub mod replay;
pub mod settings;
