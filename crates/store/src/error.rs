//! Errors of a store.

use monitor_core::domain::{Minute, Offset, Switches, TopicPartition};

use crate::postgres;

/// Errors of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The partition's checkpoint is not at this reader's position: another reader has
    /// moved it, or Postgres has lost its last transactions. Drop the batches in flight and claim the partition again.
    #[error("{partition}: this reader stood at {held:?}, the stored checkpoint is {stored:?}")]
    Fenced {
        /// The partition.
        partition: TopicPartition,
        /// The reader's position.
        held: Offset,
        /// The checkpoint; `None` if there is none.
        stored: Option<Offset>,
    },
    /// Another daemon has evaluated this brand meanwhile; read the state again.
    #[error("brand {brand:?} has been evaluated by another daemon in the meantime")]
    Overtaken {
        /// The brand.
        brand: String,
    },
    /// The batch has tweets that a model of before has scored: the stream's model was switched.
    /// Drop the batches in flight, claim their partitions again, and obey the switches.
    #[error("{model} no longer scores the minute {}: the stream's model was switched", .minute.start())]
    Switched {
        /// The model that scored a tweet.
        model: String,
        /// The tweet's minute.
        minute: Minute,
        /// The switches now.
        switches: Switches,
    },
    /// The first connection to Postgres failed.
    #[error("cannot connect to Postgres at {place} (store.url): {source}")]
    Connect {
        /// Host, port and database.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// There is a connection pooler between us and Postgres.
    #[error(
        "store.url leads to a connection pooler at {place}, which drops the settings of a session: \
         give the address of Postgres itself; leader election needs a session of its own, and \
         monitor keeps few connections (store.connections_max)"
    )]
    Pooler {
        /// Host, port and database.
        place: String,
    },
    /// Postgres cannot be reached or is not ready; the same call may succeed later.
    #[error("Postgres is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Postgres refused the statement; the same call would fail again.
    #[error("Postgres refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// An export could not be written.
    #[error("cannot write the export: {0}")]
    Write(#[source] std::io::Error),
    /// The schema could not be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Connect { source, .. } => postgres::is_transient(source),
            Self::Migrate(
                sqlx::migrate::MigrateError::Execute(error)
                | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
            ) => postgres::is_transient(error),
            _ => false,
        }
    }

    /// Whether Postgres cancelled a statement that took longer than `store.statement_timeout_ms`, so
    /// that fewer rows may succeed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(error) if postgres::is_timeout(error))
    }

    /// Whether the content of a row caused the error, so that other rows may succeed.
    pub fn is_about_the_rows(&self) -> bool {
        matches!(self, Self::Refused(error) if postgres::is_about_the_rows(error))
    }
}
