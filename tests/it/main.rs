//! Tests over real sockets and real stores, in one binary, so that they link once.

mod compose;
mod config;
mod embedded;
mod notify;
mod pipeline;
mod serve;
mod store_contract;
mod support;
