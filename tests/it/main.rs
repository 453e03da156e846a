//! Tests that use the crates from outside, with real sockets, stores and files. They are one
//! binary, so that it is linked once.

#![allow(clippy::unwrap_used)]

mod azure;
mod backtest;
mod bad_input;
mod cascade;
mod clients;
mod command_line;
mod compose;
mod config;
mod daemon;
mod data;
mod docs;
mod doctor;
mod embedded;
mod encodings;
mod evaluate;
mod evaluator;
mod explain;
mod fixture;
mod hub;
mod incidents;
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
mod predict;
mod promotion;
mod reload;
mod score;
mod serve;
mod store_contract;
mod support;
mod takeover;
mod three_classes;
mod transformer;
mod tune;
mod word_lists;
