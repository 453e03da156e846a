//! The pure part of the monitor: data, arithmetic and decisions.
//!
//! **Invariant.** Nothing here reads a file, a socket or, outside [`clock`], the time, and
//! no dependency is a native library: `cargo test -p monitor-core` needs no set-up.
//! Decisions are functions of (state, input, now).

pub mod alerting;
pub mod backoff;
pub mod batching;
pub mod clock;
pub mod digest;
pub mod domain;
pub mod drift;
pub mod field_names;
pub mod format;
pub mod hash;
mod keywords;
pub mod links;
pub mod logit;
pub mod notification;
pub mod quantify;
mod secret;
pub mod stats;
pub mod table;
pub mod text;
pub mod words;

pub use secret::Secret;
