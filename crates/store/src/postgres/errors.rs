//! Classifies the errors of Postgres.

use crate::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

/// Whether the same statement may succeed later.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => {
            e.code().is_some_and(|code| TRANSIENT.iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

/// SQLSTATE classes of transient errors: 08 connection, 40 deadlock and serialisation, 53
/// resources (disk, memory, connections), 57 operator intervention (shutdown, start-up,
/// timeout), 58 system errors such as I/O; 25006, a server that is read-only after a
/// failover; and 55P03, a lock that somebody else holds.
const TRANSIENT: [&str; 7] = ["08", "25006", "40", "53", "55P03", "57", "58"];

/// Whether a connection pooler such as PgBouncer refused to connect: it knows few of the parameters
/// that begin a session.
pub fn is_pooler(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.message().contains("unsupported startup parameter"))
}

/// Whether a statement was cancelled, by its timeout or by a person: SQLSTATE 57014.
pub fn is_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "57014")
}

/// Whether a value caused the error: SQLSTATE classes 22 data, 23 constraints, 54 limits.
pub fn is_about_the_rows(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|e| e.code())
        .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}
