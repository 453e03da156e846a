//! Tests against real services; one binary, so that they share one Postgres.

mod embedded;
mod support;
