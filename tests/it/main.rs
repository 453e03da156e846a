//! Tests that run the crate from outside: whole commands, files on disk, services.

mod models;
mod score;
