//! Tests over real sockets and real stores, in one binary, so that they link once.

mod compose;
mod config;
mod embedded;
mod fixture;
mod pipeline;
mod store_contract;
mod support;
