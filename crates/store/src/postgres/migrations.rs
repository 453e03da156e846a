//! The schema's migrations, compiled into the binary.
//!
//! **Invariant.** Each file of `migrations/` is listed here, with the version, description and
//! checksum that `sqlx::migrate!` would give it, so databases of earlier releases stay valid.
//! They run on a connection of their own: a statement may take as long as it needs, but waits for a lock for
//! [`LOCK_WAIT`] at most, so that a forgotten transaction of somebody does not stop all others behind it.
//! Deliberately absent: that macro. It would compile tokio, rustls and sqlx a second time, for
//! the compiler itself.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, PgConnection, SqlSafeStr};

use super::{PostgresStore, partitions, upgrade};
use crate::StoreError;

/// Says to people what is being done.
pub(super) type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Longest wait for a lock; the error after it is transient.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// The key of the lock of the process that migrates.
const MIGRATE_KEY: i64 = i64::from_be_bytes(*b"migrate!");
/// Time between two questions for that lock. Waiting for it inside Postgres would hold a snapshot, which
/// a concurrent index build waits for in turn.
const TURN_POLL: Duration = Duration::from_millis(500);
/// The migration behind which the steps of [`upgrade`] come.
const BEFORE_PARTITIONS: i64 = 11;

/// Version, description and text of each file, such as `0001_first.sql`.
const FILES: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../../../migrations/0001_first.sql")),
    (2, "incidents", include_str!("../../../../migrations/0002_incidents.sql")),
    (3, "truncated", include_str!("../../../../migrations/0003_truncated.sql")),
    (4, "suppressed", include_str!("../../../../migrations/0004_suppressed.sql")),
    (5, "neutral", include_str!("../../../../migrations/0005_neutral.sql")),
    (6, "language", include_str!("../../../../migrations/0006_language.sql")),
    (7, "counts by model", include_str!("../../../../migrations/0007_counts_by_model.sql")),
    (8, "labels", include_str!("../../../../migrations/0008_labels.sql")),
    (9, "phases", include_str!("../../../../migrations/0009_phases.sql")),
    (10, "retrainings", include_str!("../../../../migrations/0010_retrainings.sql")),
    (11, "counts by hour", include_str!("../../../../migrations/0011_counts_by_hour.sql")),
    (12, "partitions", include_str!("../../../../migrations/0012_partitions.sql")),
    (13, "reader tables", include_str!("../../../../migrations/0013_reader_tables.sql")),
    (14, "used links", include_str!("../../../../migrations/0014_used_links.sql")),
    (15, "echoes", include_str!("../../../../migrations/0015_echoes.sql")),
    (
        16,
        "dead letters of recreated topics",
        include_str!("../../../../migrations/0016_dead_letters_of_recreated_topics.sql"),
    ),
    (17, "missed", include_str!("../../../../migrations/0017_missed.sql")),
    (18, "drift days", include_str!("../../../../migrations/0018_drift_days.sql")),
    (19, "themes", include_str!("../../../../migrations/0019_themes.sql")),
];

/// Brings the schema up to date, one process at a time.
pub(super) async fn run(
    store: &PostgresStore,
    now: DateTime<Utc>,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let options = store.pool.connect_options().as_ref().clone();
    let options = options.application_name("monitor migrate").options([
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", LOCK_WAIT.as_millis().to_string()),
    ]);
    let mut connection = options.connect().await?;
    take_turn(&mut connection, tell).await?;
    migrator().run_direct(Some(BEFORE_PARTITIONS), &mut connection, false).await?;
    let is_partitioned: bool =
        sqlx::query_scalar("SELECT relkind = 'p' FROM pg_class WHERE oid = 'scores'::regclass")
            .fetch_one(&mut connection)
            .await?;
    if !is_partitioned {
        upgrade::prepare(&store.pool, &mut connection, tell).await?;
    }
    migrator().run_direct(None, &mut connection, false).await?;
    if !is_partitioned {
        // The planner needs it for the new indexes.
        sqlx::raw_sql("ANALYZE scores").execute(&mut connection).await?;
    }
    connection.close().await?;
    partitions::make_ahead(store, now).await
}

/// Waits until no other process migrates. The lock ends with the connection.
async fn take_turn(connection: &mut PgConnection, tell: Tell<'_>) -> Result<(), StoreError> {
    let mut told = false;
    loop {
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(MIGRATE_KEY)
            .fetch_one(&mut *connection)
            .await?;
        if free {
            return Ok(());
        }
        if !std::mem::replace(&mut told, true) {
            tell("another process brings the schema up to date; waiting for it");
        }
        tokio::time::sleep(TURN_POLL).await;
    }
}

/// The version of the schema that this program needs: that of its last migration.
pub fn schema_version() -> i64 {
    FILES.iter().map(|file| file.0).max().unwrap_or_default()
}

/// All migrations, oldest first.
pub(super) fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, description.into(), kind, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(FILES.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// [`Migrator::new`] reads a folder with the code that `sqlx::migrate!` uses.
    #[tokio::test]
    async fn lists_every_file_as_sqlx_reads_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let expected = Migrator::new(folder.as_path()).await.expect("the folder can be read");
        let fields = |migrator: &Migrator| -> Vec<_> {
            let fields = |m: &Migration| {
                let sql = m.sql.as_str().to_owned();
                (
                    m.version,
                    m.description.clone(),
                    m.migration_type,
                    sql,
                    m.checksum.clone(),
                    m.no_tx,
                )
            };
            migrator.iter().map(fields).collect()
        };
        assert_eq!(fields(&migrator()), fields(&expected));
    }

    #[test]
    fn released_migrations_keep_their_checksums() {
        let released = [
            "3aaefb64fd0bf2947ba9e3f71f04867f800e0c62f25ebab0",
            "7fc60135d0e226347faa640f5d7f136cf422909ef2937aa7",
            "bd5e7a965d2ae0802717c6b8ea77001adbb3cae39b180dad",
            "6383ba68cdbf9427da98016c66eff87fc3a11b306b6265d2",
        ];
        for (migration, checksum) in migrator().iter().zip(released) {
            let found: String = migration.checksum.iter().map(|b| format!("{b:02x}")).collect();
            assert!(found.starts_with(checksum), "{}: {found}", migration.version);
        }
    }
}
