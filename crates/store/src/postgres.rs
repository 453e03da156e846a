//! [`Store`] on Postgres.
//!
//! **Invariant.** Every method is one transaction. Rows are written in key order, so two
//! daemons that write the same tweets wait for each other instead of deadlocking.
//! Deliberately absent: retries. [`StoreError::Unavailable`] tells the caller that the
//! same call may succeed later.

mod authors;
mod copy;
mod counts;
mod decide;
mod digest;
mod drift;
mod errors;
mod export;
mod incidents;
mod insert;
mod labels;
mod lead;
mod letters;
mod links;
mod migrations;
mod missed;
mod outbox;
mod partitions;
mod prune;
mod reader;
mod retrainings;
mod scores;
mod search;
mod switches;
mod tally;
mod upgrade;
mod url;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::sync::Mutex;

use super::{
    Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example, OutboxRow,
    OutboxState, PartitionProgress, Silence, Store, StoreError, StoredTweet, Totals,
};
use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Resume,
    StartAt, TopicPartition, Watch,
};
use monitor_core::table::Table;

pub use authors::author_name;
pub(super) use errors::{is_about_the_rows, is_timeout, is_transient};
pub use export::Rows;
pub use letters::{LetterFilter, StoredLetter};
pub use migrations::schema_version;
pub use prune::{Keep, Pruned};
pub use url::postgres_url_problem;

/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// [`Store`] on Postgres 14 or newer.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    place: String,
    statement_timeout_ms: u64,
    /// This host's clock, which may differ from Postgres'.
    clock: Arc<dyn Clock>,
    /// The connection that holds, or asks for, the lead; not from the pool.
    lead: Arc<Mutex<Option<PgConnection>>>,
    /// The weeks of `scores` that have a table.
    partitions: Arc<partitions::Partitions>,
    /// Dead letters kept in a minute; of those beyond, one in [`scores::LETTER_SAMPLE`].
    dead_letters_per_minute_max: u32,
    /// How authors are stored.
    authors: Arc<authors::Authors>,
    /// Authors that are not counted, as they are stored.
    ignored_authors: Arc<HashSet<String>>,
    /// Authors whose names say that they are left out.
    ignored_names: Arc<[String]>,
}

impl PostgresStore {
    /// Prepares a pool; connects when first used.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the URL cannot be parsed.
    pub fn connect(settings: &config::Store) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url::parse(&settings.url).map_err(StoreError::Refused)?;
        let timeout = settings.statement_timeout_ms.to_string();
        let options = options.application_name("monitor").options([
            ("statement_timeout", timeout.as_str()),
            ("timezone", "UTC"),
            // Compiling a query over many weeks takes longer than running it.
            ("jit", "off"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A connection whose query was cancelled may never answer again, or answer one query late: a cancelled
            // COPY leaves an answer unread, which a ping would take for its own.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let asked = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(connection);
                    match tokio::time::timeout(ACQUIRE_TIMEOUT, asked).await {
                        Ok(answer) => answer.map(|one| one == 1),
                        Err(_) => Err(sqlx::Error::PoolTimedOut),
                    }
                })
            })
            .connect_lazy_with(options);
        let clock = Arc::new(SystemClock::new());
        Ok(Self {
            pool,
            place: Self::place(settings),
            statement_timeout_ms: settings.statement_timeout_ms,
            clock,
            lead: Arc::default(),
            partitions: Arc::default(),
            dead_letters_per_minute_max: settings.dead_letters_per_minute_max,
            authors: Arc::new(authors::Authors::new(settings.authors)),
            ignored_authors: Arc::default(),
            ignored_names: Arc::default(),
        })
    }

    /// Leaves out the authors of these names, or stored under one of them, `#` and a hash: what gives the reasons of an
    /// alert has none of their tweets. Counts nothing of the latter; the former are not counted before
    /// ([`Counting`](monitor_core::alerting::Counting)).
    pub fn ignoring(self, names: &[String]) -> Self {
        let names = names.iter().map(|name| name.trim().trim_start_matches('@').to_owned());
        let (names, hashes): (Vec<_>, Vec<_>) = names.partition(|it| author_name(it).is_some());
        Self {
            ignored_authors: Arc::new(hashes.iter().map(|it| it.to_lowercase()).collect()),
            ignored_names: names.into(),
            ..self
        }
    }

    /// The same store on a host with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Host, port and database that the settings name, without user or password.
    pub fn place(settings: &config::Store) -> String {
        url::parse(&settings.url).map_or_else(
            |_| "(no valid URL)".into(),
            |options| {
                let database = options.get_database().unwrap_or("(default)");
                format!("{}:{}/{database}", options.get_host(), options.get_port())
            },
        )
    }

    /// Brings the schema up to date, and logs the steps that take long.
    ///
    /// # Errors
    /// As [`PostgresStore::migrate_telling`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_telling(&|line| tracing::info!("{line}")).await
    }

    /// Brings the schema up to date; `tell` gets a line on each step that may take long. What a call that fails
    /// has done stays, and the next one goes on from there.
    ///
    /// # Errors
    /// [`StoreError::Connect`] if Postgres cannot be reached, [`StoreError::Migrate`] if a
    /// migration fails, [`StoreError::Unavailable`] if Postgres went away meanwhile or somebody held a lock for
    /// too long.
    pub async fn migrate_telling(
        &self,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), StoreError> {
        self.reach().await?;
        boxed(migrations::run(self, SystemClock::new().now(), tell)).await
    }

    /// Makes the tables of the coming weeks, and removes what is older than `keep` allows; see [`Keep`]. `tell`
    /// gets a line on each step. With `dry_run`, only counts.
    ///
    /// # Errors
    /// [`StoreError`]; what was removed before stays removed, and the next call goes on.
    pub async fn prune(
        &self,
        keep: &Keep,
        now: DateTime<Utc>,
        dry_run: bool,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Pruned, StoreError> {
        boxed(prune::prune(self, keep, now, dry_run, tell)).await
    }

    /// Lets a role read the views and some tables of counts, incidents and models, and no more; creates it if there is none.
    /// Returns whether it is new.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the user of this store may not create or grant.
    pub async fn grant_reader(&self, role: &str) -> Result<bool, StoreError> {
        reader::grant(self, role).await
    }

    /// Deletes the tweets of an author, whether stored in plain or hashed, and their texts in notifications; the counts
    /// stay. Returns how many tweets.
    ///
    /// # Errors
    /// [`StoreError`]; what was deleted before stays deleted, and the next call goes on.
    pub async fn forget_author(&self, author: &str) -> Result<u64, StoreError> {
        authors::forget(self, author).await
    }

    /// Writes rows as CSV with a header to `out`, by their time; returns how many bytes.
    ///
    /// # Errors
    /// [`StoreError`], also if `out` cannot be written.
    pub async fn export(
        &self,
        rows: &Rows,
        out: &mut (dyn std::io::Write + Send),
    ) -> Result<u64, StoreError> {
        export::csv(self, rows, out).await
    }

    /// Passes rows on to `out`, by their time; returns how many.
    ///
    /// # Errors
    /// [`StoreError`], also if `out` cannot be written.
    pub async fn export_typed(
        &self,
        rows: &Rows,
        out: &mut (dyn Table + Send),
    ) -> Result<u64, StoreError> {
        export::typed(self, rows, out).await
    }

    /// A connection whose statements may take as long as they need, for work that no stream waits for.
    async fn patient(&self) -> Result<PgConnection, StoreError> {
        let options = self.pool.connect_options().as_ref().clone();
        Ok(options.options([("statement_timeout", "0")]).connect().await?)
    }

    /// Connects once. The pool reports only a timeout; a single connection reports the cause.
    ///
    /// # Errors
    /// [`StoreError::Connect`] if Postgres cannot be reached, [`StoreError::Pooler`] if there is a
    /// connection pooler in between.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let pooler = || StoreError::Pooler { place: self.place.clone() };
        let options = self.pool.connect_options();
        let connection = PgConnection::connect_with(&options);
        let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, connection).await;
        let connection = connection.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let mut connection = connection.map_err(|source| match errors::is_pooler(&source) {
            true => pooler(),
            false => StoreError::Connect { place: self.place.clone(), source },
        })?;
        let setting = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'";
        let setting = sqlx::raw_sql(setting).fetch_one(&mut connection).await?;
        if setting.try_get::<String, _>(0)? != self.statement_timeout_ms.to_string() {
            return Err(pooler());
        }
        Ok(connection.close().await?)
    }

    /// The pool, for queries of tests and tools.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// Forwards each method to the function of the same name in the module of its group.
macro_rules! on_postgres {
    ($($group:ident {
        $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for PostgresStore {
            $($(async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                $group::$method(self, $($argument),*).await
            })*)*
        }
    };
}
crate::each_store_call!(on_postgres);

/// A future of its own type: callers that spawn it need not know what it borrows.
fn boxed<'a, T>(
    future: impl Future<Output = T> + Send + 'a,
) -> std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(future)
}

fn count(row: &PgRow, column: &str) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}
