//! Tests that use the crates from outside, with real sockets, stores and files. They are one
//! binary, so that it is linked once.

#![allow(clippy::unwrap_used)]

mod azure;
mod backtest;
mod bad_input;
mod bad_records;
mod cascade;
mod compose;
mod config;
mod crisis;
mod daemon;
mod data;
mod dead_letters;
mod deploy;
mod docs;
mod drift;
mod embedded;
mod encodings;
mod evaluate;
mod evaluator;
mod explain;
mod fixture;
mod formats;
mod grafana;
mod hub;
mod incidents;
mod judge_reads;
mod labels;
mod languages;
mod learned;
mod logistic;
mod mail;
mod model_switch;
mod models;
mod models_cli;
mod nab;
mod notify;
mod pipeline;
mod promotion;
mod reload;
mod retrain;
mod score;
mod secrets;
mod serve;
mod source;
mod store_cli;
mod store_contract;
mod support;
mod takeover;
mod three_classes;
mod transformer;
mod tune;
mod word_lists;
