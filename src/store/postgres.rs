//! The ground state.

/// To come.
#[derive(Debug)]
pub struct PostgresStore;
