//! Leader election by an advisory lock, which ends with its connection.

use std::io;
use std::time::Duration;

use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use super::{ACQUIRE_TIMEOUT, PostgresStore};
use crate::StoreError;

/// The key of the leader's lock. Other users of the database have no such key.
const LEAD_KEY: i64 = i64::from_be_bytes(*b"monitor!");

/// Postgres ends the leader's session, and the lead, after this time without a query: the
/// leader's host may have vanished.
const LEAD_IDLE_MAX: Duration = Duration::from_secs(60);

/// Asks for the lock on a separate connection, which keeps the lock until it ends. A session
/// may take a lock that it already holds, so asking also shows whether the connection works.
pub(super) async fn lead(store: &PostgresStore) -> Result<bool, StoreError> {
    let mut place = store.lead.lock().await;
    // Taken out during the call: a call that is cancelled or fails leaves no connection in an
    // unknown state behind.
    if let Some(known) = place.take() {
        match ask_for_lead(known).await {
            Ok((connection, leads)) => {
                *place = Some(connection);
                return Ok(leads);
            }
            Err(error) => tracing::warn!(%error, "the connection that may lead has ended"),
        }
    }
    let options = store.pool.connect_options().as_ref().clone();
    let options = options
        .application_name("monitor lead")
        .options([("idle_session_timeout", LEAD_IDLE_MAX.as_millis())]);
    let asked = async {
        let connection = options.connect().await?;
        ask_for_lead(connection).await
    };
    let (connection, leads) = in_time(asked).await?;
    *place = Some(connection);
    Ok(leads)
}

async fn ask_for_lead(mut connection: PgConnection) -> Result<(PgConnection, bool), sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LEAD_KEY);
    let leads = in_time(asked.fetch_one(&mut connection)).await?;
    Ok((connection, leads))
}

async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ACQUIRE_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}
