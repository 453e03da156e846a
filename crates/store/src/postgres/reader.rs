//! The role that may read the views and some tables, and no more.

use super::PostgresStore;
use crate::StoreError;

/// What a reader may read: the views, which read their tables with the rights of their owner, and
/// tables without a tweet's text or id.
const READABLE: &str = "incidents, share_incidents, incident_phases, model_counts, brand_tweets, \
    top_negative, share_per_minute, share_per_hour, share_per_day, share_of_voice, \
    volume_by_model, languages, authors, incident_tweets, drivers, themes, notifications, suppressed, \
    dead_letters_by_reason, lag, minute_counts, incident_events, models, model_switches, \
    rescored_counts, retrainings, drift_days";

pub(super) async fn grant(store: &PostgresStore, role: &str) -> Result<bool, StoreError> {
    let mut tx = store.pool.begin().await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *tx)
        .await?;
    let (schema, name): (String, String) =
        sqlx::query_as("SELECT quote_ident(current_schema()), quote_ident($1)")
            .bind(role)
            .fetch_one(&mut *tx)
            .await?;
    let mut statements = vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {name}"),
        format!("GRANT SELECT ON {READABLE} TO {name}"),
    ];
    if !known {
        // Compiling a query over many weeks takes longer than running it.
        let create =
            [format!("CREATE ROLE {name} LOGIN"), format!("ALTER ROLE {name} SET jit = off")];
        statements.splice(0..0, create);
    }
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(!known)
}
