//! Tests that run the crate from outside, over real sockets, stores and files; in one
//! binary, so that they link once.

#![allow(clippy::unwrap_used)]

mod azure;
mod backtest;
mod bad_input;
mod cascade;
mod compose;
mod config;
mod daemon;
mod data;
mod docs;
mod embedded;
mod evaluate;
mod evaluator;
mod fixture;
mod hub;
mod incidents;
mod logistic;
mod mail;
mod models;
mod models_cli;
mod nab;
mod notify;
mod pipeline;
mod reload;
mod score;
mod serve;
mod store_contract;
mod support;
mod takeover;
mod transformer;
mod word_lists;
