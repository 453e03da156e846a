//! In-memory twin.

/// To come.
#[derive(Debug, Default)]
pub struct MemoryStore;
