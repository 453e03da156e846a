//! Tests that run the crate from outside, over real sockets, stores and files; in one
//! binary, so that they link once.

mod bad_input;
mod compose;
mod config;
mod daemon;
mod embedded;
mod fixture;
mod models;
mod notify;
mod pipeline;
mod score;
mod serve;
mod store_contract;
mod support;
